"""What a person sees of a fetch, on a terminal and in a log."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from policy_search.cells import fetch_progress
from policy_search.cells.fetch_progress import FetchProgress
from policy_search.cells.fetch_watch import readable


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (123_456, "123 kB"), (5_400_000, "5.4 MB"), (1.3e9, "1.3 GB")],
)
def test_sizes_for_people(size, text):
    assert readable(size) == text


def test_lines_where_there_is_no_terminal(monkeypatch):
    """Ten pieces of 1 MB, one every 4 s: a line at the start, after 10 s or more, and at the end."""
    clock = [0.0]
    monkeypatch.setattr(fetch_progress.time, "monotonic", lambda: clock[0])
    out = io.StringIO()
    with FetchProgress(Console(file=out, width=200)) as watch:
        watch.stage("images, 10 files", 12_000_000, 2_000_000)
        for _ in range(10):
            clock[0] += 4
            watch.advance(1_000_000)
        watch.note("[a sentence]")
    assert out.getvalue().splitlines() == [
        "images, 10 files: 12.0 MB, 2.0 MB from before",
        "images, 10 files: 5.0 MB of 12.0 MB, 250 kB/s, 28 s left",
        "images, 10 files: 8.0 MB of 12.0 MB, 250 kB/s, 16 s left",
        "images, 10 files: 11.0 MB of 12.0 MB, 250 kB/s, 4 s left",
        "images, 10 files: 12.0 MB of 12.0 MB, 250 kB/s, 0 s left",
        "[a sentence]",
    ]


def test_a_bar_on_a_terminal():
    out = io.StringIO()
    with FetchProgress(Console(file=out, width=120, force_terminal=True, color_system=None)) as watch:
        watch.stage("images, 10 files", 12_000_000)
        watch.advance(12_000_000)
    assert "12.0/12.0 MB" in out.getvalue()
    assert "0:00:00" in out.getvalue()

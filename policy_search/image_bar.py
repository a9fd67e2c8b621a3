"""The progress bar of commands that go through images: on a terminal only, on standard error, and gone once done."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


def image_bar() -> Progress:
    """To be used as a context manager; without a terminal it shows nothing."""
    terminal = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"),
        TimeRemainingColumn(), console=terminal, disable=not terminal.is_terminal, transient=True,
    )  # fmt: skip

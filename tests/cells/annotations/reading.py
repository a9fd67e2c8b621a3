"""What tests of copies share: reading as a fresh process does, and what has to come out."""

from __future__ import annotations

import time

from policy_search.cells import coco
from policy_search.cells.annotations import folder, stamps
from policy_search.cells.coco import read_coco
from tests.cells.annotations.odd import by_json, text


def forget(monkeypatch):
    """As in a fresh process."""
    monkeypatch.setattr(stamps, "_memory", {})
    monkeypatch.setattr(folder, "_warned", set())
    coco._READ_BEFORE.clear()


def copies():
    return sorted(folder.cache_folder().glob("[!.]*.pack"))


def seen(path):
    """All that a file gives."""
    found = read_coco(path)
    return text(found.images), [(i, text(found.annotations[i])) for i in found.annotations]


def expected(path):
    images, annotations = by_json(path)
    return text(images), [(i, text(entries)) for i, entries in annotations.items()]


def rested(monkeypatch):
    """Ten seconds from now: what lies there has rested."""
    monkeypatch.setattr(stamps, "clock", lambda: time.time_ns() + 10**10)

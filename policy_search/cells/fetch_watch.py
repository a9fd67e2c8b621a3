"""What a fetch tells who watches it."""

from __future__ import annotations

from typing import Protocol


class Watch(Protocol):
    """Told of a fetch as it goes."""

    def stage(self, title: str, total: int, done: int = 0) -> None:
        """A new stage begins: `total` bytes, of which `done` are there from before."""

    def advance(self, count: int) -> None:
        """So many more bytes of the stage have come."""

    def note(self, text: str) -> None:
        """A sentence for the user."""


class Unwatched:
    """Tells nobody."""

    def stage(self, title: str, total: int, done: int = 0) -> None:
        """See `Watch`."""

    def advance(self, count: int) -> None:
        """See `Watch`."""

    def note(self, text: str) -> None:
        """See `Watch`."""


def readable(size: float) -> str:
    """A number of bytes for people: 512 B, 3.4 MB."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"

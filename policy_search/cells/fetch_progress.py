"""A fetch on a terminal: a bar with bytes, rate and time left; elsewhere a line now and then."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from policy_search.cells.fetch_watch import readable

LINE_EVERY = 10.0  # seconds between two lines where there is no terminal


class FetchProgress:
    """A `Watch` on standard error, as a context.

    Args:
        console: to write to. Default: standard error.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TextColumn("left"),
            TimeRemainingColumn(), console=self._console, disable=not self._console.is_terminal,
        )  # fmt: skip
        self._task: TaskID | None = None
        self._title, self._total, self._done, self._from = "", 0, 0, 0
        self._begun = self._shown = time.monotonic()

    def __enter__(self) -> FetchProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def stage(self, title: str, total: int, done: int = 0) -> None:
        """See `Watch`."""
        self._title, self._total, self._done, self._from = title, total, done, done
        self._begun = self._shown = time.monotonic()
        self._task = self._bar.add_task(title, total=total, completed=done)
        if not self._console.is_terminal:
            self._line(f"{title}: {readable(total)}" + (f", {readable(done)} from before" if done else ""))

    def advance(self, count: int) -> None:
        """See `Watch`."""
        self._done += count
        if self._task is not None:
            self._bar.advance(self._task, count)
        moment = time.monotonic()
        if not self._console.is_terminal and (moment - self._shown >= LINE_EVERY or self._done == self._total):
            self._shown = moment
            rate = (self._done - self._from) / max(moment - self._begun, 1e-3)
            left = max(self._total - self._done, 0) / rate
            so_far = f"{readable(self._done)} of {readable(self._total)}"
            self._line(f"{self._title}: {so_far}, {readable(rate)}/s, {left:.0f} s left")

    def note(self, text: str) -> None:
        """See `Watch`."""
        self._line(text)

    def _line(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

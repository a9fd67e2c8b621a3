"""The progress of a search: a bar with distance and time left on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from policy_search.search_run import SearchEvent

LINES = 10  # off a terminal, over the whole search


class SearchBar:
    """Called with each event of a search."""

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock = console, clock
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn(),
            TextColumn("distance {task.fields[distance]}"), TimeElapsedColumn(), TextColumn("left {task.fields[left]}"),
            console=console, disable=not console.is_terminal,
        )  # fmt: skip
        self._task: TaskID | None = None
        self._begun: tuple[float, int] | None = None
        self._stepped = False

    def __enter__(self) -> SearchBar:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, event: SearchEvent) -> None:
        """Move the bar, or print the event's line."""
        if event.message:
            self._console.print(event.message, highlight=False, soft_wrap=True, markup=False)
        total = event.warmup + event.steps
        if event.report is None:
            # What comes before the first step (networks that recognise sizes) says nothing of the pace of steps.
            if not self._stepped:
                self._begun = (self._clock(), event.done)
            return
        self._stepped = True
        phase = "warm-up" if event.report.step < 0 else "search"
        left, distance = self._left(event, total), f"{event.report.distance:6.2f}"
        if self._console.is_terminal:
            if self._task is None:
                self._task = self._bar.add_task(phase, total=total, distance=distance, left=left)
            self._bar.update(self._task, completed=event.done, description=phase, distance=distance, left=left)
        elif event.done % max(1, total // LINES) == 0 or event.done == total:
            spread = f"{event.report.spread:5.2f}" if event.report.spread > 0 else "    –"
            numbers = f"distance {distance}  spread {spread}  left {left}"
            self._console.print(f"{phase:<7} {event.done:>{len(str(total))}}/{total}  {numbers}", highlight=False)

    def _left(self, event: SearchEvent, total: int) -> str:
        """Time left at the mean pace of the steps made since this process began."""
        assert self._begun is not None
        begun, before = self._begun
        seconds = round((self._clock() - begun) / max(event.done - before, 1) * (total - event.done))
        return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"

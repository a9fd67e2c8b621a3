"""The progress of a study on a terminal: a bar with time left, and one line per finished trial."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from policy_search.study.runner import Progress as Event

_TITLES = {"trial": "trials", "final": "second round"}


class StudyBar:
    """Called with each event of a study. Off a terminal only the lines are printed."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("elapsed"),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=console,
            disable=not console.is_terminal,
        )  # fmt: skip
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> StudyBar:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, event: Event) -> None:
        """Move the bar and print the event's line. A note at the start shows the bar before the first trial ends."""
        kind = "trial" if event.kind == "note" else event.kind
        if kind not in self._tasks:
            self._tasks[kind] = self._bar.add_task(_TITLES[kind], total=event.total)
        if event.kind == "note":
            self._console.print(event.message, highlight=False, soft_wrap=True)
        else:
            self._bar.update(self._tasks[kind], completed=event.done, total=event.total)
            if event.message:
                self._console.print(f"{_TITLES[kind]} {event.done}/{event.total}  {event.message}", highlight=False)

"""How far a matrix is, as plain lines for logs and files: one when a task begins and one when it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import TracebackType

from rich.console import Console

from detection.tasks import Finished, Task


class MatrixLines:
    """Context manager around one session of a matrix.

    Args:
        total: tasks of this session. names: theirs.
        clock: seconds.
    """

    def __init__(
        self, console: Console, total: int, names: Sequence[str], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console, self._total, self._clock = console, total, clock
        self._done = self._failed = 0
        self._began = clock()

    def __enter__(self) -> MatrixLines:
        self._began = self._clock()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._total:
            failed = f", {self._failed} failed" if self._failed else ""
            self._say(f"{self._done} of {self._total} done{failed} in {duration(self._clock() - self._began)}")

    def started(self, task: Task) -> None:
        """A task runs."""
        self._say(f"begin  {task.name}")

    def finished(self, task: Task, finished: Finished) -> None:
        """A task has ended: how long it took, and how long the others will at this pace."""
        if not finished.ok:
            self._failed += 1
            self._say(f"FAILED {task.name}: {finished.message.splitlines()[0] if finished.message else ''}")
            return
        self._done += 1
        ended = self._done + self._failed
        left = (self._clock() - self._began) / ended * (self._total - ended)
        again = f", {finished.attempts} attempts" if finished.attempts > 1 else ""
        rest = f", about {duration(left)} left" if ended < self._total else ""
        self._say(f"done   {task.name}: {duration(finished.seconds)}{again} ({ended} of {self._total}{rest})")

    def _say(self, line: str) -> None:
        self._console.print(line, soft_wrap=True, highlight=False, markup=False)


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 20 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"

"""How far a matrix is, on a terminal: one view with a bar, the time left, what runs where, and what failed last."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from detection.matrices.lines import duration
from detection.tasks import Finished, Task

RUNNING = 12  # tasks shown at most; a cluster may run more
FAILURES = 3  # shown, the last ones
_PER_SECOND = 2  # drawings
_PLACE = 20  # letters of a machine's name at most


class MatrixProgress:
    """Context manager around one session of a matrix.

    Args:
        total: tasks of this session. names: theirs; only those that run are shown.
        clock: seconds.
        place: host name of the machine that runs a task, where there are several.
    """

    def __init__(
        self, console: Console, total: int, names: Sequence[str], *, clock: Callable[[], float] = time.monotonic,
        place: Callable[[Task], str] = lambda task: "",
    ) -> None:  # fmt: skip
        self._console, self._total, self._clock, self._place = console, total, clock, place
        self._running: dict[Task, float] = {}  # since when
        self._seconds: list[float] = []  # of the tasks that succeeded
        self._failures: list[tuple[str, str]] = []
        self._live = Live(self, console=console, refresh_per_second=_PER_SECOND, transient=False)

    def __enter__(self) -> MatrixProgress:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._running.clear()  # they were interrupted
        self._live.stop()

    def started(self, task: Task) -> None:
        """A task runs."""
        self._running[task] = self._clock()

    def finished(self, task: Task, finished: Finished) -> None:
        """A task has ended."""
        self._running.pop(task, None)
        if finished.ok:
            self._seconds.append(finished.seconds)
        else:
            self._failures.append((task.name, (finished.message.splitlines() or [""])[0]))

    def left(self) -> float | None:
        """Seconds until all is done, at the mean time of the finished tasks and as many at a time as now; None while
        nothing tells."""
        waiting = self._total - len(self._seconds) - len(self._failures) - len(self._running)
        if waiting + len(self._running) == 0:
            return 0.0
        if not self._seconds or not self._running:
            return None
        mean, now = sum(self._seconds) / len(self._seconds), self._clock()
        rest = [max(mean - (now - since), 0.0) for since in self._running.values()]
        # The last one cannot be shared out among those that run.
        return max([(waiting * mean + sum(rest)) / len(rest), *rest])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self._bar(options.max_width)
        if self._running:
            yield self._tasks()
        for name, message in self._failures[-FAILURES:]:
            what = message.removeprefix(name).strip()
            yield Text(f"failed  {name}: {what}", "red", no_wrap=True, overflow="ellipsis")

    def _bar(self, width: int) -> Table:
        done, failed, left = len(self._seconds), len(self._failures), self.left()
        counts = Text(f"{done}/{self._total} done")
        if failed:
            counts.append(f", {failed} failed", "red")
        counts.append(f", {len(self._running)} running")
        if left:
            counts.append(f", about {duration(left)} left")
        line = Table.grid(padding=(0, 1), expand=True)
        line.add_column(ratio=1)
        line.add_column(no_wrap=True)
        line.add_row(ProgressBar(total=max(self._total, 1), completed=done + failed), counts)
        return line

    def _tasks(self) -> Table:
        rows = list(self._rows())
        table = Table.grid(padding=(0, 2, 0, 0), expand=True)
        # Names give way; how long and where stay whole.
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        for column in (1, 2):
            table.add_column(no_wrap=True, justify="right", width=min(max(len(row[column]) for row in rows), _PLACE))
        for row in rows:
            table.add_row(*(Text(cell, no_wrap=True, overflow="ellipsis") for cell in row))
        return table

    def _rows(self) -> Iterator[tuple[str, str, str]]:
        now = self._clock()
        for task, since in list(self._running.items())[:RUNNING]:
            yield f"  {task.name}", duration(now - since), self._place(task)
        if len(self._running) > RUNNING:
            yield f"  and {len(self._running) - RUNNING} more", "", ""

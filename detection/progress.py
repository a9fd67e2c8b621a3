"""How far a training is: a bar with loss, AP50 and time left on a terminal, a line every tenth of the way elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

SMOOTHING = 0.95  # of the loss shown: single batches jump


class Bar:
    """Context manager around one training."""

    def __init__(self, title: str, console: Console) -> None:
        self._title, self._console = title, console
        self._loss: float | None = None
        self._task: TaskID | None = None
        self._ap50 = ""
        self._started = time.perf_counter()
        self._before: int | None = None  # iterations that an earlier run did
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}{task.fields[ap50]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Bar:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def say(self, sentence: str) -> None:
        """A line above the bar."""
        self._console.print(sentence, soft_wrap=True, highlight=False)

    def step(self, done: int, total: int, loss: float) -> None:
        """After each iteration."""
        self._loss = loss if self._loss is None else SMOOTHING * self._loss + (1 - SMOOTHING) * loss
        if self._before is None:
            self._before = done - 1
        if self._console.is_terminal:
            if self._task is None:
                self._task = self._bar.add_task(self._title, total=total, completed=done - 1, loss="", ap50="")
            self._bar.update(self._task, completed=done, loss=f"{self._loss:.3f}")
        elif done == total or done * 10 // total > (done - 1) * 10 // total:
            left = (time.perf_counter() - self._started) / (done - self._before) * (total - done)
            self.say(f"{self._title} {done}/{total}, loss {self._loss:.3f}{self._ap50}, {left:.0f} s left")

    def validated(self, done: int, ap50: float, best: bool) -> None:
        """After each validation: AP50 in percent stands beside the loss until the next one."""
        self._ap50 = f", AP50 {100 * ap50:.1f}"
        if self._task is not None:
            self._bar.update(self._task, ap50=self._ap50)
        self.say(f"iteration {done}: validation AP50 {100 * ap50:.1f}{', the best so far' if best else ''}")

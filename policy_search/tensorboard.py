"""A search's numbers as TensorBoard scalars. The one file that imports tensorboard, which may be missing."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from policy_search.relaxed.search import StepReport

MISSING = (
    "no TensorBoard scalars, for it is not installed (history.jsonl has the same numbers): pip install tensorboard"
)


class Board:
    """Event files in a folder. Scalars: critic/…, policy/… and strength/<group>, over the reports' steps.

    Args:
        folder: of the event files.
        reports: of the steps so far. What earlier event files there hold of later steps is void: those come again.
        first: the first step of a search.
        warn: told once if tensorboard is missing; then nothing is written.
    """

    def __init__(self, folder: Path, *, reports: Sequence[StepReport], first: int, warn: Callable[[str], None]) -> None:
        self._writer: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            warn(MISSING)
            return
        if _comes_last(folder):
            self._writer = SummaryWriter(str(folder), purge_step=first + len(reports))
            return
        self._writer = SummaryWriter(str(folder), purge_step=first)
        for report in reports:
            self.add(report)

    def __enter__(self) -> Board:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()

    def add(self, report: StepReport) -> None:
        """Add the numbers of one step; those of the policy only once it learns."""
        if self._writer is None:
            return
        scalars = {
            "critic/loss": report.critic_loss,
            "critic/distance": report.distance,
            "critic/penalty": report.penalty,
        }
        if report.step >= 0:
            scalars |= {
                "policy/loss": report.policy_loss,
                "policy/spread": report.spread,
                "policy/multiplier": report.multiplier,
            }
        scalars |= {f"strength/{group}": value for group, value in report.strengths.items()}
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, report.step)

    def flush(self) -> None:
        """Hand everything to the operating system: what is flushed survives the end of this process."""
        if self._writer is not None:
            self._writer.flush()


def _comes_last(folder: Path) -> bool:
    """Make sure that an event file begun now is read after those that are there; False if they had to be removed.

    Readers sort the files by name, which begins with the second in which they were made and goes on with the process
    number: of two files of one second the later one may be read first, and then hides what it should follow.
    """
    files = list(folder.glob("events.out.tfevents.*"))
    newest = max((int(file.name.split(".")[3]) for file in files), default=0)
    if newest > time.time():  # the clock was set back
        for file in files:
            file.unlink()
        return False
    time.sleep(max(0.0, newest + 1 - time.time()))
    return True

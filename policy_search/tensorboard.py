"""A search's numbers as TensorBoard scalars. The one file that imports tensorboard, which may be missing."""

from __future__ import annotations

from collections.abc import Callable
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
        first_step: what earlier event files there hold from this step on is void: it is written again.
        warn: told once if tensorboard is missing; then nothing is written.
    """

    def __init__(self, folder: Path, *, first_step: int, warn: Callable[[str], None]) -> None:
        self._writer: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            warn(MISSING)
            return
        self._writer = SummaryWriter(str(folder), purge_step=first_step)

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

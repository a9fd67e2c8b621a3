"""The numbers of every step of a search: history.jsonl, one line per step, never ahead of or behind the checkpoint."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType

from policy_search.cells.errors import InputError
from policy_search.cells.files import write_text
from policy_search.relaxed.search import StepReport


class History:
    """The reports so far, in memory and in the file.

    A killed process leaves lines of steps that its checkpoint does not know, the last of them perhaps cut off. They are
    taken away when the file is opened, for the steps are done again.

    Args:
        path: of the file.
        first: the first step of a search.
        done: the next step to come; the file must have all steps before it.

    Raises:
        InputError: steps are missing, or a line is damaged.
    """

    def __init__(self, path: Path, *, first: int, done: int) -> None:
        self._path = path
        self.reports = _read(path, done - first)
        if [report.step for report in self.reports] != list(range(first, done)):
            raise InputError(
                f"{path} is damaged: it should have the steps {first} to {done - 1}, one line each. "
                "Choose another --out, or delete the folder to start over."
            )
        write_text(path, "".join(map(_line, self.reports)))
        self._file = path.open("a", encoding="utf-8")

    def __enter__(self) -> History:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def append(self, report: StepReport) -> None:
        """Add a step; visible to other processes at once."""
        self.reports.append(report)
        self._file.write(_line(report))
        self._file.flush()

    def sync(self) -> None:
        """Wait until the disk has every line: call it before the checkpoint that counts on them."""
        os.fsync(self._file.fileno())


def _line(report: StepReport) -> str:
    # Not allow_nan=False: a diverged step is worth seeing, and it is taken away when the run is continued.
    return json.dumps(report._asdict()) + "\n"


def _read(path: Path, count: int) -> list[StepReport]:
    """The first `count` lines, or as many as there are."""
    if count == 0 or not path.is_file():
        return []
    reports = []
    for number, line in enumerate(path.read_bytes().splitlines()[:count], start=1):
        try:
            reports.append(StepReport(**json.loads(line)))
        except (TypeError, ValueError) as error:
            raise InputError(
                f"{path} is damaged at line {number} ({error}). Choose another --out, or delete the folder to start "
                "over."
            ) from error
    return reports

"""The record of a matrix, made from its plan and what is finished of it."""

from __future__ import annotations

import json
import resource
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from detection.local_engine import words_here
from detection.matrices.facts import training_images
from detection.matrices.file import Experiment
from detection.matrices.ledger import Ledger, step_done, times
from detection.matrices.plan import Cell, Plan
from detection.matrices.record import CellRecord, MatrixRecord, StageRecord, load_matrix, save_matrix
from policy_search.augment import load_policy
from policy_search.cells.sources import find_root


class Session(NamedTuple):
    """Of one start: the command that goes on with it, threads of each run, and whether its processes are children."""

    command: str
    threads: int
    here: bool


class Writer:
    """Writes the record after each cell.

    Args:
        folder: of the scale; the record is EXPERIMENT.json in it.
    """

    def __init__(
        self, experiment: Experiment, plan: Plan, ledger: Ledger, folder: Path, root: Path | None, session: Session
    ) -> None:
        self.path = folder / f"{plan.experiment}.json"
        self._experiment, self._plan, self._ledger = experiment, plan, ledger
        self._folder, self._root, self._session = folder, root, session
        former = load_matrix(self.path) if self.path.is_file() else None
        self._started = former.started if former else _now()
        self._finished = former.finished if former else ""
        self._cells = len(former.cells) if former else 0
        self._cpu = (former.cpu_seconds if former else 0.0) if session.here else None
        sources = [training_images(name, root) for name in dict.fromkeys(cell.source for cell in plan.cells)]
        self._sources = tuple(("demo/" if s.synthetic else "") + ",".join(s.cell_types) for s in sources)
        self._synthetic = any(source.synthetic for source in sources)
        self._data = self._name_of_data()

    def write(self) -> MatrixRecord:
        """Write what is finished by now."""
        known = self._ledger.known
        cells = [self._cell(cell) for cell in self._plan.cells if cell.task.out in known]
        results = [result for cell in self._plan.cells for result in known.get(cell.task.out, (None, []))[1]]
        if len(cells) != self._cells:
            self._cells, self._finished = len(cells), _now()
        record = MatrixRecord(
            experiment=self._plan.experiment,
            title=self._experiment.title,
            scale=self._plan.scale,
            reference=self._experiment.reference,
            rows=tuple(row.label for row in self._experiment.rows_at(self._plan.scale)),
            sources=self._sources,
            seeds=self._experiment.seeds,
            planned=len(self._plan.cells),
            cells=tuple(cells),
            stages=tuple(self._stages()),
            synthetic=self._synthetic or any(result.synthetic for result in results),
            data=self._data,
            versions={name: v for result in results for name, v in json.loads(result.versions).items()},
            threads=self._session.threads,
            started=self._started,
            finished=self._finished,
            cpu_seconds=self._cpu_seconds(),
            command=self._session.command,
        )
        save_matrix(record, self.path)
        return record

    def _cell(self, cell: Cell) -> CellRecord:
        key, results = self._ledger.known[cell.task.out]
        policy = cell.task.out / "policy.json"
        if not policy.is_file():  # the result came from another folder
            load_policy(cell.file).save(policy)
        found = times(cell.task.out)
        tasks = [*(step.task for step in cell.needs), cell.task]
        return CellRecord(
            label=cell.row.label,
            paper=cell.row.paper,
            source=key.source,
            seed=cell.seed,
            policy_hash=key.policy_hash,
            config_hash=key.config_hash,
            policy=cell.policy,
            policy_file=self._relative(policy),
            folder=self._relative(cell.task.out),
            seconds=float(found.get("seconds", results[0].seconds)),
            place=str(found.get("place", "")),
            commands=tuple(shell_line(words_here(task), self._root) for task in tasks),
        )

    def _stages(self) -> list[StageRecord]:
        stages = []
        for step in self._plan.steps:
            if step_done(step):
                found = times(step.task.out)
                stages.append(
                    StageRecord(
                        kind=step.kind,
                        name=step.task.name,
                        folder=self._relative(step.task.out),
                        seconds=float(found.get("seconds", 0.0)),
                        place=str(found.get("place", "")),
                        command=shell_line(words_here(step.task), self._root),
                    )
                )
        return stages

    def _cpu_seconds(self) -> float | None:
        """Of all starts so far. Children that still run count when they have ended."""
        if self._cpu is None:
            return None
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return round(self._cpu + used.ru_utime + used.ru_stime, 1)

    def _relative(self, path: Path) -> str:
        return str(path.relative_to(self._folder))

    def _name_of_data(self) -> str:
        names = []
        for source in dict.fromkeys(cell.source for cell in self._plan.cells):
            if source.lower().startswith("demo/"):
                names.append("demo")
            elif ".json" in source.lower():
                names.append(Path(source.split(":")[0]).stem)
            else:
                root = find_root(self._root)
                names.append(root.resolve().name if root else "livecell")
        return ", ".join(dict.fromkeys(names))


def shell_line(words: Sequence[str], root: Path | None) -> str:
    """Words as a line for a shell; the data's folder, which is elsewhere on other machines, by its variable."""
    return " ".join("$LIVECELL_ROOT" if root and word == str(root) else shlex.quote(word) for word in words)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

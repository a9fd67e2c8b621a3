"""Which cells of a matrix have their results: in the main store, or in their folder and not yet merged."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from detection.config import FinetuneConfig
from detection.local_engine import words_here
from detection.matrices.options import finetune_config
from detection.matrices.plan import RESULTS, Cell, Plan, Step
from detection.store import Result, RunKey, Store
from detection.tasks import Finished, Task
from policy_search.cells.errors import InputError
from policy_search.cells.files import write_json

TIMES = "task.json"  # in a task's folder: how long it took, and where it ran
# Options that are a cell's own.
_APART = ("--policy", "--seed", "--out", "--results")


class Ledger:
    """Args:
    results: the main store.
    look_only: write nothing; results that wait to be merged count as done.
    """

    def __init__(self, results: Path, *, look_only: bool = False) -> None:
        self._store = None if look_only and not results.is_file() else Store(results, create=not look_only)
        self._look_only = look_only
        self._configs: dict[tuple[str, ...], FinetuneConfig] = {}
        self._seen: dict[tuple[object, ...], Any] = {}
        self.known: dict[Path, tuple[RunKey, list[Result]]] = {}  # by folder of the cell

    def settle(self, cell: Cell) -> bool:
        """Whether the main store has the cell's results, with images, for every type wanted.

        Results that wait in the cell's folder are merged first: a matrix that was killed before it did so loses none.

        Raises:
            InputError: the main store cannot be written, or what the cell is made from cannot be used.
        """
        if cell.task.out in self.known:
            return True
        if not all(step_done(step) for step in cell.needs):
            return False
        from detection.run_key import known, run_key

        config = self._config(cell)
        found = known(config, self._store, self._seen) if self._store else []
        waiting = cell.task.out / RESULTS
        if not found and waiting.is_file():
            found = known(config, Store(waiting, create=False), self._seen)
            if found and self._store and not self._look_only:
                self._store.merge(waiting)
                found = known(config, self._store, self._seen)
        if found:
            self.known[cell.task.out] = (run_key(config, self._seen), found)
        return bool(found)

    def _config(self, cell: Cell) -> FinetuneConfig:
        """What the cell's command runs with. Cells that differ in policy and seed alone are read once."""
        words = words_here(cell.task)[2:]
        apart = {i + offset for i, word in enumerate(words) if word in _APART for offset in (0, 1)}
        rest = tuple(word for i, word in enumerate(words) if i not in apart)
        if rest not in self._configs:
            self._configs[rest] = finetune_config(words)
        own = {"policy": cell.file, "seed": cell.seed, "out": cell.task.out, "results": cell.task.out / RESULTS}
        return self._configs[rest].model_copy(update=own)


def step_done(step: Step) -> bool:
    """Whether a base model or a search has everything that is wanted from it."""
    return all((step.task.out / name).is_file() for name in step.task.outputs)


def note_times(task: Task, finished: Finished) -> None:
    """Keep beside a task's files how long it took and where it ran."""
    content = {"seconds": round(finished.seconds, 1), "attempts": finished.attempts, "place": finished.place}
    write_json(task.out / TIMES, {**content, "ended": datetime.now(UTC).isoformat(timespec="seconds")})


def times(folder: Path) -> dict[str, Any]:
    """What `note_times` kept, or nothing."""
    try:
        found = json.loads((folder / TIMES).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def usual_seconds(plan: Plan) -> dict[str, float]:
    """Mean wall time of the plan's finished tasks, by kind (`base`, `search`, `cell`); only kinds that have one."""
    of: dict[str, list[float]] = {}
    tasks = [(step.kind, step.task) for step in plan.steps] + [("cell", cell.task) for cell in plan.cells]
    for kind, task in tasks:
        if seconds := times(task.out).get("seconds"):
            of.setdefault(kind, []).append(float(seconds))
    return {kind: sum(found) / len(found) for kind, found in of.items()}


def chosen(plan: Plan, only: Sequence[str]) -> list[Cell]:
    """The cells to run, in the order to run them: seed by seed, so that a part of them compares all rows.

    Raises:
        InputError: no row has such a label.
    """
    labels = list(dict.fromkeys(cell.row.label for cell in plan.cells))
    for label in only:
        if label not in labels:
            raise InputError(f"--only {label}: there is no such row at this scale, only {', '.join(labels)}")
    cells = [cell for cell in plan.cells if not only or cell.row.label in only]
    seeds = list(dict.fromkeys(cell.seed for cell in plan.cells))
    return sorted(cells, key=lambda cell: seeds.index(cell.seed))

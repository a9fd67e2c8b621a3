"""Which cells of a matrix have their results: in the main store, or in their folder and not yet merged."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from detection.local_engine import words_here
from detection.matrix_facts import FileFacts
from detection.matrix_options import finetune_config
from detection.matrix_plan import RESULTS, Cell, Plan, Step
from detection.store import Result, RunKey, Store
from detection.tasks import Finished, Task
from policy_search.cells.errors import InputError
from policy_search.cells.files import write_json

TIMES = "task.json"  # in a task's folder: how long it took, and where it ran
# Options of a fine-tune that its key is made without, or with something else.
_APART = ("--policy", "--seed", "--out", "--results")


class Ledger:
    """Args:
    results: the main store.
    root: LIVECell's folder, as for `--root`.
    facts: that the plan was made with.
    look_only: write nothing; results that wait to be merged count as done.
    """

    def __init__(self, results: Path, root: Path | None, facts: FileFacts, *, look_only: bool = False) -> None:
        self._store = None if look_only and not results.is_file() else Store(results, create=not look_only)
        self._look_only = look_only
        self._root, self._facts = root, facts
        self._keys: dict[tuple[str, ...], RunKey] = {}
        self._tests: dict[tuple[str, str], dict[str, str]] = {}
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
        key = self.key(cell)
        found = self._complete(self._store, key, cell) if self._store else []
        waiting = cell.task.out / RESULTS
        if not found and waiting.is_file():
            found = self._complete(Store(waiting, create=False), key, cell)
            if found and self._store and not self._look_only:
                self._store.merge(waiting)
                found = self._complete(self._store, key, cell)
        if found:
            self.known[cell.task.out] = (key, found)
        return bool(found)

    def key(self, cell: Cell) -> RunKey:
        """What the cell's results are stored under; its base model and its policy must be there."""
        words = words_here(cell.task)[2:]
        apart = {i + offset for i, word in enumerate(words) if word in _APART for offset in (0, 1)}
        rest = tuple(word for i, word in enumerate(words) if i not in apart)
        if rest not in self._keys:
            from detection.finetune import run_key

            self._keys[rest] = run_key(finetune_config(words))
        return self._keys[rest]._replace(policy_hash=self._facts.policy(cell.file), seed=cell.seed)

    def _complete(self, store: Store, key: RunKey, cell: Cell) -> list[Result]:
        """The rows of all wanted types if each was tested on the images of today and these are kept; else none."""
        rows = {(row.cell_type, row.test_fingerprint): row for row in store.find(*key)}
        wanted = self._wanted(cell)
        if not all(item in rows for item in wanted.items()) or not set(wanted) <= set(store.images(*key)):
            return []
        return [rows[item] for item in wanted.items()]

    def _wanted(self, cell: Cell) -> dict[str, str]:
        """Cell type to test on → fingerprint of its images."""
        tested = cell.task.words[cell.task.words.index("--eval") + 1]
        if (cell.source, tested) not in self._tests:
            from detection.finetune import to_test_on

            test = to_test_on(cell.source, tested, self._root)
            self._tests[cell.source, tested] = {name: test.of_type(name).fingerprint() for name in test.cell_types}
        return self._tests[cell.source, tested]


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

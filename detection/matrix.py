"""`detect matrix`: every row of an experiment on every source and seed, each result once, whatever happens between."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from pydantic import Field

from detection.local_engine import still_running
from detection.matrices.facts import FileFacts
from detection.matrices.file import Experiment, options_of, read_experiment
from detection.matrices.ledger import Ledger, chosen, note_times, step_done
from detection.matrices.options import check_options
from detection.matrices.plan import Cell, Place, Plan, Step, make_plan
from detection.matrices.writer import Session, Writer
from detection.network import Frozen
from detection.sole_user import sole_user
from detection.tasks import Engine, Finished, Task
from policy_search.cells.errors import InputError
from policy_search.cells.files import require_writable_folder


class MatrixConfig(Frozen):
    """Everything that can be set for one start, besides the engine.

    Attributes:
        experiment: its file. scale: one of its scales.
        root: LIVECell's folder.
        weights, evaluate: in place of the scale's `weights` and `eval`.
        results: the main store. work: folder of all that is made; a folder for each scale in it.
        only: labels of rows; empty is all.
        limit: fine-tunes that this start runs at most.
        gpus: share of a GPU for each run, in place of the scale's.
    """

    experiment: Path
    scale: str = "demo"
    root: Path | None = None
    weights: Path | None = None
    evaluate: str | None = None
    results: Path = Path("runs/results.sqlite")
    work: Path = Path("runs/matrix")
    only: tuple[str, ...] = ()
    limit: int | None = Field(None, ge=1)
    gpus: float | None = Field(None, ge=0)

    @property
    def folder(self) -> Path:
        """Of the scale."""
        return self.work / self.scale


class View(Protocol):
    """Shows how far it is."""

    def started(self, task: Task) -> None:
        """A task runs."""

    def finished(self, task: Task, finished: Finished) -> None:
        """A task has ended."""


Views = Callable[[int, Sequence[str]], AbstractContextManager[View]]


class Failure(NamedTuple):
    """A task without a result, and why."""

    name: str
    message: str


class Outcome(NamedTuple):
    """After one start: cells of the whole plan, how many of them are done, those of this start that failed, and the
    record's file."""

    planned: int
    done: int
    failures: tuple[Failure, ...]
    record: Path


class Ready(NamedTuple):
    """An experiment that was read, checked and planned."""

    experiment: Experiment
    plan: Plan


def prepare(config: MatrixConfig) -> Ready:
    """Read and plan an experiment; writes nothing.

    Raises:
        InputError: see `read_experiment`, `check_options` and `make_plan`.
    """
    experiment = read_experiment(config.experiment)
    for where, command, options in options_of(experiment, config.experiment):
        check_options(where, command, options)
    place = Place(config.folder, config.root, config.weights, config.evaluate, config.gpus)
    plan = make_plan(experiment, config.experiment, config.scale, place, FileFacts(config.root))
    chosen(plan, config.only)
    return Ready(experiment, plan)


def run_matrix(
    config: MatrixConfig, ready: Ready, engine: Engine, view: Views, session: Session, say: Callable[[str], None]
) -> Outcome:
    """Run what is not done yet.

    A fine-tune writes into a store in its own folder; this process alone writes the main one, each result in one
    transaction. Killed at any moment, the same call goes on: unfinished tasks from their last saved state, finished
    ones that are not merged yet by merging them.

    Raises:
        InputError: the work folder is in use or cannot be written, or the store cannot be used.
        KeyboardInterrupt: running tasks have saved their state.
    """
    folder = require_writable_folder(config.folder, "--work")
    with _alone(folder):
        _wait_for_former(ready.plan, say)
        ledger = Ledger(config.results)
        writer = Writer(ready.experiment, ready.plan, ledger, folder, config.root, session)
        cells = open_cells(config, ready, ledger)
        writer.write()
        failures = _Session(engine, ledger, writer).run(cells, view) if cells else ()
        return Outcome(len(ready.plan.cells), len(ledger.known), tuple(failures), writer.path)


def open_cells(config: MatrixConfig, ready: Ready, ledger: Ledger) -> list[Cell]:
    """The cells that this start is to run; afterwards the ledger knows all that are done."""
    for cell in ready.plan.cells:
        ledger.settle(cell)
    return [cell for cell in chosen(ready.plan, config.only) if cell.task.out not in ledger.known][: config.limit]


def steps_to_do(cells: Sequence[Cell]) -> list[Step]:
    """The base models and searches that these cells still need."""
    steps = {step.task.out: step for cell in cells for step in cell.needs if not step_done(step)}
    return list(steps.values())


class _Session:
    """The tasks of one start."""

    def __init__(self, engine: Engine, ledger: Ledger, writer: Writer) -> None:
        self._engine, self._ledger, self._writer = engine, ledger, writer
        self._failed: dict[Path, Failure] = {}  # by folder

    def run(self, cells: Sequence[Cell], view: Views) -> list[Failure]:
        steps = steps_to_do(cells)
        names = [step.task.name for step in steps] + [cell.task.name for cell in cells]
        with view(len(names), names) as shown:
            by_folder = {cell.task.out: cell for cell in cells}

            def step_ended(task: Task, finished: Finished) -> None:
                shown.finished(task, self._concluded(task, finished, lambda: None))

            def cell_ended(task: Task, finished: Finished) -> None:
                cell = by_folder[task.out]
                shown.finished(task, self._concluded(task, finished, lambda: self._settle(cell)))

            self._engine.run([step.task for step in steps], started=shown.started, finished=step_ended)
            able = []
            for cell in cells:
                lacking = next((self._failed[s.task.out] for s in cell.needs if s.task.out in self._failed), None)
                if lacking is not None:
                    without = Finished(False, f"{cell.task.name} was not begun: {lacking.name} failed", 0.0, 0, "")
                    cell_ended(cell.task, without)
                elif not self._ledger.settle(cell):  # made again, a base model may be one that the store knows
                    able.append(cell.task)
            self._engine.run(able, started=shown.started, finished=cell_ended)
        self._writer.write()
        return list(self._failed.values())

    def _concluded(self, task: Task, finished: Finished, settle: Callable[[], None]) -> Finished:
        """Keep what a task has made; what cannot be kept (a full disk) has failed, and the next start tries again."""
        if finished.ok:
            try:
                note_times(task, finished)
                settle()
                self._writer.write()
            except (OSError, InputError) as error:
                finished = finished._replace(ok=False, message=f"{task.name} ended, but could not be kept: {error}")
        if not finished.ok:
            self._failed[task.out] = Failure(task.name, finished.message)
        return finished

    def _settle(self, cell: Cell) -> None:
        if not self._ledger.settle(cell):
            raise InputError(
                f"its results are not stored under the key that was planned ({cell.task.out}); was something changed "
                "meanwhile?"
            )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One matrix at a time in a folder."""
    entered = False
    try:
        with sole_user(folder):
            entered = True
            yield
    except InputError:
        if entered:
            raise
        raise InputError(
            f"another `detect matrix` works in {folder}: wait until it is done, or choose another folder with --work"
        ) from None


def _wait_for_former(plan: Plan, say: Callable[[str], None]) -> None:
    """Processes whose matrix was killed save their state and end; two must not work in one folder."""
    folders = [task.out for task in (*(s.task for s in plan.steps), *(c.task for c in plan.cells))]
    running = [folder for folder in folders if still_running(folder)]
    if running:
        say(f"waiting for {len(running)} tasks of a matrix that was killed: they save their state ({running[0]} …)")
    while any(still_running(folder) for folder in running):
        time.sleep(0.2)

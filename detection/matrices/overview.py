"""What a matrix is going to do, in words: for its start and for `--dry-run`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from detection.local_engine import words_here
from detection.matrices.ledger import step_done, usual_seconds
from detection.matrices.lines import duration
from detection.matrices.plan import Cell
from detection.matrix import Ready, steps_to_do

_KINDS = {"base": "base model", "search": "search", "cell": "fine-tune"}


def headline(ready: Ready, synthetic: bool) -> str:
    """`Table 1 at scale demo (SYNTHETIC data): 7 rows x 1 source x 3 seeds = 21 fine-tunes`."""
    experiment, plan = ready.experiment, ready.plan
    rows = len(experiment.rows_at(plan.scale))
    sources = len({cell.source for cell in plan.cells})
    kind = " (SYNTHETIC data)" if synthetic else ""
    return (
        f"{experiment.title}, scale {plan.scale}{kind}: {_count(rows, 'row')} x {_count(sources, 'source')} x "
        f"{_count(len(experiment.seeds), 'seed')} = {_count(len(plan.cells), 'fine-tune')}"
    )


def overview(ready: Ready, open_cells: Sequence[Cell], jobs: int) -> Iterator[str]:
    """Lines on what is done and to do, and how long that takes by what was measured so far.

    Args:
        open_cells: that are to run. jobs: at a time.
    """
    plan = ready.plan
    to_do = steps_to_do(open_cells)
    left = {kind: sum(step.kind == kind for step in to_do) for kind in ("base", "search")}
    left["cell"] = len(open_cells)
    for kind, name in _KINDS.items():
        total = len(plan.cells) if kind == "cell" else sum(step.kind == kind for step in plan.steps)
        if total:
            yield f"{_count(total, name)}, {left[kind]} to do"
    usual = usual_seconds(plan)
    if not any(left.values()):
        return
    unknown = [name for kind, name in _KINDS.items() if left[kind] and kind not in usual]
    seconds = sum(usual.get(kind, 0.0) * count for kind, count in left.items()) / jobs
    if seconds:
        rest = f", and what each {' and '.join(unknown)} takes" if unknown else ""
        yield f"time: about {duration(seconds)}{rest}, {jobs} at a time"
    else:
        yield "time: unknown until the first of them is done"


def commands(ready: Ready, open_cells: Sequence[Cell], line: Callable[[list[str]], str]) -> Iterator[str]:
    """Every command of the plan with `done` or `to do` before it.

    Args:
        line: words as a line for a shell.
    """
    to_do = {cell.task.out for cell in open_cells}
    for step in ready.plan.steps:
        yield f"{'done ' if step_done(step) else 'to do'}  {line(words_here(step.task))}"
    for cell in ready.plan.cells:
        yield f"{'to do' if cell.task.out in to_do else 'done '}  {line(words_here(cell.task))}"


def _count(number: int, name: str) -> str:
    plural = f"{name}es" if name.endswith("ch") else f"{name}s"
    return f"{number} {name if number == 1 else plural}"

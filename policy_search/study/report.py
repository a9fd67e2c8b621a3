"""What a study found, as rows and as a plain Markdown leaderboard."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from policy_search.study.order import best_first, pareto_front
from policy_search.study.slots import ERROR, LOST, read_slots
from policy_search.study.verdict import Direction, Finalist, Verdict, paired_interval

ORIGIN = "## How it was made"


@dataclass(frozen=True)
class TrialRow:
    """A finished slot.

    Attributes:
        number: of the slot (see `slots`); Optuna's own number as well, unless a trial was cut off before it.
        state: complete, pruned or fail.
        name, family, baseline: of the policy; name is empty where the trial failed before it had one.
        content_hash: of the policy; None where none was made.
        score: of a complete trial; its first metric where the objective has several.
        domains: score by validation domain.
        seconds: wall seconds, learning the policy included.
        repeats: number of the earlier trial with the same policy, whose score this trial took over.
        error: what went wrong in a failed trial.
        values: of all metrics, empty where there is no score.
    """

    number: int
    state: str
    name: str
    family: str
    baseline: bool
    content_hash: str | None
    score: float | None
    domains: Mapping[str, float]
    seconds: float
    repeats: int | None
    error: str | None
    values: tuple[float, ...] = ()


@dataclass(frozen=True)
class FamilyCost:
    """What the trials of one family took: `seconds` on the wall, `trials` finished ones, failed and pruned included."""

    family: str
    trials: int
    seconds: float


def costs(rows: Sequence[TrialRow]) -> list[FamilyCost]:
    """Cost by family, the dearest first. Trials that failed before they had a family stand under an empty name."""
    families = dict.fromkeys(row.family for row in rows)
    found = [
        FamilyCost(family, len(own), sum(row.seconds for row in own))
        for family in families
        for own in [[row for row in rows if row.family == family]]
    ]
    return sorted(found, key=lambda cost: -cost.seconds)


def row_of(trial: FrozenTrial) -> TrialRow:
    """A trial as a row; the worker's user attributes hold what Optuna does not know."""
    attrs = trial.user_attrs
    values = tuple(trial.values) if trial.state == TrialState.COMPLETE else ()
    return TrialRow(
        number=attrs.get("slot", trial.number),
        state=trial.state.name.lower(),
        name=attrs.get("name", ""),
        family=attrs.get("family", ""),
        baseline=bool(attrs.get("is_baseline", False)),
        content_hash=attrs.get("hash"),
        score=values[0] if values else None,
        domains=attrs.get("domains", {}),
        seconds=float(attrs.get("seconds", 0.0)),
        repeats=attrs.get("repeats"),
        error=attrs.get(ERROR, LOST if trial.state == TrialState.FAIL else None),
        values=values,
    )


def finished(study: optuna.Study) -> list[TrialRow]:
    """All finished slots in order; a trial that was cut off is none."""
    slots = read_slots(study.get_trials(deepcopy=False))
    return [row_of(slots.finished[slot]) for slot in sorted(slots.finished)]


def directions_of(study: optuna.Study) -> tuple[Direction, ...]:
    """Which way is better, for each metric of the study."""
    return tuple("maximize" if d.name == "MAXIMIZE" else "minimize" for d in study.directions)


def leaderboard(study: optuna.Study) -> list[TrialRow]:
    """Finished slots, best first; those without a score come last, in order."""
    return ordered(finished(study), directions_of(study))


def ordered(rows: Sequence[TrialRow], directions: Sequence[Direction]) -> list[TrialRow]:
    """Rows, best first; those without a score come last, in order."""
    scored, others = [r for r in rows if r.values], [r for r in rows if not r.values]
    return [*(scored[i] for i in best_first([r.values for r in scored], directions)), *others]


def log_line(row: TrialRow) -> dict[str, Any]:
    """A row as a JSON object."""
    return {
        "trial": row.number,
        "state": row.state,
        "name": row.name,
        "family": row.family,
        "baseline": row.baseline,
        "hash": row.content_hash,
        "score": row.score,
        "values": list(row.values),
        "domains": dict(row.domains),
        "seconds": round(row.seconds, 2),
        "repeats": row.repeats,
        "error": row.error,
    }


def markdown(
    title: str,
    notes: Sequence[str],
    metrics: Sequence[str],
    judged: str,
    rows: Sequence[TrialRow],
    finalists: Sequence[Finalist],
    verdict: Verdict,
    *,
    front: Container[int] = (),
) -> str:
    """The report: verdict first, then the second round, then the leaderboard of the first.

    Args:
        metrics: of the first round.
        judged: metric of the second.
        front: slots on the Pareto front, where there are several metrics.
    """
    lines = [f"# {title}", "", verdict.sentence, "", *[f"- {note}" for note in notes], ""]
    lines += ["## Second round: fresh seeds", ""]
    lines += [f"| policy | family | {judged}, mean | 95 % interval of the mean | against {verdict.reference.name} |"]
    lines += ["|---|---|---:|---:|---:|"]
    for finalist in finalists:
        mean, low, high = paired_interval(finalist.scores)
        difference = mean - verdict.reference.mean
        lines.append(
            f"| {_marked(finalist.name, finalist.baseline)} | {finalist.family} | {mean:.3f} | {low:.3f} … {high:.3f} "
            f"| {difference:+.3f} |"
        )
    lines += first_round(metrics, rows, front)
    domains = sorted({d for row in rows for d in row.domains})
    best = next((r for r in rows if r.content_hash == verdict.winner.content_hash and r.domains), None)
    none = next((r for r in rows if r.name == "none" and r.domains), None)
    if best is not None and none is not None:
        lines += ["", "## By validation domain, first round", "", f"| domain | none | {best.name} |", "|---|---:|---:|"]
        lines += [f"| {d} | {none.domains.get(d, np.nan):.3f} | {best.domains.get(d, np.nan):.3f} |" for d in domains]
    return "\n".join([*lines, *_cost_table(rows), "", "\\* naive baseline", ""])


def unfinished(
    title: str,
    state: str,
    notes: Sequence[str],
    metrics: Sequence[str],
    rows: Sequence[TrialRow],
    *,
    front: Container[int] = (),
) -> str:
    """The report of a run that has no verdict yet: how far it is, and the first round as far as it goes."""
    lines = [f"# {title}", "", state, "", *[f"- {note}" for note in notes]]
    return "\n".join([*lines, *first_round(metrics, rows, front), *_cost_table(rows), "", "\\* naive baseline", ""])


def with_origin(text: str, lines: Sequence[str]) -> str:
    """A report with a last section on how it was made, in place of the one that it may have."""
    return "\n".join([text.partition(f"\n{ORIGIN}\n")[0].rstrip("\n"), "", ORIGIN, "", *lines, ""])


def first_round(metrics: Sequence[str], rows: Sequence[TrialRow], front: Container[int] = ()) -> list[str]:
    """The table of all trials, heading included."""
    lines = ["", "## First round: all trials, one seed", ""]
    lines += [f"| trial | policy | family | {' | '.join(metrics)} | seconds | |"]
    lines += [f"|---:|---|---|{'---:|' * len(metrics)}---:|---|"]
    for row in rows:
        scores = " | ".join(f"{value:.3f}" for value in row.values) or " | ".join("–" for _ in metrics)
        name = _marked(row.name or "–", row.baseline)
        text = remark(row, front).replace("|", "\\|").replace("\n", " ")
        lines.append(f"| {row.number} | {name} | {row.family} | {scores} | {row.seconds:.1f} | {text} |")
    return lines


def remark(row: TrialRow, front: Container[int] = ()) -> str:
    """What a reader of the row has to know besides: Pareto front, repetition, why there is no score; else empty."""
    if row.repeats is not None:
        return f"same policy as trial {row.repeats}"
    if row.number in front:
        return "on the Pareto front"
    return row.error or ("" if row.state == "complete" else row.state)


def front_of(rows: Sequence[TrialRow], directions: Sequence[Direction]) -> set[int]:
    """Slots on the Pareto front; empty where there is one metric, which has a best policy instead."""
    scored = [row for row in rows if row.values]
    if len(directions) == 1:
        return set()
    return {scored[i].number for i in pareto_front([row.values for row in scored], directions)}


def _cost_table(rows: Sequence[TrialRow]) -> list[str]:
    found = costs(rows)
    lines = ["", "## Cost of the first round", "", "| family | trials | seconds |", "|---|---:|---:|"]
    lines += [f"| {cost.family or '–'} | {cost.trials} | {cost.seconds:.1f} |" for cost in found]
    return [*lines, f"| all | {len(rows)} | {sum(cost.seconds for cost in found):.1f} |"]


def _marked(name: str, baseline: bool) -> str:
    return f"{name} \\*" if baseline else name

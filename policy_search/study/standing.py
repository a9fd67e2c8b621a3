"""How a study stands: its trials as entries, the policies to beat, the best learnt one, the Pareto front. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from optuna.trial import FrozenTrial, TrialState

from policy_search.study.order import pareto_front
from policy_search.study.verdict import Direction

Values = tuple[float, ...]


@dataclass(frozen=True)
class Entry:
    """A trial as people are told of it.

    Attributes:
        number: Optuna's, which the dashboard calls it by.
        state: complete, pruned, fail, running or waiting.
        name, family, baseline: of the policy; empty where the trial has none yet.
        values: one for each metric; None unless complete.
        domains: score by validation domain.
        repeats: whether it took over the score of an earlier trial with the same policy.
    """

    number: int
    state: str
    name: str
    family: str
    baseline: bool
    values: Values | None
    domains: Mapping[str, float] = field(default_factory=dict)
    repeats: bool = False


@dataclass(frozen=True)
class Standing:
    """Metrics with the direction that is better for each, and the entries so far."""

    metrics: tuple[str, ...]
    directions: tuple[Direction, ...]
    entries: tuple[Entry, ...]

    def __post_init__(self) -> None:
        if len(self.metrics) != len(self.directions):
            raise ValueError(f"{len(self.metrics)} metrics have {len(self.directions)} directions")

    def count(self, state: str) -> int:
        """Entries in a state."""
        return sum(entry.state == state for entry in self.entries)

    def named(self, name: str) -> Entry | None:
        """The first entry of that name with a score."""
        return next((entry for entry in self.scored() if entry.name == name), None)

    def scored(self) -> list[Entry]:
        """Complete entries, in order."""
        return [entry for entry in self.entries if entry.values is not None]

    def gain(self, values: Sequence[float], other: Sequence[float]) -> Values:
        """By how much `values` are better, metric by metric; negative where they are worse."""
        signs = (1.0 if direction == "maximize" else -1.0 for direction in self.directions)
        return tuple(sign * (a - b) for sign, a, b in zip(signs, values, other, strict=True))

    def ranked(self, *, baseline: bool | None = None) -> list[Entry]:
        """Best first, by the first metric; equal scores in order. `baseline` picks the naive or the learnt ones."""
        sign = -1.0 if self.directions[0] == "maximize" else 1.0
        picked = [e for e in self.scored() if baseline is None or e.baseline == baseline]
        return sorted(picked, key=lambda e: (sign * (e.values or (0.0,))[0], e.number))

    def rival(self) -> Entry | None:
        """The best naive strategy."""
        return next(iter(self.ranked(baseline=True)), None)

    def best(self) -> Entry | None:
        """The best of all entries."""
        return next(iter(self.ranked()), None)

    def front(self) -> list[Entry]:
        """Entries that no other is at least as good as on all metrics and better on one, by the first metric.

        Entries with equal values stand for the same point: the first one is kept.
        """
        scored = self.ranked()
        on_front = pareto_front([entry.values or () for entry in scored], self.directions)
        front: dict[Values, Entry] = {}
        for position, entry in enumerate(scored):
            if position in on_front:
                front.setdefault(entry.values or (), entry)
        return list(front.values())


def entry_of(trial: FrozenTrial) -> Entry:
    """An Optuna trial as an entry; its user attributes hold what Optuna does not know."""
    attrs = trial.user_attrs
    return Entry(
        number=trial.number,
        state=trial.state.name.lower(),
        name=attrs.get("name", ""),
        family=attrs.get("family", ""),
        baseline=bool(attrs.get("is_baseline", False)),
        values=tuple(trial.values) if trial.state == TrialState.COMPLETE else None,
        domains=attrs.get("domains", {}),
        repeats=attrs.get("repeats") is not None,
    )


def standing(
    trials: Sequence[FrozenTrial],
    metrics: Sequence[str],
    directions: Sequence[Direction],
    *,
    without: int | None = None,
) -> Standing:
    """The standing after these trials; those that were interrupted are left out, and trial number `without`."""
    entries = [
        entry_of(trial)
        for trial in trials
        if trial.number != without and (trial.state != TrialState.FAIL or "error" in trial.user_attrs)
    ]
    return Standing(tuple(metrics), tuple(directions), tuple(entries))

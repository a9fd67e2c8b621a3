"""What an objective is: the interface that every way of scoring a policy keeps, and what a scoring returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from policy_search.augment import PolicyDocument
from policy_search.study.verdict import Direction

# (share of the work done in (0, 1), score so far); what it raises ends the scoring
Report = Callable[[float, float], None]


@dataclass(frozen=True)
class Score:
    """What a scoring found.

    Attributes:
        values: one for each of the objective's metrics, in their order.
        domains: where the scalar score comes from: its parts by validation domain or target; may be empty.
        seconds: wall seconds.
        losses: `stage: quantity` -> values step by step, of what was trained on the way; may be empty. For people to
            look at: those of one stage are drawn together.
    """

    values: tuple[float, ...]
    domains: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    losses: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def value(self) -> float:
        """The score where there is one.

        Raises:
            ValueError: several metrics have no single value.
        """
        if len(self.values) != 1:
            raise ValueError(f"a score of {len(self.values)} metrics has no single value")
        return self.values[0]


class Objective(Protocol):
    """A way to score a policy.

    Attributes:
        name: what `--objective` calls it.
        metrics: names of the values, as the study and the report show them; one, or several for a Pareto front.
        directions: which way is better, for each of them.
        prunable: whether `score` reports on the way, so that hopeless policies can be given up.
    """

    @property
    def name(self) -> str: ...

    @property
    def metrics(self) -> tuple[str, ...]: ...

    @property
    def directions(self) -> tuple[Direction, ...]: ...

    @property
    def prunable(self) -> bool: ...

    def score(self, document: PolicyDocument, *, seed: int, report: Report | None = None) -> Score:
        """Score a policy; equal seeds make the scores of different policies comparable pairs.

        Args:
            document: the policy.
            seed: of everything random in the scoring. Same policy, same seed: same score.
            report: called on the way where `prunable`; may raise to stop.
        """
        ...

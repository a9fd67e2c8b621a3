"""The objective `probe`: instances matched by a small network after a short training under the policy."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from policy_search.augment import PolicyDocument
from policy_search.study.data import StudyData
from policy_search.study.draws import draws_of
from policy_search.study.objective import Report, Score
from policy_search.study.probe import Base, ProbeScore, ProbeSettings, run_probe, train_base
from policy_search.study.verdict import Direction

POINTS = 100  # of a curve of losses: more than a figure shows


@dataclass
class ProbeObjective:
    """Matched instances (`MatchCounts.score`), mean over the validation domains; see `probe`.

    The common start of all policies at one seed is trained on first use of the seed and kept.
    """

    data: StudyData
    settings: ProbeSettings
    name: str = "probe"
    metrics: tuple[str, ...] = ("matched at IoU 0.5",)
    directions: tuple[Direction, ...] = ("maximize",)
    prunable: bool = True
    _bases: dict[int, Base] = field(default_factory=dict, repr=False)

    def prepare(self, seed: int) -> Base:
        """The common start at `seed`, trained now unless it is there: for who measures what one policy costs."""
        if seed not in self._bases:
            self._bases[seed] = train_base(self.data.train, seed=seed, settings=self.settings)
        return self._bases[seed]

    def restricted(self, domain: str) -> ProbeObjective:
        """The same objective, its common starts included, on one domain alone."""
        alone = tuple(d for d in self.data.domains if d.name == domain)
        return replace(self, data=replace(self.data, domains=alone))

    def probe(self, document: PolicyDocument, *, seed: int, report: Report | None = None) -> ProbeScore:
        """As `score`, with all that a probe finds."""
        return run_probe(
            self.prepare(seed),
            self.data.train,
            self.data.domains,
            draws_of(document, self.data.train, seed=seed),
            seed=seed,
            settings=self.settings,
            report=report,
        )

    def score(self, document: PolicyDocument, *, seed: int, report: Report | None = None) -> Score:
        """See `Objective`. Reports at a quarter and at half of the training, on one image of every domain."""
        started = time.perf_counter()
        found = self.probe(document, seed=seed, report=report)
        return Score(
            (found.value,), found.domains, time.perf_counter() - started, {"probe: loss": thinned(found.losses)}
        )


def thinned(values: Sequence[float], points: int = POINTS) -> tuple[float, ...]:
    """At most `points` of the values, evenly spaced, the first and the last among them."""
    places = np.linspace(0, len(values) - 1, min(len(values), points)).round().astype(int)
    return tuple(values[i] for i in places)

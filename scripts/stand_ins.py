"""An objective and an inner search that take next to no time, for measuring what a study costs besides.

What they return is what real ones return: policies that a real search has exported, each slightly changed so that no
two are the same, with curves of losses, and scores by domain.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from policy_search.augment import PolicyDocument
from policy_search.relaxed.export import export_policy
from policy_search.relaxed.search import SearchSettings, search_policy
from policy_search.study.data import StudyData, foreground_pairs
from policy_search.study.making import Learnt
from policy_search.study.objective import Report, Score
from policy_search.study.space import Knobs, TargetKnobs
from policy_search.study.verdict import Direction

SUB_POLICIES = (1, 2, 4, 8, 16)  # of the policies that are searched once; the knob draws any number up to 16
SHORT = {"steps": 10, "warmup": 5}
SEARCH_STEPS, PROBE_STEPS = 200, 100  # points of the curves: a search's steps, a probe's thinned ones


def searched_policies(data: StudyData, sizes: Sequence[int] = SUB_POLICIES) -> dict[int, PolicyDocument]:
    """Policies of real, short searches: number of sub-policies -> policy."""
    found = {}
    for size in sizes:
        settings = SearchSettings(sub_policies=size, **SHORT)
        result = search_policy(foreground_pairs(data.train), None, settings=settings, seed=0)
        found[size] = export_policy(result, images=[sample.image for sample in data.train])
    return found


class Learner:
    """Stands in for the inner search; see `making.Learn`. Equal knobs and seed: the same policy."""

    def __init__(self, policies: dict[int, PolicyDocument]) -> None:
        self._policies = policies

    def __call__(self, data: StudyData, knobs: Knobs | TargetKnobs, steps: int, seed: int) -> Learnt:
        size = min(self._policies, key=lambda there: (abs(there - knobs.sub_policies), there))
        document = self._policies[size]
        rng = random.Random(f"{seed} {knobs}")
        other = replace(document, transform=varied(document.transform, rng))
        distance = tuple(1.5 * rng.uniform(0.5, 1.5) for _ in range(SEARCH_STEPS))
        spread = tuple(rng.gauss(0.0, 1.0) for _ in range(SEARCH_STEPS))
        return Learnt(other, {"search: critic distance": distance, "search: spread": spread})


def varied(transform: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """A copy with other probabilities wherever one is below 1: as many digits, as many steps, another policy."""
    found = copy.copy(transform)
    if "transforms" in found:
        found["transforms"] = [varied(child, rng) for child in found["transforms"]]
    if 0 < found.get("p", 1.0) < 1:
        found["p"] *= rng.uniform(0.9, 1.0)
    return found


class Scorer:
    """Stands in for the objective `probe`: a score by chance, the same for the same policy and seed."""

    name = "stand-in"
    metrics: tuple[str, ...] = ("matched at IoU 0.5",)
    directions: tuple[Direction, ...] = ("maximize",)
    prunable = True

    def __init__(self, domains: Sequence[str]) -> None:
        self._domains = domains

    def score(self, document: PolicyDocument, *, seed: int, report: Report | None = None) -> Score:
        rng = random.Random(f"{document.content_hash} {seed}")
        value = rng.gauss(0.5, 0.05)
        if report is not None:  # scores on the way say something about the last one, as a real probe's do
            report(0.25, value + rng.gauss(0.0, 0.05))
            report(0.5, value + rng.gauss(0.0, 0.03))
        domains = {name: value + rng.gauss(0.0, 0.02) for name in self._domains}
        losses = tuple(rng.uniform(0.1, 0.5) for _ in range(PROBE_STEPS))
        return Score((value,), domains, 0.0, {"probe": losses})

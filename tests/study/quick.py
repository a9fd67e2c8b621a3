"""`policy-search` with an objective that costs nothing and a hook at each scoring, to see what the command does when
things go wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from policy_search.augment import PolicyDocument, choice
from policy_search.study.making import Learnt
from policy_search.study.objective import Report, Score

Hook = Callable[[int, PolicyDocument], None]


class Quick:
    """Scores by the policy's hash and the seed; the policy named `no_number` gets NaN. Calls its hook before each
    scoring with how many there were."""

    name, metrics, directions, prunable = "quick", ("quick",), ("maximize",), False

    def __init__(self, hook: Hook = lambda count, document: None) -> None:
        self.count, self.hook, self.no_number = 0, hook, ""
        self.scored: list[tuple[str, int]] = []

    def score(self, document: PolicyDocument, *, seed: int, report: Report | None = None) -> Score:
        self.hook(self.count, document)
        self.count += 1
        self.scored.append((document.name, seed))
        value = int(document.content_hash[:4], 16) / 65535 + seed % 7 / 100
        return Score((float("nan") if document.name == self.no_number else value,), {"all": value})


def learn(data: Any, knobs: Any, steps: int, seed: int) -> Learnt:
    """Stands in for the inner search."""
    return Learnt(choice({"flip": knobs.sub_policies, "crop": 1 + seed % 5}))

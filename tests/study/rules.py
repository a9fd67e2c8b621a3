"""Stand-ins for the slow parts of a study, with known answers, and what a test reads of its outcome."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from policy_search.augment import PolicyDocument, choice
from policy_search.study.data import StudyData
from policy_search.study.making import Learnt
from policy_search.study.objective import Report, Score
from policy_search.study.runner import StudyOutcome
from policy_search.study.space import Knobs, TargetKnobs
from policy_search.study.verdict import Direction

Run = Callable[..., StudyOutcome]  # runs a study; see the fixture `study`


class Rule:
    """An objective with a known answer: flips are good, the hash adds what looks like noise, seeds shift all alike."""

    name = "rule"
    metrics: tuple[str, ...] = ("rule",)
    directions: tuple[Direction, ...] = ("maximize",)
    prunable = True

    def __init__(self, bonus: float = 0.0, fail: str = "", stop_at: int = 10**9) -> None:
        self.bonus, self.fail, self.stop_at = bonus, fail, stop_at
        self.scored: list[tuple[str, int]] = []

    def score(self, document: PolicyDocument, *, seed: int, report: Report | None = None) -> Score:
        if len(self.scored) == self.stop_at:
            raise KeyboardInterrupt
        self.scored.append((document.name, seed))
        if document.name == self.fail:
            raise RuntimeError("out of luck")
        value = 0.5 + 0.001 * (int(document.content_hash[:4], 16) / 65535) + seed % 7 / 100
        if document.provenance.family not in ("naive", ""):
            value += self.bonus
        if report is not None:
            report(0.25, value / 4)
            report(0.5, value / 2)
        return Score((value,), {"all": value})


class Twofold(Rule):
    """Two metrics that pull apart: what is good for one is bad for the other."""

    metrics = ("affinity", "diversity")
    directions: tuple[Direction, ...] = ("maximize", "maximize")
    prunable = False

    def score(self, document: PolicyDocument, *, seed: int, report: Report | None = None) -> Score:
        assert report is None  # Optuna cannot prune on several metrics
        self.scored.append((document.name, seed))
        first = int(document.content_hash[:4], 16) / 65535
        second = int(document.content_hash[4:8], 16) / 65535
        return Score((first, 1 - first**2 + 0.2 * second))


def fake_learning(data: StudyData, knobs: Knobs | TargetKnobs, steps: int, seed: int) -> Learnt:
    """Stands in for the inner search: a policy that depends on all that it is given."""
    if isinstance(knobs, TargetKnobs):
        targets = sum(len(images) for images in data.targets.values())
        return Learnt(choice({"flip": knobs.sub_policies, "crop": targets, "lateral_stretch": 1 + seed % 5}))
    document = choice({"flip": knobs.sub_policies, "crop": knobs.distance, "color_jitter": 1 + seed % 5})
    return Learnt(document, {"critic distance": (3.0, 2.0, 1.0)})


def log(outcome: StudyOutcome) -> list[dict[str, Any]]:
    lines = (outcome.folder / "log.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    for row in rows:
        row.pop("seconds")
    return rows


def best(outcome: StudyOutcome) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(outcome.best_path.read_text())
    content["policy_search"].pop("seconds")
    return content

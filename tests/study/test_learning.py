"""Policies that trials learn, in both modes: what the knobs do to what comes out."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from policy_search.study.data import StudyData
from policy_search.study.learning import Learner, learn_targeted
from policy_search.study.space import Knobs, TargetKnobs
from tests.study.conftest import culture

STEPS = 24


@pytest.fixture(scope="module")
def data() -> StudyData:
    """Three images; the target's are 40 grey levels darker."""
    train = tuple(culture(seed) for seed in range(3))
    darker = tuple(np.clip(culture(seed).image.astype(int) - 40, 0, 255).astype(np.uint8) for seed in range(3, 6))
    return StudyData("blobs", True, "f", train, (), "nothing", targets={"dark": darker})


def nodes(document: Any, name: str) -> list[dict[str, Any]]:
    """All transforms of that class in a document."""
    found: list[dict[str, Any]] = []

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if node.get("__class_fullname__") == name:
                found.append(node)
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(json.loads(json.dumps(document.transform)))
    return found


def mean_change(document: Any, data: StudyData, draws: int = 40) -> list[float]:
    """Change of the mean grey level, draw by draw."""
    from policy_search.augment import Augmenter

    sample, augment = data.train[0], Augmenter(document)
    before = float(sample.image.mean())
    return [
        float(augment(sample.image, sample.instances, seed=0, image_id="x", draw=n)[0].mean()) - before
        for n in range(draws)
    ]


def test_a_targeted_policy_brings_a_share_of_the_images_to_the_target(data: StudyData) -> None:
    knobs = TargetKnobs(sub_policies=2, share=0.25)
    learnt = learn_targeted(data, knobs, sizes={"dark": 1.0}, steps=60, seed=0)
    changes = np.array(mean_change(learnt.document, data, 80))
    dark = changes < -20
    assert 0.1 < dark.mean() < 0.42
    assert np.abs(changes[~dark]).max() < 8
    assert -60 < np.median(changes[dark]) < -25
    (losses,) = learnt.losses.values()
    assert len(losses) == 60
    assert losses[-1] < 0.5 * losses[0]


def test_the_recognised_size_and_its_spread_stand_in_the_policy(data: StudyData) -> None:
    learnt = learn_targeted(data, TargetKnobs(1, spread=0.2), sizes={"dark": 0.5}, steps=STEPS, seed=0)
    scales = [node["scale"]["x"] for node in nodes(learnt.document, "Affine") if node["scale"]["x"] != [1.0, 1.0]]
    assert scales == [pytest.approx([0.4, 0.6])]
    assert nodes(learnt.document, "HorizontalFlip")


def test_a_learner_recognises_sizes_once_and_source_mode_needs_none(
    data: StudyData, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[int, int]] = []

    def train(samples: Any, *, seed: int, steps: int) -> list[Any]:
        calls.append((seed, steps))
        return []

    class Answers:
        by_target = {"dark": type("One", (), {"size": 0.8})()}  # noqa: RUF012

    monkeypatch.setattr("policy_search.study.learning.train_networks", train)
    monkeypatch.setattr("policy_search.study.learning.ask", lambda networks, own, targets: Answers())
    told: list[str] = []
    learner = Learner(seed=5, recognise_steps=7, target_steps=STEPS, tell=told.append)
    learner(data, Knobs(sub_policies=1), 8, 1)
    assert calls == []
    first, again = (learner(data, TargetKnobs(1), 8, 1) for _ in range(2))
    assert calls == [(5, 7)]
    assert told == ["size of the cells, in the source's: dark 0.80"]
    assert first.document.provenance.model_dump()["sizes"] == {"dark": 0.8}
    assert first.document.content_hash == again.document.content_hash
    assert learner(data, TargetKnobs(1), 8, 2).document.content_hash != first.document.content_hash
    unsized = Learner(seed=5, recognise_steps=0, target_steps=STEPS)(data, TargetKnobs(1), 8, 1)
    assert calls == [(5, 7)]
    assert unsized.document.content_hash != first.document.content_hash

"""The bench of the search step measures what it says."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
from bench_step import (
    WARM_UP,
    Case,
    in_turn,
    make_policy,
    make_search,
    make_step,
    policy_only,
    shared_plan,
    some_operations,
    still,
)

from policy_search.relaxed import search as search_module
from policy_search.relaxed.catalogue import CATALOGUE
from policy_search.relaxed.crops import CropSampler
from policy_search.relaxed.operations import PLAN
from tests.relaxed.textures import culture

SMALL = {"sub_policies": 3, "batch": 4, "size": 32}


def test_cpu_seconds_are_those_of_each_job() -> None:
    def work(seconds: float) -> None:
        started = time.process_time()
        while time.process_time() < started + seconds:
            pass

    calls = []
    seconds = in_turn({"long": lambda: work(0.03), "short": lambda: (work(0.01), calls.append(1))}, 4)
    assert len(calls) == WARM_UP + 4
    assert len(seconds["long"]) == len(seconds["short"]) == 4
    assert min(seconds["long"]) == pytest.approx(0.03, abs=0.005)
    assert min(seconds["short"]) == pytest.approx(0.01, abs=0.005)


def test_the_policy_learns_from_the_first_step_and_the_identity_does_nothing() -> None:
    pairs = [culture(0)]
    search = make_search(Case(**SMALL), pairs)
    before = {name: value.clone() for name, value in search.policy.named_parameters()}
    search.step()
    assert all((value != before[name]).any() for name, value in search.policy.named_parameters() if "choice" in name)

    image, mask = CropSampler(pairs).sample(4, 64, torch.Generator().manual_seed(0))
    same, cells = still(search.policy, image, mask, search.generator, fill=0.5, size=32, application="fused")
    torch.testing.assert_close(same, image[..., 16:48, 16:48], rtol=0, atol=0)
    torch.testing.assert_close(cells, mask[..., 16:48, 16:48], rtol=0, atol=0)


def test_the_identity_takes_the_place_of_the_policy_for_its_own_steps_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    real = search_module.apply
    monkeypatch.setattr(search_module, "apply", lambda *a, **k: calls.append("policy") or real(*a, **k))
    steps = {name: make_step(Case(**SMALL, identity=name == "still"), [culture(0)]) for name in ("moving", "still")}
    for _ in range(2):
        for step in steps.values():
            step()
    assert calls == ["policy"] * 2


def test_three_channels_and_a_target_are_what_is_measured() -> None:
    search = make_search(Case(**SMALL, channels=3, target=True), [culture(0)])
    assert search.source.channels == 3
    assert search.target is not None
    search.step()


def test_the_policy_alone_has_its_gradients() -> None:
    image, mask = CropSampler([culture(0)]).sample(4, 64, torch.Generator().manual_seed(0))
    policy = make_policy(Case(**SMALL, stages=2, operations=10))
    run = policy_only(policy, 32, image, mask)
    run()
    first = {name: p.grad.clone() for name, p in policy.base.items() if p.grad is not None}
    assert first.keys() == {"choice", "gate", "centre", "width"}
    assert all((gradient != 0).any() for gradient in first.values())
    run()  # gradients start from nothing each time, and the draws are others
    assert not torch.equal(policy.base["choice"].grad, first["choice"])
    assert policy.base["choice"].grad.abs().max() < 10 * first["choice"].abs().max()


def test_plans_of_any_length_keep_the_order() -> None:
    assert shared_plan(1) == PLAN[:1]
    assert shared_plan(4) == PLAN
    assert shared_plan(8) == tuple(stage for stage in PLAN for _ in range(2))


def test_few_operations_still_cover_the_groups() -> None:
    groups = {operation.name: operation.group for operation in CATALOGUE}
    assert len({groups[name] for name in some_operations(5)}) == len(set(groups.values()))
    assert len(some_operations(10)) == 10
    assert some_operations(None) == ()

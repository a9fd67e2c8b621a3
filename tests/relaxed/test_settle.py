"""Choices that others make up for are found out: with the rest fitted anew, fewer operations do, or others.

The images are replaced by what a shift does to their statistics, in a form in which size, contrast and blur nearly
stand in for each other; the planted magnitudes are the reference.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from policy_search.relaxed.catalogue import operations
from policy_search.relaxed.chooser import Chooser
from policy_search.relaxed.operations import PLAN, simple_plan
from policy_search.relaxed.policy import RelaxedPolicy
from policy_search.relaxed.settle import Settler

NAMES = ("rotate", "scale", "shear_x", "brightness", "contrast", "gamma", "gaussian_blur", "sharpen", "gaussian_noise")
REST = {"rotate": 0, "scale": 1, "shear_x": 0, "brightness": 0, "contrast": 1, "gamma": 1}
Magnitudes = dict[str, float]


def statistics(does: Magnitudes) -> Tensor:
    """Level, five log energies from fine to coarse, one of direction."""
    m = REST | {"gaussian_blur": 0, "sharpen": 0, "gaussian_noise": 0} | does
    size, contrast = math.log(m["scale"]), math.log(m["contrast"]) + 0.6 * math.log(m["gamma"])
    energies = [
        3 * contrast
        - 0.5 * (m["gaussian_blur"] / 2**i) ** 2 / (1 + (m["gaussian_blur"] / 2**i) ** 2)
        - size * (1.4 - 0.25 * i)
        + (m["sharpen"] + 9 * m["gaussian_noise"]) / 2**i
        for i in range(5)
    ]
    level = 60 * m["brightness"] - 25 * math.log(m["gamma"])
    direction = 3 * math.sin(math.radians(m["rotate"])) + 1.5 * math.sin(math.radians(2 * m["shear_x"]))
    oblong = 1.2 * math.sin(math.radians(m["shear_x"])) ** 2
    return 4 * torch.tensor([level, *energies, direction, 4 * oblong])


def done(policy: RelaxedPolicy) -> Magnitudes:
    """What the policy does, with the middles of its ranges."""
    table, found = policy.table(), {}
    for stage in range(policy.stages):
        k = int(table.weight[0, stage].argmax())
        if table.weight[0, stage, k] > 0.9 and table.gate[0, stage, k] > 0.9:
            found[policy.operations[k].name] = ((table.low + table.high) / 2)[0, stage, k].item()
    return found


def settled(planted: Magnitudes, chosen: Magnitudes, noise: float = 0.0) -> Magnitudes:
    """What stays of the chosen operations; `noise` of the statistics is left whatever is done."""
    made = operations(*NAMES)
    policy = RelaxedPolicy(
        made, sub_policies=3, plan=PLAN, generator=torch.Generator(), spread=0.0, start="identity"
    )  # fmt: skip
    simple = RelaxedPolicy(
        made, sub_policies=1, plan=simple_plan(NAMES), generator=torch.Generator(), spread=0.0, start="identity"
    )  # fmt: skip
    target = statistics(planted)
    left = noise * torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0, 1.0, -1.0, 1.0])

    def gap(candidate: RelaxedPolicy, count: int) -> Tensor:
        return statistics(done(candidate)) - target + left

    chooser = Chooser(policy, simple, lambda *a, **k: 0.0)
    stages = {k: stage for stage, entries in enumerate(policy.stage_operations) for k, _ in entries}
    with torch.no_grad():
        for name, magnitude in chosen.items():
            chooser.make(stages[NAMES.index(name)], (NAMES.index(name), magnitude))
    settler = Settler(chooser, gap)
    settler.settle()
    assert {NAMES[k] for k, _ in chooser.made.values()} == set(done(policy))
    return done(policy)


def test_a_size_that_contrast_and_blur_make_up_for_is_taken_back() -> None:
    planted = {"contrast": 0.6, "gaussian_blur": 2.0}
    found = settled(planted, {"scale": 1.45, "contrast": 0.72, "gaussian_blur": 1.3})
    assert found == {"contrast": pytest.approx(0.6, rel=0.02), "gaussian_blur": pytest.approx(2, rel=0.03)}


def test_a_wrong_tone_is_exchanged_and_the_size_fitted_to_it() -> None:
    found = settled({"brightness": 0.25, "scale": 0.6}, {"scale": 0.68, "gamma": 0.42})
    assert found == {"brightness": pytest.approx(0.25, abs=0.005), "scale": pytest.approx(0.6, rel=0.02)}


def test_a_shape_is_exchanged_for_a_turn_in_a_free_stage() -> None:
    found = settled({"rotate": 40}, {"shear_x": 28})
    assert found == {"rotate": pytest.approx(40, abs=2)}


def test_what_is_needed_stays() -> None:
    planted = {"rotate": 20.0, "scale": 1.6, "brightness": -0.2, "gaussian_blur": 1.5}
    begun = {name: 0.8 * magnitude for name, magnitude in planted.items()}
    assert settled(planted, begun, noise=0.05) == {n: pytest.approx(m, rel=0.1) for n, m in planted.items()}


def test_where_nothing_was_planted_nothing_stays() -> None:
    assert settled({}, {"scale": 1.02, "contrast": 1.02, "gaussian_blur": 0.3}, noise=0.2) == {}
    assert settled({}, {}) == {}

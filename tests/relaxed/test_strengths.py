"""Strengths against simulated draws and by hand, and floors: what sinks below them is put back, the rest is left."""

from __future__ import annotations

import math

import pytest
import torch

from policy_search.relaxed.catalogue import CATALOGUE, operations
from policy_search.relaxed.operations import free_plan
from policy_search.relaxed.policy import RelaxedPolicy
from policy_search.relaxed.strengths import Floors, carries, operation_effects, variety


def make(*names: str, spread: float = 0.0, **settings: object) -> RelaxedPolicy:
    generator = torch.Generator().manual_seed(0)
    return RelaxedPolicy(operations(*names), generator=generator, spread=spread, **{"sub_policies": 3, **settings})  # type: ignore[arg-type]


def set_range(policy: RelaxedPolicy, name: str, low: float, high: float) -> None:
    """The range of an operation, in its own unit, for all sub-policies."""
    k = [o.name for o in policy.operations].index(name)
    span = policy.operations[k].magnitude
    assert span is not None
    first, last = (
        (span.forward(e) - span.forward(span.low)) / (span.forward(span.high) - span.forward(span.low))
        for e in (low, high)
    )
    middle, half = (first + last) / 2, (last - first) / 2
    with torch.no_grad():
        policy.base["centre"][k] = torch.tensor(middle).logit()
        policy.base["width"][k] = torch.tensor(half / min(middle, 1 - middle)).logit()
        policy.offset["centre"].zero_(), policy.offset["width"].zero_()


def test_effects_are_those_of_simulated_draws() -> None:
    policy = make("brightness", "scale", "gaussian_blur", "horizontal_flip", spread=1.0)
    effects, generator = operation_effects(policy), torch.Generator().manual_seed(1)
    table, draw = policy.table(), policy.draw(60000, generator)
    for k, operation in enumerate(policy.operations):
        moved = torch.zeros(60000)
        acted = torch.zeros(60000)
        for stage in range(policy.stages):
            at = (draw.sub_policy, stage, k)
            is_open = policy.raw("gate")[at] + draw.logistic[:, stage, k] > 0
            acts = (draw.choice[:, stage] == k) & is_open
            acted += acts
            if operation.magnitude is None:
                moved += acts
            else:
                span, place = operation.magnitude, draw.uniform[:, stage, k]
                low, high = table.low[at], table.high[at]
                if span.logarithmic:
                    low, high = low.log(), high.log()
                half = (span.forward(span.high) - span.forward(span.low)) / 2
                moved += acts * (low + place * (high - low) - span.forward(span.identity)) / half
        found = effects[operation.name]
        assert found.chance == pytest.approx(acted.mean().item(), abs=0.01)
        square = moved.square().mean().item()
        assert found.chance * found.displacement**2 == pytest.approx(square, rel=0.03)
        assert found.constancy == pytest.approx(moved.mean().item() ** 2 / square, abs=0.02)


@pytest.mark.parametrize(
    ("name", "low", "high", "reach"),
    [
        ("brightness", -0.1, 0.2, 0.1 / 0.4),  # the lesser side counts
        ("brightness", 0.1, 0.3, -0.1 / 0.4),  # always brighter
        ("scale", 0.8, 1.25, math.log(1.25) / math.log(2)),
        ("gaussian_blur", 0.5, 2.5, (1.0 - 0.2) / 1.85),  # half the width, less the gap to a blur of 0.3
        ("gaussian_blur", 3.0, 4.0 - 1e-4, (0.5 - 2.7) / 1.85),  # always strong
        ("illumination", 0.02, 0.1, (0.04 - 0.01) / 0.095),  # the identity lies outside of the bounds
    ],
)
def test_strength_is_chance_times_what_varies(name: str, low: float, high: float, reach: float) -> None:
    policy = make(name, "horizontal_flip")
    set_range(policy, name, low, high)
    with torch.no_grad():
        policy.base["gate"][0] = math.log(0.3 / 0.7)
    effect = operation_effects(policy)[name]
    assert effect.chance == pytest.approx(0.3)
    assert effect.strength == pytest.approx(0.3 * reach, abs=1e-4)


def test_acting_or_not_is_all_that_varies_without_a_magnitude() -> None:
    policy = make("horizontal_flip")
    with torch.no_grad():
        policy.base["gate"][:] = math.log(0.8 / 0.2)
    assert operation_effects(policy)["horizontal_flip"].strength == pytest.approx(0.8 * 0.2)


def test_a_constant_degradation_has_no_strength() -> None:
    policy = make("gaussian_blur", sub_policies=1)
    with torch.no_grad():
        policy.base["gate"][:], policy.base["width"][:] = 20.0, -20.0
    effect = operation_effects(policy)["gaussian_blur"]
    assert effect.strength < 0
    assert (effect.chance, effect.constancy) == pytest.approx((1, 1), abs=1e-4)


def test_what_changes_the_look_at_a_stroke_carries_no_group() -> None:
    others = {o.name for o in CATALOGUE if not carries(o)}
    assert others == {"solarize", "posterize", "invert", "equalize", "autocontrast", "tone_curve"}


def test_variety_runs_from_one_choice_to_all() -> None:
    policy = make("brightness", "gamma", "scale", sub_policies=1)
    assert variety(policy.log_weight().exp(), policy.allowed).tolist() == pytest.approx([1.0, 1.0])
    with torch.no_grad():
        policy.base["choice"][1, 0] = math.log(9.0)  # weights .9 and .1
    expected = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1)) / math.log(2)
    assert variety(policy.log_weight().exp(), policy.allowed).tolist() == pytest.approx([1.0, expected], rel=1e-5)


def floors(policy: RelaxedPolicy, **settings: float) -> Floors:
    return Floors(policy, **{"group": 0.6, "operation": 0.4, "variety": 0.6, "abrupt": 0.1, **settings})


@pytest.mark.parametrize("plan", [None, free_plan(2)])
def test_strengths_are_measured_in_those_before_learning(plan: object) -> None:
    policy = make(**({} if plan is None else {"plan": plan}))
    found = floors(policy).strengths(policy)
    assert set(found) == {"pose", "shape", "tone", "texture", "occlusion"}
    assert [value.item() for value in found.values()] == pytest.approx([1.0] * 5)


def test_a_policy_above_its_floors_is_left_alone() -> None:
    policy = make(spread=0.1)
    keep = floors(policy, abrupt=1.0)
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    keep.restore(policy)
    assert all(torch.equal(value, before[name]) for name, value in policy.state_dict().items())


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_what_has_sunk_is_put_back(temperature: float) -> None:
    """Far below, in every way at once, and on one side of the identity: some steps' worth of it."""
    policy = make(spread=0.3, sub_policies=8, temperature=temperature)
    start = {name: effect.strength for name, effect in operation_effects(make(sub_policies=8)).items()}
    keep = floors(policy)
    with torch.no_grad():
        policy.base["gate"] -= 1.0
        policy.base["width"] -= 1.0
        policy.base["centre"] += 0.3
        policy.base["choice"][2, [o.name for o in policy.operations].index("invert")] += 3.0
    low = operation_effects(policy)
    assert low["brightness"].strength < 0
    for _ in range(60):
        keep.restore(policy)
    effects = operation_effects(policy)
    for operation in policy.operations:
        if carries(operation):
            assert effects[operation.name].strength > 0.4 * start[operation.name], operation.name
    assert all(value > 0.6 for value in keep.strengths(policy).values())
    assert sum(effects[o.name].chance for o in policy.operations if not carries(o)) < 0.1
    assert variety(policy.log_weight().exp(), policy.allowed).min() > 0.6
    # Back by the shortest way: not far above either.
    assert min(keep.strengths(policy).values()) < 0.7


def test_bounds_of_all_or_nothing_are_approached_and_not_chased() -> None:
    policy = make(spread=0.3)
    keep = floors(policy, abrupt=0.0, variety=0.99, group=0.0, operation=0.0)
    for _ in range(200):
        keep.restore(policy)
    effects = operation_effects(policy)
    assert sum(effects[o.name].chance for o in policy.operations if not carries(o)) < 1e-3
    assert variety(policy.log_weight().exp(), policy.allowed).min() > 0.98
    assert all(value.abs().max() < 30 for value in policy.state_dict().values())


def test_floors_without_operations_to_carry_them_ask_for_nothing() -> None:
    policy = make("invert", "posterize")
    keep = floors(policy)
    assert keep.strengths(policy) == {}
    for _ in range(60):
        keep.restore(policy)
    assert sum(effect.chance for effect in operation_effects(policy).values()) < 0.1


def test_operations_that_no_stage_may_choose_have_no_floor() -> None:
    """Their strength is 0 of 0 for ever: nothing of it may reach the others."""
    policy = make("rotate", "brightness", plan=(("pose",),))
    floors = Floors(policy, group=0.6, operation=0.4, variety=0.6, abrupt=0.1)
    assert set(floors.strengths(policy)) == {"pose"}
    with torch.no_grad():
        policy.base["gate"].fill_(-3.0)
    floors.restore(policy)
    assert floors.strengths(policy)["pose"] > 0.1
    assert all(torch.isfinite(p).all() for p in policy.parameters())

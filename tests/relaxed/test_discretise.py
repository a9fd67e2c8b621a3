"""From the simple form to choices: the composed warp and curve are kept, what does nothing is not chosen."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from policy_search.relaxed.catalogue import operations
from policy_search.relaxed.discretise import discretise
from policy_search.relaxed.operations import PLAN, Group, Plan, simple_plan
from policy_search.relaxed.policy import SHUT, RelaxedPolicy
from tests.relaxed.textures import culture

NAMES = ("rotate", "scale", "stretch_x", "stretch_y", "brightness", "contrast", "gamma", "gaussian_blur", "sharpen")


def simple(**magnitudes: float) -> RelaxedPolicy:
    """The simple form with some magnitudes off their rest."""
    policy = RelaxedPolicy(
        operations(*NAMES), sub_policies=1, plan=simple_plan(NAMES), generator=torch.Generator(), spread=0.0,
        start="identity",
    )  # fmt: skip
    with torch.no_grad():
        for k, operation in enumerate(policy.operations):
            if operation.name in magnitudes:
                policy.base["centre"][k] = operation.magnitude.raw_centre(magnitudes[operation.name])
            elif operation.pixels is not None:
                policy.base["gate"][k] = SHUT
    return policy


def choices(
    wanted: dict[str, float],
    plan: Plan = PLAN,
    *,
    smoothing: float | None = None,
    form: RelaxedPolicy | None = None,
    asked: list[dict[str, float]] | None = None,
    **magnitudes: float,
) -> dict[str, float]:
    """What is chosen, with magnitudes; the images prefer the choices of `wanted` and count deviations from them.

    `form` is the simple form, the one with these magnitudes if not given; `asked` takes what the images were asked of;
    `smoothing` is the mismatch of images that are moved by part of a pixel and not warped otherwise.
    """
    policy = RelaxedPolicy(
        operations(*NAMES, "horizontal_flip"), sub_policies=3, plan=plan, generator=torch.Generator(), spread=0.0,
        start="identity",
    )  # fmt: skip

    def made(candidate: RelaxedPolicy) -> dict[str, float]:
        table = candidate.table()
        found = {}
        for stage in range(candidate.stages):
            k = int(table.weight[0, stage].argmax())
            if table.weight[0, stage, k] > 0.9 and table.gate[0, stage, k] > 0.9:
                found[candidate.operations[k].name] = ((table.low + table.high) / 2)[0, stage, k].item()
        return found

    def mismatch_of(candidate: RelaxedPolicy, count: int, *, shifted: bool = False) -> float:
        if asked is not None:
            asked.append(made(candidate))
        if shifted and smoothing is not None:
            return smoothing
        return float(len(set(made(candidate)) ^ set(wanted)))

    image = torch.from_numpy(culture(0)[0])[None, None].float() / 255
    discretise(form or simple(**magnitudes), policy, mismatch_of, image, 12 / 255)
    return made(policy)


def test_two_stretches_become_one_scale_with_the_composed_length() -> None:
    found = choices({"scale": 0}, stretch_x=0.8, stretch_y=0.75, scale=0.8)
    assert set(found) == {"scale"}
    # Least squares of the squared lengths .64^2 and .6^2.
    assert found["scale"] == pytest.approx(math.sqrt((0.64**2 + 0.6**2) / 2), rel=0.01)


def test_a_stretch_stays_a_stretch_whatever_turn_comes_before() -> None:
    found = choices({"stretch_x": 0}, rotate=40.0, stretch_x=1.5)
    assert found == {"stretch_x": pytest.approx(1.5, rel=0.01)}


def test_a_turn_that_the_images_ask_for_is_kept() -> None:
    found = choices({"rotate": 0, "stretch_x": 0}, rotate=25.0, stretch_x=1.5)
    assert found == {"rotate": pytest.approx(25, abs=1), "stretch_x": pytest.approx(1.5, rel=0.01)}


def test_a_warp_that_brings_what_smoothing_brings_is_dropped() -> None:
    assert choices({"scale": 0}, smoothing=0.0, scale=0.8) == {}
    assert set(choices({"scale": 0}, smoothing=1.0, scale=0.8)) == {"scale"}
    assert set(choices({"rotate": 0}, smoothing=1.0, rotate=4.0)) == {"rotate"}
    for warp in ({"scale": 1.04}, {"rotate": 2.5}):
        assert choices(dict.fromkeys(warp, 0.0), smoothing=1.0, **warp) == {}, "next to none"


def test_no_warp_is_tried_where_none_acts() -> None:
    """That is for the simple form with warps; here it would only cost."""
    still = simple(rotate=25.0, gaussian_blur=2.0)
    moved = copy.deepcopy(still)
    with torch.no_grad():
        for k, operation in enumerate(still.operations):
            if operation.matrix is not None:
                still.base["gate"][k] = SHUT
    tried: list[set[str]] = []
    for form in (still, moved):
        asked: list[dict[str, float]] = []
        choices({"gaussian_blur": 0}, form=form, asked=asked)
        tried.append({name for made in asked for name in made})
    assert tried[0] == {"brightness", "gaussian_blur"}  # of a simple form that rounds, to see whether it is one
    assert tried[1] >= {"gaussian_blur", "rotate", "scale"}


def test_tone_is_the_operation_nearest_to_the_composed_curve() -> None:
    assert choices({"gamma": 0}, gamma=1.5) == {"gamma": pytest.approx(1.5, rel=0.01)}
    # About the mean of the image, contrast and a brightness that makes up for it.
    assert choices({"contrast": 0}, contrast=0.6) == {"contrast": pytest.approx(0.6, rel=0.02)}
    assert choices({}, brightness=0.25) == {"brightness": pytest.approx(0.25, abs=0.01)}


def test_two_tone_stages_take_two_operations() -> None:
    plan = ((Group.SHAPE,), (Group.TONE,), (Group.TONE,), (Group.TEXTURE,))
    found = choices({"brightness": 0, "contrast": 0}, plan=plan, brightness=0.2, contrast=0.6)
    # Gamma is nearly as good as brightness here, and either may go with the contrast that is needed.
    assert len(found) == 2
    assert "contrast" in found


def test_texture_is_what_the_images_say() -> None:
    assert choices({"gaussian_blur": 0}, gaussian_blur=2.0, sharpen=0.05) == {
        "gaussian_blur": pytest.approx(2.0, rel=0.01)
    }


def test_nothing_is_chosen_for_nothing() -> None:
    assert choices({}) == {}

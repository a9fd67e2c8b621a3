"""Fused and soft application: equal values, composed products, and gradients."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from policy_search.relaxed import devices, tone, warp
from policy_search.relaxed.application import apply, compose_curve, compose_matrix, fusible, resolve
from policy_search.relaxed.catalogue import CATALOGUE, operations
from policy_search.relaxed.operations import PLAN, Group, Plan, free_plan, simple_plan
from policy_search.relaxed.policy import Draw, RelaxedPolicy
from tests.relaxed.samples import batch
from tests.relaxed.test_twins import same_distribution

TWICE: Plan = ((Group.POSE,), (Group.SHAPE,), (Group.TONE,), (Group.TONE,))
MIXED: Plan = ((Group.POSE,), (Group.SHAPE, Group.TONE), (Group.TONE, Group.TEXTURE, Group.OCCLUSION))
# These draw pixels or places from the generator, which the two forms use in another order.
DRAWS_WITHIN = {"gaussian_noise", "illumination", "cutout", "copy_paste"}
STEADY = tuple(o.name for o in CATALOGUE if o.name not in DRAWS_WITHIN)
GEOMETRY = [k for k, o in enumerate(operations(*STEADY)) if o.matrix is not None]


def make(
    names: tuple[str, ...] = (), *, plan: Plan = PLAN, sub_policies: int = 3, seed: int = 0, spread: float = 1.0
) -> RelaxedPolicy:
    generator = torch.Generator().manual_seed(seed)
    return RelaxedPolicy(operations(*names), sub_policies=sub_policies, plan=plan, generator=generator, spread=spread)


def both(policy: RelaxedPolicy, data: tuple[Tensor, ...], draw: Draw) -> list[tuple[Tensor, Tensor]]:
    """Image and mask of the fused and of the soft application of one draw."""
    seeds = (torch.Generator().manual_seed(0) for _ in range(2))
    return [
        apply(policy, *data[:2], seed, fill=0.4, draw=draw, application=form)
        for seed, form in zip(seeds, ("fused", "soft"), strict=True)
    ]


def moved_twice(policy: RelaxedPolicy, draw: Draw) -> Tensor:
    """(B,) bool: more than one geometric operation acts."""
    acting = (resolve(policy, draw).on[..., GEOMETRY] > 0.5).any(2)
    return acting.sum(1) > 1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("plan", [PLAN, TWICE], ids=["plan", "twice"])
def test_forced_gates_and_choices_give_the_same_images(plan: Plan, channels: int) -> None:
    """48 draws on oblong images, two thirds of the gates forced open; where two warps act,
    soft resamples twice and blurs a little more."""
    policy, data = make(STEADY, plan=plan), batch(channels, count=48)
    draw = policy.draw(48, torch.Generator().manual_seed(1))
    draw = replace(draw, logistic=torch.where(draw.logistic > -1, 20.0, -20.0))
    (fused, fused_mask), (soft, soft_mask) = both(policy, data, draw)
    gap = (fused - soft).abs().mean((1, 2, 3)) * 255
    wrong = (fused_mask != soft_mask).float().mean((1, 2, 3))
    twice = moved_twice(policy, draw)
    assert 8 < twice.sum() < 40
    assert gap[~twice].max() < 0.01
    assert wrong[~twice].max() == 0
    # Measured: 0.16 to 0.22 grey levels in the mean, 2.2 at most (after autocontrast), 0.07 % of the masks.
    assert 0 < gap[twice].mean() < 0.4
    assert gap[twice].max() < 4
    assert wrong[twice].mean() < 0.002


@pytest.mark.parametrize("plan", [free_plan(1), MIXED], ids=["one free stage", "mixed"])
@pytest.mark.parametrize("reads", [True, False], ids=["gathered", "dense"])
def test_a_stage_of_several_kinds_does_one_of_them(plan: Plan, reads: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As above, for stages that choose between geometry, tone and texture; also where nothing may be read."""
    monkeypatch.setattr(devices, "may_read", lambda device: reads)
    policy, data = make(STEADY, plan=plan, sub_policies=20), batch(1, count=64)
    assert fusible(policy)
    draw = policy.draw(64, torch.Generator().manual_seed(1))
    draw = replace(draw, logistic=torch.where(draw.logistic > -1, 20.0, -20.0))
    (fused, fused_mask), (soft, soft_mask) = both(policy, data, draw)
    once = ~moved_twice(policy, draw)
    assert (fused - soft)[once].abs().mean((1, 2, 3)).max() * 255 < 0.01
    assert torch.equal(fused_mask[once], soft_mask[once])
    drawn = {policy.operations[k].group for k in draw.choice.unique().tolist()}
    assert drawn >= {Group.POSE, Group.SHAPE, Group.TONE, Group.TEXTURE}


def test_a_stage_of_which_nobody_draws_texture() -> None:
    policy, data = make(("rotate", "gaussian_blur"), plan=free_plan(1)), batch(1, count=4)
    draw = policy.draw(4, torch.Generator().manual_seed(1))
    draw = replace(draw, choice=torch.zeros_like(draw.choice), logistic=torch.full_like(draw.logistic, 20.0))
    (fused, _), (soft, _) = both(policy, data, draw)
    assert (fused - soft).abs().mean() * 255 < 0.01
    assert (fused - data[0]).abs().mean() * 255 > 1


@pytest.mark.parametrize(
    "plan",
    [free_plan(2), ((Group.TONE,), (Group.POSE,)), ((Group.TEXTURE,), (Group.TONE,))],
    ids=["free", "tone", "texture"],
)
def test_a_plan_out_of_order_is_soft_only(plan: Plan) -> None:
    policy, data = make(plan=plan), batch(1)
    generator = torch.Generator().manual_seed(0)
    assert not fusible(policy)
    with pytest.raises(ValueError, match="geometry before all tone"):
        apply(policy, *data[:2], generator, fill=0.5)
    assert apply(policy, *data[:2], generator, fill=0.5, application="soft")[0].shape == data[0].shape


def test_the_composed_matrix_is_the_product_of_the_drawn_ones() -> None:
    plan: Plan = ((Group.POSE,), (Group.SHAPE,), (Group.POSE, Group.SHAPE), (Group.SHAPE,))
    policy = make(plan=plan)
    draw = policy.draw(64, torch.Generator().manual_seed(2))
    drawn = resolve(policy, draw)
    found = compose_matrix(policy, drawn, draw, (64, 80))
    assert found is not None
    for i in range(64):
        expected = torch.eye(3)
        for stage in range(4):
            k = int(draw.choice[i, stage])
            if policy.raw("gate")[draw.sub_policy[i], stage, k] + draw.logistic[i, stage, k] > 0:
                numbers = (part[i, stage, k][None] for part in (drawn.magnitude, drawn.low))
                noise = draw.noise[i, stage][None]
                expected = policy.operations[k].move(*numbers, noise, (64, 80))[0] @ expected
        torch.testing.assert_close(found[i], expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_composed_curve_is_one_operation_after_the_other(channels: int) -> None:
    """Bent one by one, every entry of the curve; and looked up on the pixels one by one, where each operation counts
    its own levels afresh."""
    policy = make(plan=((Group.TONE,),) * 3)
    (image, mask, _), generator = batch(channels, count=32), torch.Generator().manual_seed(3)
    draw = policy.draw(32, generator)
    drawn = resolve(policy, draw)
    found = compose_curve(policy, drawn, draw, image)
    assert found is not None
    for i in range(32):
        pixels, histogram = image[i : i + 1], tone.histogram(image[i : i + 1])
        curve = tone.identity_curve(pixels)
        for stage in range(3):
            k = int(draw.choice[i, stage])
            operation, noise = policy.operations[k], draw.noise[i : i + 1, stage, : policy.operations[k].noise]
            if drawn.on[i, stage, k] > 0.5:
                magnitude = drawn.magnitude[i : i + 1, stage, k]
                curve = operation.bend(curve, histogram, magnitude, torch.ones(1), noise)
                pixels, _ = operation.apply(
                    pixels, mask[i : i + 1], magnitude, torch.ones(1), generator, 0.5, noise=noise
                )
        assert (found[i] - curve[0]).abs().max() < 1e-6
        assert (tone.apply_curve(image[i : i + 1], found[i : i + 1]) - pixels).abs().mean() * 255 < 0.01


@pytest.mark.parametrize("application", ["fused", "soft"])
def test_a_crop_lies_anywhere_in_what_is_wanted_of_the_image(application: str) -> None:
    """Moved as far as the wanted middle allows, not the context around it, in both forms by the same numbers."""
    policy = make(("crop_resize",), sub_policies=1)
    with torch.no_grad():
        policy.base["gate"].fill_(30.0)
    draw = policy.draw(200, torch.Generator().manual_seed(0))
    low = resolve(policy, draw).low[0, 0, 0].item()
    bright = torch.zeros(200, 1, 96, 96)
    bright[..., 47:49, 47:49] = 1.0
    _, spot = apply(
        policy, bright, bright, torch.Generator(), fill=0.0, size=64, draw=draw, application=application  # type: ignore[arg-type]
    )  # fmt: skip
    places = (torch.arange(64.0) - 31.5) * spot[:, 0].sum(1) / spot.sum((1, 2, 3))[:, None]
    most = (low - 1) / 2 * 64
    assert places.sum(1).abs().max() <= most + 0.5
    assert same_distribution(places.sum(1).detach().round().numpy(), np.trunc(np.linspace(-most, most, 4001)))


def test_a_shift_is_composed_in_front() -> None:
    data = batch(1, (96, 96))
    angle, policy = torch.full((2,), 17.0), make(("scale", "gamma"))
    draw = policy.draw(2, torch.Generator().manual_seed(0))
    draw = replace(draw, logistic=torch.full_like(draw.logistic, 20.0))
    generator, turn = torch.Generator().manual_seed(0), warp.rotation(angle)
    fused = apply(policy, *data[:2], generator, fill=0.4, draw=draw, shift=turn, size=48)
    drawn = resolve(policy, draw)
    factor = drawn.magnitude[:, 0, 0]
    expected = warp.warp(*data[:2], warp.scaling(factor, factor) @ turn, 0.4, 48)
    curve = compose_curve(policy, drawn, draw, expected[0])
    assert curve is not None
    torch.testing.assert_close(fused[0], tone.apply_curve(expected[0], curve), rtol=0, atol=0)
    assert torch.equal(fused[1], expected[1])
    soft = apply(policy, *data[:2], generator, fill=0.4, draw=draw, shift=turn, size=48, application="soft")
    assert 0 < (fused[0] - soft[0]).abs().mean() * 255 < 6
    # A plan without geometry is moved too, and one without anything to move keeps the middle.
    tonal = make(("gamma",))
    moved = apply(tonal, *data[:2], generator, fill=0.4, shift=turn)[1]
    assert torch.equal(moved, warp.warp(*data[:2], turn, 0.4)[1])
    assert torch.equal(apply(tonal, *data[:2], generator, fill=0.4, size=48)[1], warp.centre(data[1], 48))


def test_labels_follow_the_warp_pixel_by_pixel() -> None:
    _, mask, labels = batch(1, (96, 96))
    matrix = warp.translation(torch.tensor([5.0, -7.0]), torch.tensor([-3.0, 2.0])) @ warp.rotation(
        torch.tensor([23.0, -70.0])
    )
    moved = warp.warp_labels(labels, matrix, 48)
    inverse = torch.linalg.inv(matrix.double())
    agree = 0.0
    for i in range(2):
        for y in range(48):
            for x in range(48):
                at = inverse[i] @ torch.tensor([x - 23.5, y - 23.5, 1.0], dtype=torch.float64)
                column, row = (round(v.item() + 47.5) for v in at[:2])
                inside = 0 <= column < 96 and 0 <= row < 96
                agree += moved[i, 0, y, x].item() == (labels[i, 0, row, column].item() if inside else 0.0)
    # Ties midway between two pixels aside.
    assert agree / (2 * 48 * 48) > 0.999
    # The mask of the same warp lies exactly where the labels do.
    assert torch.equal(moved > 0, warp.warp(mask, mask, matrix, 0.4, 48)[1] > 0)


def test_cells_are_pasted_where_the_policy_has_moved_them() -> None:
    policy = make(("rotate", "copy_paste"), plan=simple_plan(("rotate", "copy_paste")))
    data = batch(1, (96, 96), count=4)
    draw = policy.draw(4, torch.Generator().manual_seed(0))
    draw = replace(draw, logistic=torch.full_like(draw.logistic, 20.0))
    image, mask = apply(
        policy, *data[:2], torch.Generator().manual_seed(5), fill=0.4, draw=draw, labels=data[2], size=64
    )
    matrix = compose_matrix(policy, resolve(policy, draw))
    assert matrix is not None
    moved, cells = warp.warp(*data[:2], matrix, 0.4, 64)
    ids = warp.warp_labels(data[2], matrix, 64)
    pasted = (mask - cells)[:, 0] > 0
    changed = ((image - moved).abs() > 1e-3)[:, 0]
    assert pasted.any()
    assert not (changed & (mask[:, 0] == 0)).any()
    for i in range(4):
        donor = (i + 1) % 4
        torch.testing.assert_close(image[i, 0][changed[i]], moved[donor, 0][changed[i]], rtol=0, atol=1e-6)
        # Whole instances: what is pasted of one is all of it that was not a cell before.
        for cell in ids[donor, 0][pasted[i]].unique():
            assert cell > 0
            assert (mask[i, 0][ids[donor, 0] == cell] == 1).all()
    with pytest.raises(ValueError, match="labels"):
        apply(policy, *data[:2], torch.Generator(), fill=0.4, draw=draw)


@pytest.mark.parametrize("stages", [1, 4, 8])
def test_one_warp_and_one_curve_whatever_the_number_of_stages(stages: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One bilinear sampling of the image and one nearest of the mask; a bilinear mask is only there going back."""
    calls: list[str] = []
    sample, look_up = functional.grid_sample, tone.apply_curve

    def counted(*arguments: object, mode: str, **keywords: object) -> Tensor:
        calls.append(mode)
        return sample(*arguments, mode=mode, **keywords)  # type: ignore[arg-type]

    def counted_curve(*arguments: Tensor) -> Tensor:
        calls.append("curve")
        return look_up(*arguments)

    monkeypatch.setattr(functional, "grid_sample", counted)
    monkeypatch.setattr(tone, "apply_curve", counted_curve)
    half: Plan = ((Group.POSE, Group.SHAPE),) * (stages // 2) + ((Group.TONE,),) * (stages // 2)
    policy, data = make(plan=half or ((Group.SHAPE,),)), batch(1)
    apply(policy, *data[:2], torch.Generator().manual_seed(0), fill=0.5)
    assert sorted(calls) == (["bilinear", "nearest"] if stages == 1 else ["bilinear", "curve", "nearest"])
    calls.clear()
    apply(make(plan=((Group.TONE,),) * stages), *data[:2], torch.Generator().manual_seed(0), fill=0.5)
    assert calls == ["curve"]


def ramp(height: int, width: int) -> Tensor:
    """Tells places apart, as a mirror image has the same sum."""
    return torch.linspace(0, 1, height)[:, None] * torch.linspace(0.5, 2, width)


@pytest.mark.parametrize("application", ["fused", "soft"])
@pytest.mark.parametrize("channels", [1, 3])
def test_gradient_reaches_every_learnt_parameter(application: str, channels: int) -> None:
    policy, data = make(sub_policies=1, spread=0.0), batch(channels, count=128)
    image, mask = apply(
        policy, *data[:2], torch.Generator().manual_seed(0), fill=0.5, application=application  # type: ignore[arg-type]
    )  # fmt: skip
    weight = ramp(*image.shape[2:])
    ((image - 0.3).square() * weight + mask * weight).sum().backward()
    learnt = torch.tensor([operation.magnitude is not None for operation in policy.operations])
    single = torch.tensor([o.magnitude is not None and o.magnitude.single for o in policy.operations])
    for name in ("gate", "centre", "width"):
        gradient = policy.base[name].grad
        assert torch.isfinite(gradient).all()
        expected = {"gate": torch.ones_like(learnt), "centre": learnt, "width": learnt & ~single}[name]
        assert torch.equal(gradient != 0, expected), name
    choice = policy.base["choice"].grad
    assert torch.isfinite(choice).all()
    # In the fused form too: of texture only the drawn operation is computed, but its share moves all of the stage's.
    assert torch.equal(choice != 0, policy.allowed)


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_choice_and_gate_gradients_are_those_of_the_linearised_loss(stage: int) -> None:
    """The derivative to `on` of an operation is the slope of the loss as its matrix or curve is mixed in.

    Followed from 0 to 1 in the composed matrix or curve itself (before pixels are put on the grid), which is what the
    fused form differentiates: a central difference of the matrix or curve, contracted with the loss's own gradient to
    it. And the straight-through chain from `on` to the raw numbers is that of softmax and relaxed gate, in closed form.
    """
    policy, data = make(STEADY, sub_policies=1, plan=PLAN[:3]), batch(1, (64, 64), count=6)
    draw = policy.draw(6, torch.Generator().manual_seed(4))
    drawn = resolve(policy, draw)
    on = drawn.on.detach().requires_grad_(True)
    parts = drawn._replace(on=on, magnitude=drawn.magnitude.detach())

    def composed(given: Tensor) -> Tensor:
        made = parts._replace(on=given)
        found = compose_matrix(policy, made) if stage < 2 else compose_curve(policy, made, draw, data[0])
        assert found is not None
        return found

    def loss(given: Tensor) -> Tensor:
        image, mask = warp.warp(*data[:2], given, 0.4) if stage < 2 else (tone.apply_curve(data[0], given), data[1])
        return ((image - 0.3).square() * ramp(64, 64) + mask * ramp(64, 64)).sum()

    joint = composed(on)
    at = joint.detach().requires_grad_(True)
    (outer,) = torch.autograd.grad(loss(at), at)
    (found,) = torch.autograd.grad((joint * outer).sum(), on)
    for k, _ in policy.stage_operations[stage]:
        ends = []
        for value in (0.0, 1.0):
            with torch.no_grad():
                mixed = on.clone()
                # Alone: with two at once a curve would be clipped to [0, 1], where the gradient passes all the same.
                mixed[:, stage] = 0.0
                mixed[:, stage, k] = value
                ends.append((composed(mixed) * outer).flatten(1).sum(1))
        slope = ends[1] - ends[0]
        torch.testing.assert_close(found[:, stage, k], slope, rtol=1e-3, atol=1e-4 * outer.abs().sum().item())


def test_on_passes_straight_through_softmax_and_relaxed_gate() -> None:
    policy = make(sub_policies=1)
    draw = policy.draw(5, torch.Generator().manual_seed(0))
    weights = torch.randn(resolve(policy, draw).on.shape, generator=torch.Generator().manual_seed(1))
    drawn = resolve(policy, draw)
    chosen = functional.one_hot(draw.choice, len(policy.operations))
    logit = (policy.raw("gate")[0] + draw.logistic).detach()
    is_open = (logit > 0).float()
    assert torch.equal(drawn.on.detach(), chosen * is_open)
    (drawn.on * weights).sum().backward()
    share, relaxed = policy.table().weight[0].detach(), torch.sigmoid(logit)
    pull = weights * is_open
    to_choice = (share * (pull - (share * pull).sum(-1, keepdim=True))).sum(0)
    torch.testing.assert_close(policy.base["choice"].grad, to_choice, rtol=1e-4, atol=1e-6)
    to_gate = (weights * chosen * relaxed * (1 - relaxed)).sum((0, 1))
    torch.testing.assert_close(policy.base["gate"].grad, to_gate, rtol=1e-4, atol=1e-6)


def test_the_mask_may_be_left_without_a_gradient() -> None:
    policy, data = make(("rotate",)), batch(1)
    draw = policy.draw(2, torch.Generator().manual_seed(0))
    outs = [
        apply(policy, *data[:2], torch.Generator().manual_seed(0), fill=0.5, draw=draw, mask_gradient=wanted)
        for wanted in (True, False)
    ]
    assert torch.equal(outs[0][1], outs[1][1])
    assert (outs[0][0] - outs[1][0]).abs().max() == 0
    assert outs[0][1].requires_grad
    assert not outs[1][1].requires_grad


def test_both_sides_of_a_hole_send_a_gradient_to_its_range() -> None:
    policy = make(("cutout",), sub_policies=1)
    with torch.no_grad():
        policy.base["gate"].fill_(30.0)
    draw = policy.draw(4, torch.Generator().manual_seed(0))
    drawn = resolve(policy, draw)
    assert (drawn.across != drawn.magnitude).any()
    for part in (drawn.magnitude, drawn.across):
        (to_centre,) = torch.autograd.grad(part.sum(), policy.base["centre"], retain_graph=True)
        assert to_centre.abs().min() > 0

"""Texture and occlusion off the CPU (every operation on the whole batch) beside the CPU's way, both run on the CPU."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from policy_search.relaxed import blur, devices, tone
from policy_search.relaxed.application import apply
from policy_search.relaxed.catalogue import CATALOGUE, operations
from policy_search.relaxed.occlusion import paste_neighbour
from policy_search.relaxed.operations import PLAN, Group, Plan
from policy_search.relaxed.policy import RelaxedPolicy
from tests.relaxed.samples import batch
from tests.relaxed.test_twins import same_distribution

RANDOM = {"gaussian_noise", "illumination", "cutout", "copy_paste"}
STEADY = tuple(o.name for o in CATALOGUE if o.name not in RANDOM)


def make(names: tuple[str, ...], plan: Plan = PLAN) -> RelaxedPolicy:
    generator = torch.Generator().manual_seed(0)
    return RelaxedPolicy(operations(*names), sub_policies=3, plan=plan, generator=generator, spread=1.0)


def applied(
    policy: RelaxedPolicy, data: tuple[Tensor, ...], seed: int = 0, labels: bool = False
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Image, mask, and the gradients of a loss of both to all parameters. Nine of ten gates are open."""
    generator = torch.Generator().manual_seed(seed)
    draw = policy.draw(len(data[0]), generator)
    draw = replace(draw, logistic=draw.logistic + 2.2)
    ids = data[2] if labels else None
    image, mask = apply(policy, *data[:2], generator, fill=0.4, size=48, draw=draw, labels=ids)
    weight = torch.linspace(0, 1, 48)[:, None] * torch.linspace(0.5, 2, 48)
    loss = ((image - 0.3).square() * weight).sum() + (mask * weight).sum()
    gradients = torch.autograd.grad(loss, list(policy.parameters()), allow_unused=True)
    return image, mask, [torch.zeros(1) if g is None else g for g in gradients]


@pytest.mark.parametrize("channels", [1, 3])
def test_both_ways_have_the_same_values_and_gradients(channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has no randomness within: all geometry and tone, blur and sharpening."""
    policy, data = make(STEADY), batch(channels, (96, 80), count=24)
    one = applied(policy, data)
    monkeypatch.setattr(devices, "may_read", lambda device: False)
    other = applied(policy, data)
    # Blurs are summed in another order, with weights of 0 for what is not reached: ties of rounding.
    assert ((one[0] - other[0]).abs() > 1e-3).float().mean() < 1e-4
    assert torch.equal(one[1], other[1])
    for a, b in zip(one[2], other[2], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 * a.abs().max().item())


@pytest.mark.parametrize("name", sorted(RANDOM))
def test_both_ways_change_images_alike(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What draws within: mean, contrast and covered area of 600 images, half of which draw another operation."""
    policy = make((name, "sharpen"), plan=((Group.TEXTURE, Group.OCCLUSION),))
    picture = batch(1, (48, 48), count=2, stretch=1)
    data = tuple(part.repeat(300, 1, 1, 1) for part in picture)
    found = []
    for reads in (True, False):
        monkeypatch.setattr(devices, "may_read", lambda device, reads=reads: reads)
        image, mask, _ = applied(policy, data, seed=int(reads), labels=True)
        levels = image.detach() * 255
        found.append((levels.mean((1, 2, 3)), levels.std((1, 2, 3)), mask.detach().mean((1, 2, 3))))
    for ours, theirs in zip(*found, strict=True):
        assert same_distribution(ours.numpy().round(2), theirs.numpy().round(2))


@pytest.mark.parametrize("name", sorted(RANDOM - {"copy_paste"}))
def test_where_all_images_draw_one_operation_both_ways_are_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same random numbers in the same order, so the same values and gradients. (Pasting has a longer table.)"""
    policy, data = make((name,)), batch(3, (48, 48), count=6)
    one = applied(policy, data)
    monkeypatch.setattr(devices, "may_read", lambda device: False)
    other = applied(policy, data)
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])
    for a, b in zip(one[2], other[2], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * a.abs().max().item())


def test_a_blur_of_fixed_reach_is_the_blur(monkeypatch: pytest.MonkeyPatch) -> None:
    image = batch(1, (48, 64))[0]
    for value in (0.0, 0.5, 1.7, blur.LARGEST_SIGMA):
        found = []
        for reads in (True, False):
            monkeypatch.setattr(devices, "may_read", lambda device, reads=reads: reads)
            sigma = torch.full((2,), value, requires_grad=True)
            blurred = blur.gaussian_blur(image, sigma)
            found.append((blurred, torch.autograd.grad((blurred * image).sum(), sigma)[0]))
        assert ((found[0][0] - found[1][0]).abs() > 1e-3).float().mean() < 1e-3
        torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-3, atol=1e-4)


def test_levels_are_counted_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    image = batch(3)[0].requires_grad_()
    curve = torch.rand(2, 3, 256, generator=torch.Generator().manual_seed(0)).requires_grad_()
    found = []
    for reads in (True, False):
        monkeypatch.setattr(devices, "may_read", lambda device, reads=reads: reads)
        looked_up = tone.apply_curve(image, curve)
        found.append((tone.histogram(image), *torch.autograd.grad((looked_up * image.detach()).sum(), (image, curve))))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_pasting_has_room_for_every_id(monkeypatch: pytest.MonkeyPatch) -> None:
    image, _, labels = batch(1)
    monkeypatch.setattr(devices, "may_read", lambda device: False)
    high = torch.where(labels > 0, labels + 60000, 0.0)
    _, indicator = paste_neighbour(image, high, torch.Generator().manual_seed(0), share=1.0)
    assert torch.equal(indicator, (labels > 0).float().roll(-1, 0))


def test_the_fused_draw_reaches_only_the_drawn_magnitude(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, data = make(("gaussian_blur", "sharpen")), batch(1, (64, 64))
    monkeypatch.setattr(devices, "may_read", lambda device: False)
    generator = torch.Generator().manual_seed(0)
    draw = policy.draw(2, generator)
    draw = replace(draw, choice=torch.zeros_like(draw.choice))
    image, _ = apply(policy, *data[:2], generator, fill=0.4, draw=draw)
    (to_centre,) = torch.autograd.grad((image - 0.3).square().sum(), policy.base["centre"])
    assert to_centre[0] != 0
    assert to_centre[1] == 0

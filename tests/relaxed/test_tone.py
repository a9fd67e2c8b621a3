"""Histograms, the look-up of curves with its gradients, and the composition of tone operations into one curve."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from policy_search.relaxed import tone
from policy_search.relaxed.catalogue import operations
from policy_search.relaxed.operations import Group, Operation
from tests.relaxed.samples import SIZES, batch, magnitudes

TONE = [operation for operation in operations() if operation.group is Group.TONE]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_histogram_counts_every_pixel_at_its_level(channels: int, size: tuple[int, int]) -> None:
    image = batch(channels, size)[0]
    shares = tone.histogram(image.requires_grad_())
    assert not shares.requires_grad
    for b, c in itertools.product(range(2), range(channels)):
        expected = np.bincount((image[b, c].detach().numpy() * 255).round().astype(int).ravel(), minlength=256)
        assert np.allclose(shares[b, c].numpy() * size[0] * size[1], expected, atol=1e-3)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_curve_is_looked_up_and_its_gradient_is_the_sum_at_each_level(channels: int) -> None:
    image = batch(channels)[0]
    curve = torch.rand(2, channels, 256, generator=torch.Generator().manual_seed(0))
    weight = torch.randn(image.shape, generator=torch.Generator().manual_seed(1))
    ours, theirs = curve.clone().requires_grad_(), curve.clone().requires_grad_()
    level = (image * 255).round().long().flatten(2)
    looked_up = tone.apply_curve(image, ours)
    expected = theirs.gather(2, level).reshape(image.shape)
    assert torch.equal(looked_up, expected)
    (looked_up * weight).sum().backward()
    (expected * weight).sum().backward()
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-4)


def test_the_gradient_to_the_image_is_the_slope_of_the_curve() -> None:
    image = (torch.arange(256.0) / 255).reshape(1, 1, 16, 16).requires_grad_()
    curve = tone.identity_curve(image) ** 2
    tone.apply_curve(image, curve).sum().backward()
    slope = 2 * image.detach()
    assert torch.allclose(image.grad[0, 0, 1:-1], slope[0, 0, 1:-1], atol=1e-4)
    # One-sided at the ends: half a level off.
    assert image.grad[0, 0, 0, 0].item() == pytest.approx(1 / 255, rel=1e-3)
    assert image.grad[0, 0, -1, -1].item() == pytest.approx(2 - 1 / 255, rel=1e-3)


@pytest.mark.parametrize("first", [pytest.param(operation, id=operation.name) for operation in TONE])
@pytest.mark.parametrize("channels", [1, 3])
def test_two_operations_on_one_curve_are_the_two_one_after_the_other(first: Operation, channels: int) -> None:
    """The second operation sees the histogram of the first's image, though it is only told that of the input."""
    image, mask, _ = batch(channels, stretch=3)
    ones = torch.ones(2)
    histogram = tone.histogram(image)
    for second in TONE:
        for a, b in ((-1, 0), (0, -1)):
            amounts = (magnitudes(first)[a] * ones, magnitudes(second)[b] * ones)
            curve = tone.identity_curve(image)
            turn = image
            for seed, (operation, amount) in enumerate(zip((first, second), amounts, strict=True)):
                noise = torch.rand(2, operation.noise, generator=torch.Generator().manual_seed(seed))
                curve = operation.bend(curve, histogram, amount, ones, noise)
                turn, _ = operation.apply(turn, mask, amount, ones, torch.Generator().manual_seed(seed), 0.0)
            difference = (tone.apply_curve(image, curve) - turn).abs() * 255
            assert difference.max() < 1e-3, second.name


def test_flat_and_nearly_flat_images_survive_every_tone_operation() -> None:
    for level, other in ((0, 0), (101, 101), (255, 255), (0, 255), (254, 255), (7, 8)):
        image = torch.full((1, 1, 16, 16), level / 255)
        image[..., 3:5] = other / 255
        for operation in TONE:
            magnitude = torch.tensor(magnitudes(operation)[-1:], requires_grad=True)
            gate = torch.ones(1, requires_grad=True)
            changed, _ = operation.apply(image, image, magnitude, gate, torch.Generator().manual_seed(0), 0.0)
            assert torch.isfinite(changed).all()
            (changed.sum() + 0 * (magnitude + gate).sum()).backward()
            assert torch.isfinite(magnitude.grad).all()
            assert torch.isfinite(gate.grad).all()

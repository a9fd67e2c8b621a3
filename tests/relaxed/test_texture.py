"""Closed gradients of blur, sharpening, noise, light and holes, against torch's own of the same formulas in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from policy_search.relaxed import blur, occlusion, texture, tone

SIZES = [(64, 96), (37, 50), (20, 7)]
Formula = Callable[[Tensor, Tensor], Tensor]


def inputs(size: tuple[int, int], channels: int, amount: float) -> tuple[Tensor, Tensor]:
    """Images away from black and white, on the grid, and an amount for each."""
    generator = torch.Generator().manual_seed(0)
    image = (60 + 130 * torch.rand(3, channels, *size, generator=generator)).round() / 255
    return image, amount * torch.tensor([0.5, 1.0, 1.4])


def compare(ours: Formula, theirs: Formula, image: Tensor, amount: Tensor) -> None:
    """Equal values up to rounding to grey levels, and equal gradients."""
    parts = [part.clone().requires_grad_() for part in (image, amount)]
    doubles = [part.double().requires_grad_() for part in (image, amount)]
    found, expected = ours(*parts), theirs(*doubles)
    assert (found - expected.clamp(0, 1)).abs().max() <= 0.501 / 255
    weight = torch.randn(image.shape, generator=torch.Generator().manual_seed(1))
    for a, b in zip(
        torch.autograd.grad(found, parts, weight),
        torch.autograd.grad(expected, doubles, weight.double()),
        strict=True,
    ):
        torch.testing.assert_close(a.double(), b, rtol=1e-3, atol=1e-4 * b.abs().max().item())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("sigma", [0.2, 1.3])
def test_blur(size: tuple[int, int], channels: int, sigma: float) -> None:
    image, amount = inputs(size, channels, sigma)

    def formula(image: Tensor, amount: Tensor) -> Tensor:
        radius = int(blur.blur_radius(amount.detach()).max())
        offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
        weights = torch.exp(-0.5 * (offsets / amount[:, None]) ** 2)
        weights = weights * (offsets.abs() <= blur.blur_radius(amount.detach().float()).double()[:, None])
        weights = weights / weights.sum(1, keepdim=True)
        padded = functional.pad(image, (radius,) * 4, mode="reflect").transpose(0, 1)
        down = functional.conv2d(padded, weights[:, None, :, None], groups=3)
        return functional.conv2d(down, weights[:, None, None, :], groups=3).transpose(0, 1)

    compare(blur.gaussian_blur, formula, image, amount)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_sharpening(size: tuple[int, int], channels: int) -> None:
    image, amount = inputs(size, channels, 0.1)

    def formula(image: Tensor, amount: Tensor) -> Tensor:
        padded = functional.pad(image, (1, 1, 1, 1), mode="reflect")
        kernel = -torch.ones(channels, 1, 3, 3, dtype=torch.float64)
        kernel[..., 1, 1] += 9
        return image + tone.columns(amount) * functional.conv2d(padded, kernel, groups=channels)

    image = (0.5 + 0.2 * (image - 0.5)).mul(255).round() / 255
    compare(texture.sharpen, formula, image, amount)


@pytest.mark.parametrize("channels", [1, 3])
def test_noise(channels: int) -> None:
    image, amount = inputs(SIZES[0], channels, 0.03)
    field = torch.randn(3, 1, *SIZES[0], generator=torch.Generator().manual_seed(5)).double()
    parts = [part.clone().requires_grad_() for part in (image, amount)]
    noisy = texture.gaussian_noise(*parts, torch.Generator().manual_seed(5))
    weight = torch.randn(image.shape, generator=torch.Generator().manual_seed(1)).double()
    to_image, to_amount = torch.autograd.grad(noisy, parts, weight.float())
    assert torch.equal(to_image, weight.float())
    torch.testing.assert_close(to_amount.double(), (field * weight).sum((1, 2, 3)), rtol=1e-4, atol=1e-3)
    # Truncated towards zero, in whole grey levels.
    levels = ((noisy - image).detach().double() * 255).round()
    assert (levels == torch.trunc(tone.columns(amount).double() * field * 255)).double().mean() > 0.9999


@pytest.mark.parametrize("channels", [1, 3])
def test_light(channels: int) -> None:
    image, amount = inputs(SIZES[0], channels, -0.1)
    angle = torch.tensor([0.3, 2.0, 4.0])

    def formula(image: Tensor, amount: Tensor) -> Tensor:
        y, x = (torch.linspace(0, 1, side, dtype=torch.float64) for side in SIZES[0])
        rise = torch.cos(angle.double())[:, None, None] * x + torch.sin(angle.double())[:, None, None] * y[:, None]
        return image * (1 + tone.columns(amount) * (2 * rise[:, None] - 1))

    compare(lambda image, amount: texture.illuminate(image, amount, angle), formula, image, amount)


@pytest.mark.parametrize("channels", [1, 3])
def test_holes(channels: int) -> None:
    """Also half open, where the gradient to the gate is looked for."""
    generator = torch.Generator().manual_seed(0)
    image, mask, indicator = (torch.rand(2, c, 12, 9, generator=generator).requires_grad_() for c in (channels, 1, 1))
    found = occlusion.occlude(image, mask, indicator, 0.3)
    expected = image + indicator * (0.3 - image), mask * (1 - indicator)
    weights = [torch.randn(part.shape, generator=generator) for part in expected]
    every = (image, mask, indicator)
    for used in ([0, 1], [0], [1]):
        ours, theirs = (
            torch.autograd.grad([o[i] for i in used], every, [weights[i] for i in used], True, allow_unused=True)
            for o in (found, expected)
        )
        for a, b in zip(ours, theirs, strict=True):
            assert (a is None) == (b is None)
            if a is not None:
                torch.testing.assert_close(a, b)
    rows, columns = (torch.rand(2, n, generator=generator).requires_grad_() for n in (12, 9))
    outer, weight = occlusion._Outer.apply(rows, columns), weights[1]
    plain = rows[:, None, :, None] * columns[:, None, None, :]
    assert torch.equal(outer, plain)
    for a, b in zip(*(torch.autograd.grad(o, (rows, columns), weight) for o in (outer, plain)), strict=True):
        torch.testing.assert_close(a, b)


def test_a_switch_is_exact_at_both_ends() -> None:
    before, after = torch.rand(2, 2, 1, 8, 8, generator=torch.Generator().manual_seed(0)).unbind()
    switched = tone.switch(before, after, torch.tensor([0.0, 1.0]))
    assert torch.equal(switched[0], before[0])
    assert torch.equal(switched[1], after[1])

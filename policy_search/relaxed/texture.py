"""Differentiable texture: sharpening, noise and uneven light on 8-bit images held as floats (blur.py has the blur).

Every function takes images (B, C, H, W) float in [0, 1] whose values are multiples of 1/255, one magnitude per image
(B,), and returns the same shape, range and grid: what Albumentations gives on the uint8 image, rounding included.
Rounding passes the gradient straight through.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from policy_search.relaxed.tone import LEVELS, columns, per_image, quantise_


def gaussian_noise(image: Tensor, deviation: Tensor, generator: torch.Generator) -> Tensor:
    """Add one field of normal noise to all channels; 0 is the identity. `deviation` is in units of [0, 1]."""
    batch, _, height, width = image.shape
    field = torch.randn(batch, 1, height, width, generator=generator, device=image.device, dtype=image.dtype)
    with torch.no_grad():
        # Albumentations truncates the noise itself, towards zero, before it adds: that costs some of its variance. Via
        # int, which a CPU does three times as fast as trunc.
        noise = (columns(deviation) * field).mul_(LEVELS).int().to(image.dtype).div_(LEVELS)
        value = quantise_(image + noise, "round")
    return _steered(value, image, deviation, field, lambda gradient: gradient)


def sharpen(image: Tensor, alpha: Tensor) -> Tensor:
    """Add `alpha` times the 3 x 3 Laplacian (nine times the pixel less the sum of all nine), border reflected without
    its edge; 0 is the identity."""
    with torch.no_grad():
        padded = functional.pad(image, (1, 1, 1, 1), mode="reflect")
        across = (padded[..., :-2] + padded[..., 1:-1]).add_(padded[..., 2:])
        around = (across[:, :, :-2] + across[:, :, 1:-1]).add_(across[:, :, 2:])
        laplacian = (9 * image).sub_(around)
        value = quantise_((columns(alpha) * laplacian).add_(image), "round")
    return _steered(value, image, alpha, laplacian, lambda gradient: _sharpen_back(gradient, alpha.detach()))


def _sharpen_back(gradient: Tensor, alpha: Tensor) -> Tensor:
    """The transpose of sharpening."""
    around = gradient
    for axis in (2, 3):
        last = around.shape[axis] - 1
        summed = around.clone()
        summed.narrow(axis, 1, last).add_(around.narrow(axis, 0, last))
        summed.narrow(axis, 0, last).add_(around.narrow(axis, 1, last))
        # The pixels next to the border were read a second time for what lies beyond it.
        summed.select(axis, 1).add_(around.select(axis, 0))
        summed.select(axis, last - 1).add_(around.select(axis, last))
        around = summed
    return (9 * gradient).sub_(around).mul_(columns(alpha)).add_(gradient)


def _steered(
    value: Tensor, image: Tensor, amount: Tensor, direction: Tensor, back: Callable[[Tensor], Tensor]
) -> Tensor:
    """`value` (B, C, H, W) with gradients to `amount` (B,), along `direction` (B, C or 1, H, W), and by `back` to
    `image`: what is known in closed form need not be recorded step by step, with a pass over all pixels for each."""
    return _Steered.apply(value, image, amount, direction, back)  # type: ignore[no-any-return,no-untyped-call]


class _Steered(torch.autograd.Function):
    """See `_steered`."""

    @staticmethod
    def forward(
        ctx: Any, value: Tensor, image: Tensor, amount: Tensor, direction: Tensor, back: Callable[[Tensor], Tensor]
    ) -> Tensor:
        ctx.save_for_backward(direction)
        ctx.back = back
        return value.view_as(value)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor | None, Tensor | None, None, None]:
        (direction,) = ctx.saved_tensors
        to_image = ctx.back(gradient) if ctx.needs_input_grad[1] else None
        to_amount = None
        if ctx.needs_input_grad[2]:
            shared = gradient.sum(1, keepdim=True) if direction.shape[1] < gradient.shape[1] else gradient
            to_amount = per_image(direction, shared)
        return None, to_image, to_amount, None, None


def illumination(image: Tensor, intensity: Tensor, generator: torch.Generator) -> Tensor:
    """Light that rises or falls along a direction drawn over the full circle; 0 is the identity."""
    drawn = torch.rand(2, len(image), generator=generator, device=image.device, dtype=image.dtype)
    return illuminate(image, intensity * torch.where(drawn[0] > 0.5, 1.0, -1.0), 2 * math.pi * drawn[1])


def illuminate(image: Tensor, intensity: Tensor, angle: Tensor) -> Tensor:
    """Multiply by 1 - |i| + 2 |i| g, where g = x cos(angle) + y sin(angle) with x and y from 0 to 1 over the image.

    A negative intensity takes 1 - g for g. Albumentations' formula: g is not centred, so light that falls to the right
    or down darkens the whole image too.

    Args:
        image: (B, C, H, W).
        intensity: (B,), of either sign.
        angle: (B,) radians; sends no gradient.
    """
    with torch.no_grad():
        y, x = (torch.linspace(0, 1, side, device=image.device, dtype=image.dtype) for side in image.shape[2:])
        rise = (torch.cos(angle)[:, None] * x)[:, None, None, :] + (torch.sin(angle)[:, None] * y)[:, None, :, None]
        # -|i| + 2 |i| (1 - g) is |i| - 2 |i| g: one formula for both signs.
        slope = rise.mul_(2).sub_(1)
        factor = (columns(intensity) * slope).add_(1)
        value = quantise_(image * factor, "round")
        direction = image * slope
    return _steered(value, image, intensity, direction, lambda gradient: gradient * factor)

"""The tone of 8-bit images held as floats: their grid, their histograms, and curves that map one level to another.

Images are (B, C, H, W) float in [0, 1] whose values are multiples of 1/255, so that a policy is searched on the very
images that it later emits. A tone operation never touches a pixel: it changes a curve of 256 entries (curves.py), any
number of them compose, and the pixels are looked up once.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from policy_search.relaxed import devices

LEVELS = 255.0
# Below one grey level, above the rounding noise of float32: keeps floor() from losing a level that is already whole.
WHOLE = 1e-3


def straight_through(value: Tensor, surrogate: Tensor) -> Tensor:
    """`value` going forward, the gradient of `surrogate` going back (same shapes)."""
    return _StraightThrough.apply(value, surrogate)  # type: ignore[no-any-return,no-untyped-call]


class _StraightThrough(torch.autograd.Function):
    """See `straight_through`. Adding the detached difference costs two passes over the pixels and rounds anew."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, surrogate: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, gradient


def quantise(image: Tensor, rounding: Literal["floor", "round"] = "floor") -> Tensor:
    """Clip to [0, 1] and put on the 8-bit grid; the gradient passes straight through, at the clip too.

    Any shape, images or curves. Albumentations' look-up tables truncate ("floor"); OpenCV's filters and warps round.
    """
    return straight_through(_to_grid(image.detach() * LEVELS, rounding), image)


def quantise_(image: Tensor, rounding: Literal["floor", "round"] = "floor") -> Tensor:
    """`quantise` in place, for values without a gradient of their own."""
    return _to_grid(image.mul_(LEVELS), rounding)


def _to_grid(levels: Tensor, rounding: str) -> Tensor:
    whole = levels.add_(WHOLE).floor_() if rounding == "floor" else levels.round_()
    return whole.clamp_(0, LEVELS).div_(LEVELS)


def switch(before: Tensor, after: Tensor, on: Tensor) -> Tensor:
    """`after` (B, ...) where `on` (B,) is 1, else `before`; the gradients of before + on * (after - before)."""
    return _Switch.apply(before, after, on)  # type: ignore[no-any-return,no-untyped-call]


class _Switch(torch.autograd.Function):
    """See `switch`. The sum that it stands for reads and writes every pixel several times."""

    @staticmethod
    def forward(ctx: Any, before: Tensor, after: Tensor, on: Tensor) -> Tensor:
        ctx.save_for_backward(before, after, on)
        # Exact for an `on` of 0 or 1, and four times as fast as `where` with a condition per image.
        return torch.lerp(before, after, columns(on))

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        before, after, on = ctx.saved_tensors
        to_before = to_after = to_on = None
        if ctx.needs_input_grad[0]:
            to_before = columns(1 - on) * gradient
        if ctx.needs_input_grad[1]:
            to_after = columns(on) * gradient
        if ctx.needs_input_grad[2]:
            to_on = per_image(after - before, gradient)
        return to_before, to_after, to_on


def per_image(one: Tensor, other: Tensor) -> Tensor:
    """The sum (B,) over all pixels of the product of two (B, C, H, W). A batched matrix product takes five times as
    long for vectors."""
    return (one * other).sum((1, 2, 3))


def columns(amount: Tensor) -> Tensor:
    """(B, 1, 1, 1) of (B,), to meet images."""
    return amount[:, None, None, None]


def identity_curve(like: Tensor) -> Tensor:
    """The curve (B, C, 256) that changes nothing, for images (B, C, H, W)."""
    levels = torch.arange(256, device=like.device, dtype=like.dtype) / LEVELS
    return levels.expand(*like.shape[:2], 256)


def bins(image: Tensor) -> Tensor:
    """(B * C * H * W,) int32: each pixel's level plus 256 times its row's number, a row being an image's channel."""
    levels = (image.detach() * LEVELS).add_(0.5).int().reshape(-1, image.shape[2] * image.shape[3])
    first = torch.arange(0, 256 * len(levels), 256, device=image.device, dtype=torch.int32)
    return levels.add_(first[:, None]).flatten()


def histogram(image: Tensor, known: Tensor | None = None) -> Tensor:
    """The share of pixels at each level, (B, C, 256), summing to 1 per image and channel; no gradient.

    `known` are the image's `bins`, if they have been counted already.
    """
    batch, channels, height, width = image.shape
    counts = _count(bins(image) if known is None else known, batch * channels * 256, None)
    return counts.to(image.dtype).reshape(batch, channels, 256) / (height * width)


def _count(where: Tensor, size: int, weights: Tensor | None) -> Tensor:
    """How often (or with which sum of weights) each of `size` bins occurs."""
    if devices.may_read(where.device):
        return torch.bincount(where, weights=weights, minlength=size)
    # Waits for nothing: bincount would look for the largest bin.
    weights = torch.ones_like(where, dtype=torch.float32) if weights is None else weights
    return weights.new_zeros(size).scatter_add_(0, where.long(), weights)


def apply_curve(image: Tensor, curve: Tensor, known: Tensor | None = None) -> Tensor:
    """Look every pixel of `image` (B, C, H, W) up in its image's and channel's `curve` (B, C, 256).

    An entry's gradient is the sum over the pixels that were looked up there; a pixel's is that times the curve's local
    slope. Neither can be differentiated a second time. `known` as in `histogram`.
    """
    return _Lookup.apply(image, curve, bins(image) if known is None else known)  # type: ignore[no-any-return,no-untyped-call]


class _Lookup(torch.autograd.Function):
    """See `apply_curve`. A table look-up by `gather` would give the pixels no gradient."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, curve: Tensor, known: Tensor) -> Tensor:
        ctx.save_for_backward(known, curve)
        return curve.reshape(-1).index_select(0, known).reshape(image.shape)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        known, curve = ctx.saved_tensors
        to_image = to_curve = None
        if ctx.needs_input_grad[0]:
            (slope,) = torch.gradient(curve.detach(), spacing=1 / LEVELS, dim=2)
            to_image = slope.reshape(-1).index_select(0, known).reshape(gradient.shape).mul_(gradient)
        if ctx.needs_input_grad[1]:
            to_curve = _count(known, curve.numel(), gradient.reshape(-1)).to(curve.dtype).reshape(curve.shape)
        return to_image, to_curve, None

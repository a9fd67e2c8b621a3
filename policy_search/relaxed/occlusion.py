"""Differentiable occlusion: a hole of one grey level, and cells of another image on top."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from policy_search.relaxed import devices
from policy_search.relaxed.tone import straight_through

_RAMP = 2.0  # pixels over which the gradient sees an edge of a hole


def hole(down: Tensor, across: Tensor, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Indicator (B, 1, H, W) of one hole of `down` by `across` pixels (both (B,), rounded); 0 is empty.

    It lies at a uniform place of images of `size` (H, W). Binary going forward; going back, the edges are ramps.
    """
    place = torch.rand(len(down), 2, generator=generator, device=down.device, dtype=down.dtype)
    axes = []
    for axis, (side, length) in enumerate(zip((down, across), size, strict=True)):
        whole = side.detach().round().clamp(0, length)
        start = torch.floor(place[:, axis] * (length - whole + 1))
        position = torch.arange(length, device=side.device, dtype=side.dtype)
        hard = (position >= start[:, None]) & (position < (start + whole)[:, None])
        middle = (start + (whole - 1) / 2)[:, None]
        soft = torch.sigmoid((side[:, None] / 2 - (position - middle).abs()) / _RAMP)
        axes.append(straight_through(hard.to(side.dtype), soft))
    return _Outer.apply(*axes)  # type: ignore[no-any-return,no-untyped-call]


class _Outer(torch.autograd.Function):
    """Products (B, 1, H, W) of numbers for rows (B, H) and columns (B, W); in one pass, and two going back."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, columns: Tensor) -> Tensor:
        ctx.save_for_backward(rows, columns)
        return rows[:, None, :, None] * columns[:, None, None, :]

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        rows, columns = ctx.saved_tensors
        to_rows = (gradient[:, 0] * columns[:, None, :]).sum(2)
        return to_rows, (gradient[:, 0] * rows[:, :, None]).sum(1)


def occlude(image: Tensor, mask: Tensor, indicator: Tensor, fill: float) -> tuple[Tensor, Tensor]:
    """The fill value (in [0, 1]) where `indicator` (B, 1, H, W) is 1, and no mask there."""
    return _Occlude.apply(image, mask, indicator, fill)  # type: ignore[no-any-return,no-untyped-call]


class _Occlude(torch.autograd.Function):
    """See `occlude`: the gradients of image + indicator * (fill - image) and mask * (1 - indicator) in few passes."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, mask: Tensor, indicator: Tensor, fill: float) -> tuple[Tensor, Tensor]:
        change, rest = fill - image, 1 - indicator
        ctx.save_for_backward(change, mask, rest)
        ctx.set_materialize_grads(False)
        return torch.addcmul(image, indicator, change), mask * rest

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        change, mask, rest = ctx.saved_tensors
        to_inputs = [None if g is None else g * rest for g in gradients]
        parts = [
            (sign * g * part).sum(1, keepdim=True) if g.shape[1] > 1 else (g * part).mul_(sign)
            for sign, g, part in zip((1, -1), gradients, (change, mask), strict=True)
            if g is not None
        ]
        to_indicator = sum(parts[1:], parts[0]) if parts and ctx.needs_input_grad[2] else None
        return to_inputs[0], to_inputs[1], to_indicator, None


def paste_neighbour(
    image: Tensor, labels: Tensor, generator: torch.Generator, share: float = 0.25
) -> tuple[Tensor, Tensor]:
    """For each image the next one of the batch as donor, each of its instances chosen with probability `share`.

    Args:
        image: (B, C, H, W), B at least 2.
        labels: (B, 1, H, W) float whole numbers, 0 for background, one number per instance within its image; below
            65,536 unless on a CPU.
        generator: chooses, on the labels' device.

    Returns:
        the donors (B, C, H, W), and the indicator (B, 1, H, W), 1 where a chosen instance lies.

    Raises:
        ValueError: a single image, which has no neighbour.
    """
    if len(image) < 2:
        raise ValueError(
            f"copy_paste takes its cells from the next image of the batch: expected at least 2 images, got {len(image)}"
        )
    ids = labels.detach().long()
    if devices.may_read(ids.device):
        most = int(ids.max()) + 1
    else:
        # Room for any id, in a table for all that a label map of 16 bits can hold.
        most = 1 << 16
        ids = ids.remainder(most)
    chosen = torch.rand(len(ids), most, generator=generator, device=ids.device) < share
    chosen[:, 0] = False
    pasted = chosen.gather(1, ids.flatten(1)).reshape(ids.shape)
    return image.roll(-1, 0), pasted.to(image.dtype).roll(-1, 0)

"""Differentiable Gaussian blur by band matrices: along each axis, a block of pixels is a matrix times its surroundings.

A matrix product is differentiable in sigma and, on a CPU, cheaper than a grouped convolution with a kernel per image.
A whole (H, H) matrix would be nearly empty; blocks of up to 32 rows times what they reach leave out most of its zeros.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from policy_search.relaxed import devices
from policy_search.relaxed.tone import per_image, quantise_

LARGEST_SIGMA = 4.0  # pixels; the catalogue's bound, and the reach that is allowed for where sigma is not read
_BLOCKS = range(32, 7, -1)  # rows of a block, the first of them that divides the side


def blur_radius(sigma: Tensor) -> Tensor:
    """Half-width of Albumentations' (and PIL's) Gaussian kernel, in pixels."""
    return torch.floor(sigma * 3.5)


def gaussian_blur(image: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur of images (B, C, H, W) by `sigma` (B,) pixels, border reflected without its edge, 8-bit grid.

    0 (in fact below 2/7) is the identity. Where the device is not to be waited for, `sigma` is at most LARGEST_SIGMA.
    """
    radius = blur_radius(sigma.detach())
    reach = int(radius.max().item()) if devices.may_read(sigma.device) else int(LARGEST_SIGMA * 3.5)
    return _Blur.apply(image, sigma, reach)  # type: ignore[no-any-return,no-untyped-call]


class _Blur(torch.autograd.Function):
    """See `gaussian_blur`; rounding passes the gradient straight through."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, sigma: Tensor, reach: int) -> Tensor:
        weights, slopes = _kernel(sigma, reach)
        axes = [_axis(side, min(reach, side - 1), image.device) for side in image.shape[2:]]
        downward = _down(axes[0], weights, image)
        ctx.save_for_backward(image, downward, weights, slopes)
        ctx.axes = axes
        return quantise_(_across(axes[1], weights, downward), "round")

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        image, downward, weights, slopes = ctx.saved_tensors
        rows, columns = ctx.axes
        back = _across(columns, weights, gradient, adjoint=True)
        to_image = _down(rows, weights, back, adjoint=True) if ctx.needs_input_grad[0] else None
        to_sigma = None
        if ctx.needs_input_grad[1]:
            changes = ((back, _down(rows, slopes, image)), (gradient, _across(columns, slopes, downward)))
            to_sigma = sum(per_image(a, b) for a, b in changes)
        return to_image, to_sigma, None


def _kernel(sigma: Tensor, reach: int) -> tuple[Tensor, Tensor]:
    """Weights at the distances 0 to `reach`, and 0 at the next, (B, reach + 2); and their derivatives to sigma."""
    offsets = torch.arange(-reach, reach + 1, device=sigma.device, dtype=sigma.dtype)
    # Bounded below only to keep 0/0 out: at that sigma the kernel is a single tap anyway.
    wide = sigma[:, None].clamp_min(1e-3)
    weights = torch.exp(-0.5 * (offsets / wide) ** 2) * (offsets.abs() <= blur_radius(sigma)[:, None])
    weights = weights / weights.sum(1, keepdim=True)
    steep = offsets**2 / wide**3
    slopes = weights * (steep - (weights * steep).sum(1, keepdim=True))
    return tuple(torch.nn.functional.pad(part[:, reach:], (0, 1)) for part in (weights, slopes))  # type: ignore[return-value]


class _Axis(NamedTuple):
    """Where the blocks of one axis draw from, N blocks of R pixels from L sources each.

    Attributes:
        starts: first source of each block.
        sources: (N * L,) all sources, block after block.
        distances, adjoint: (3 * N * R * L,) index into the kernel: the direct way, and over the first and over the
            last pixel; reach + 1 (a weight of 0) where there is none. `adjoint` is that of the transposed matrix.
        shape: (3, N, R, L).
    """

    starts: tuple[int, ...]
    sources: Tensor
    distances: Tensor
    adjoint: Tensor
    shape: tuple[int, int, int, int]


@lru_cache(maxsize=64)
def _axis(side: int, reach: int, device: torch.device) -> _Axis:
    rows = next((rows for rows in _BLOCKS if side % rows == 0), side)
    length, count = min(side, rows + 2 * reach), side // rows
    starts = tuple(min(max(rows * block - reach, 0), side - length) for block in range(count))
    source = (torch.tensor(starts, device=device)[:, None] + torch.arange(length, device=device))[:, None, :]
    target = torch.arange(side, device=device).reshape(count, rows, 1)
    none = reach + 1
    direct, first, last = (source - target).abs(), source + target, 2 * (side - 1) - source - target

    def index(folded: Tensor) -> Tensor:
        # A pixel is not its own mirror image: the edge is not repeated.
        ways = [direct, first.masked_fill(folded == 0, none), last.masked_fill(folded == side - 1, none)]
        return torch.stack(ways).clamp(max=none).flatten()

    everywhere = torch.zeros_like(direct)
    shape = (3, count, rows, length)
    return _Axis(starts, source.flatten(), index(source + everywhere), index(target + everywhere), shape)


def _bands(axis: _Axis, kernel: Tensor, adjoint: bool) -> Tensor:
    """(B, 1, N, R, L): the blocks' matrices."""
    index = axis.adjoint if adjoint else axis.distances
    return kernel.index_select(1, index).unflatten(1, axis.shape).sum(1)[:, None]


def _down(axis: _Axis, kernel: Tensor, image: Tensor, *, adjoint: bool = False) -> Tensor:
    """Along H."""
    _, count, _, length = axis.shape
    windows = image.index_select(2, axis.sources).unflatten(2, (count, length))
    return (_bands(axis, kernel, adjoint) @ windows).flatten(2, 3)


def _across(axis: _Axis, kernel: Tensor, image: Tensor, *, adjoint: bool = False) -> Tensor:
    """Along W."""
    bands, length = _bands(axis, kernel, adjoint).transpose(3, 4), axis.shape[3]
    return torch.cat([image[..., at : at + length] @ bands[:, :, n] for n, at in enumerate(axis.starts)], 3)

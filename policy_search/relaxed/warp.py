"""Differentiable geometry: affine matrices in pixels, and one warp of image and mask with OpenCV's conventions.

A matrix (B, 3, 3) maps source pixel coordinates (x, y, 1) to where they go, pixel centres at whole numbers, about the
middle ((W - 1) / 2, (H - 1) / 2): what `albumentations.Affine` builds for `cv2.warpAffine`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from policy_search.relaxed.tone import quantise_, straight_through

_CHUNK = 1 << 17  # source pixels that a CPU warps at a time


def _matrix(like: Tensor, *parts: tuple[Tensor, tuple[int, int], float]) -> Tensor:
    """The identity (B, 3, 3) plus, for every part, a number (B,) times a sign at one place (row, column)."""
    places = tuple((3 * row + column, sign) for _, (row, column), sign in parts)
    flat, products = _places(places, like.device, like.dtype)
    # One product, not a dozen stacked entries: small tensors cost by their number.
    return torch.addmm(flat, torch.stack([number for number, _, _ in parts], -1), products).unflatten(1, (3, 3))


@lru_cache(maxsize=64)
def _places(parts: tuple[tuple[int, float], ...], device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The identity (9,) and, for every part, a row of (N, 9) with its sign at its place."""
    rows = [[sign if entry == place else 0.0 for entry in range(9)] for place, sign in parts]
    products = torch.tensor(rows, dtype=dtype, device=device).reshape(len(parts), 9)
    return torch.eye(3, dtype=dtype, device=device).flatten(), products


def identity_matrix(like: Tensor) -> Tensor:
    """(3, 3) of the type and on the device of another tensor."""
    return _places((), like.device, like.dtype)[0].unflatten(0, (3, 3))


def scaling(x: Tensor, y: Tensor) -> Tensor:
    """(B, 3, 3) about the origin; factors above 1 enlarge."""
    return _matrix(x, (x - 1, (0, 0), 1), (y - 1, (1, 1), 1))


def rotation(degrees: Tensor) -> Tensor:
    """(B, 3, 3) about the origin, counter-clockwise as seen on the screen (y points down)."""
    radians = torch.deg2rad(degrees)
    cos, sin = torch.cos(radians) - 1, torch.sin(radians)
    return _matrix(cos, (cos, (0, 0), 1), (cos, (1, 1), 1), (sin, (0, 1), 1), (sin, (1, 0), -1))


def shear(x_degrees: Tensor, y_degrees: Tensor) -> Tensor:
    """(B, 3, 3): x moves by -tan(x_degrees) * y, and y by -tan(y_degrees) * x (Albumentations' sign)."""
    x, y = torch.tan(torch.deg2rad(x_degrees)), torch.tan(torch.deg2rad(y_degrees))
    return _matrix(x, (x, (0, 1), -1), (y, (1, 0), -1))


def translation(x: Tensor, y: Tensor) -> Tensor:
    """(B, 3, 3) by pixels, to the right and down."""
    return _matrix(x, (x, (0, 2), 1), (y, (1, 2), 1))


def drift(share: Tensor, noise: Tensor, extent: Sequence[int]) -> Tensor:
    """(B, 3, 3) by whole pixels, uniform within `share` (B,) of the sides of an image of `extent` (H, W), either way.

    `noise` (B, 2), uniform in [0, 1), places it along x and y. Truncated as `albumentations.Affine` does, the gradient
    passes straight through.
    """
    reach = [share * side * (2 * place - 1) for side, place in zip(reversed(extent), noise.unbind(1), strict=True)]
    x, y = (straight_through(torch.trunc(pixels.detach()), pixels) for pixels in reach)
    return translation(x, y)


def warp(
    image: Tensor, mask: Tensor, matrix: Tensor, fill: float, size: int | None = None, *, mask_gradient: bool = True
) -> tuple[Tensor, Tensor]:
    """Warp images and masks about their middle.

    Args:
        image: (B, C, H, W) in [0, 1]; bilinear, `fill` (in [0, 1]) outside, put back on the 8-bit grid.
        mask: (B, M, H, W), 0 or 1; nearest, 0 outside. Its gradient is that of the bilinear warp.
        matrix: (B, 3, 3) about the origin, see the module's docstring.
        size: side of the square in the middle of the result that is computed; the whole of it when None.
        mask_gradient: whether the mask sends a gradient to `matrix`; cheaper without.

    Returns:
        image and mask, (B, C, H, W) and (B, M, H, W), or both (size, size). The mask is exactly 0 or 1.
    """
    target = (size, size) if size else (image.shape[2], image.shape[3])
    return _Warp.apply(image, mask, matrix, fill, target, mask_gradient)  # type: ignore[no-any-return,no-untyped-call]


class _Warp(torch.autograd.Function):
    """See `warp`. The gradient is that of a bilinear warp of both, in closed form from the grid's to the matrix's.

    One channel block at a time (two channels at once take more than twice as long), and on a CPU a few images at a
    time, so that what is gathered at random is still in the cache. The bilinear mask has a gradient alone: it is never
    computed. Nor is the grid kept: it is cheaper to make again than to fetch.
    """

    @staticmethod
    def forward(
        ctx: Any, image: Tensor, mask: Tensor, matrix: Tensor, fill: float, target: tuple[int, int], mask_gradient: bool
    ) -> tuple[Tensor, Tensor]:
        inverse, axes = inverted(matrix), _axes(matrix, image.shape[2:], target)
        smooth, nearest = (part.new_empty((*part.shape[:2], *target)) for part in (image, mask))
        for part, grid in _chunks(image, inverse, axes):
            # Zero padding is constant padding once the fill is zero. Whatever mask is handed in, what leaves is binary.
            smooth[part] = quantise_(_sample(image[part] - fill, grid, "bilinear").add_(fill), "round")
            nearest[part] = _sample(mask[part].clone(), grid, "nearest").gt_(0.5)
        ctx.save_for_backward(image, mask if mask_gradient else None, inverse, *axes)
        ctx.fill = fill
        ctx.set_materialize_grads(False)
        if not mask_gradient:
            ctx.mark_non_differentiable(nearest)
        return smooth, nearest

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        image, mask, inverse, *axes = ctx.saved_tensors
        needed = ctx.needs_input_grad
        found: tuple[list[Tensor], list[Tensor]] = ([], [])
        by_column, by_row = [], []
        for part, grid in _chunks(image, inverse, axes):
            sources = [image[part] - ctx.fill, None if mask is None else mask[part].clone()]
            to_grid: Tensor | None = None
            for place, (source, gradient) in enumerate(zip(sources, gradients, strict=True)):
                if gradient is None or source is None:
                    continue
                # Numbers of aten's own enumerations: bilinear, zeros.
                to_source, more = torch.ops.aten.grid_sampler_2d_backward(
                    gradient[part].contiguous(), source, grid, 0, 0, False, [needed[place], needed[2]]
                )
                if needed[place]:
                    found[place].append(to_source)
                if needed[2]:
                    to_grid = more if to_grid is None else to_grid.add_(more)
            if to_grid is not None:
                by_column.append(to_grid.sum(1))
                by_row.append(to_grid.sum(2))
        to_image, to_mask = (_joined(parts) if parts else None for parts in found)
        to_matrix = None
        if by_row:
            to_matrix = _matrix_gradient(_joined(by_column), _joined(by_row), inverse, axes, image.shape[2:])
        return to_image, to_mask, to_matrix, None, None, None


def _sample(source: Tensor, grid: Tensor, mode: str) -> Tensor:
    return functional.grid_sample(source, grid, mode=mode, padding_mode="zeros", align_corners=False)


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _chunks(image: Tensor, inverse: Tensor, axes: Sequence[Tensor]) -> Iterator[tuple[slice, Tensor]]:
    """Consecutive images as slices, with the grids of each: all images at once where there is no cache to keep to."""
    columns, rows = _separable(inverse, axes, image.shape[2:])
    step = len(image)
    if image.device.type == "cpu":
        step = max(1, min(step, _CHUNK // (image.shape[2] * image.shape[3])))
    for first in range(0, len(image), step):
        part = slice(first, first + step)
        # As two planes, x and y: pairs of numbers in the last dimension take eight times as long to add.
        yield part, (rows[part, :, :, None] + columns[part, :, None, :]).permute(0, 2, 3, 1)


def inverted(matrix: Tensor) -> Tensor:
    """The inverse of affine matrices (B, 3, 3); no gradient. `torch.linalg.inv` waits for a GPU to report errors."""
    (a, b, x), (c, d, y) = (row.unbind(1) for row in matrix.detach()[:, :2].unbind(1))
    determinant = a * d - b * c
    p, q, r, s = d / determinant, -b / determinant, -c / determinant, a / determinant
    zero, one = torch.zeros_like(a), torch.ones_like(a)
    flat = torch.stack([p, q, -(p * x + q * y), r, s, -(r * x + s * y), zero, zero, one], 1)
    return flat.unflatten(1, (3, 3))


def _axes(like: Tensor, source: Sequence[int], target: Sequence[int]) -> tuple[Tensor, Tensor]:
    """y (h,) and x (w,) of the target's pixels about the middle of the source."""
    y, x = (torch.arange(n, device=like.device, dtype=like.dtype) - (n - 1) / 2 for n in target)
    # Crops of an odd difference sit half a pixel up and left of the middle, as slicing with // 2 has it.
    y, x = (axis - 0.5 * ((s - t) % 2) for axis, s, t in zip((y, x), source, target, strict=True))
    return y, x


def _separable(inverse: Tensor, axes: Sequence[Tensor], source: Sequence[int]) -> tuple[Tensor, Tensor]:
    """(B, 2, w) and (B, 2, h) whose sum is, for each target pixel, x and y of its source in [-1, 1] of pixel edges.

    An affine map is separable: one product per row and per column, never per pixel.
    """
    y, x = axes
    scaled = torch.stack([inverse[:, 0] * (2 / source[1]), inverse[:, 1] * (2 / source[0])], 1)
    return x * scaled[:, :, :1], y * scaled[:, :, 1:2] + scaled[:, :, 2:]


def _matrix_gradient(
    by_column: Tensor, by_row: Tensor, inverse: Tensor, axes: Sequence[Tensor], source: Sequence[int]
) -> Tensor:
    """(B, 3, 3) from the gradient of the grid, summed over each column (B, w, 2) and over each row (B, h, 2)."""
    y, x = axes
    to_inverse = torch.zeros_like(inverse)
    for place, side in ((0, source[1]), (1, source[0])):
        column, row = by_column[..., place], by_row[..., place]
        to_inverse[:, place] = torch.stack([column @ x, row @ y, row.sum(1)], 1) * (2 / side)
    # The differential of an inverse is -inverse @ d matrix @ inverse.
    across = inverse.transpose(1, 2)
    return -(across @ to_inverse @ across)


def centre(image: Tensor, size: int) -> Tensor:
    """The middle (B, C, size, size) of (B, C, H, W)."""
    top, left = ((side - size) // 2 for side in image.shape[2:])
    return image[:, :, top : top + size, left : left + size]


def warp_labels(labels: Tensor, matrix: Tensor, size: int | None = None) -> Tensor:
    """Instance ids (B, 1, H, W) under the warp that `warp` gives their images: nearest, 0 outside, no gradient."""
    target = (size, size) if size else labels.shape[2:]
    chunks = _chunks(labels, inverted(matrix), _axes(matrix, labels.shape[2:], target))
    return _joined([_sample(labels[part], grid, "nearest") for part, grid in chunks])

"""Differentiable geometry: affine matrices in pixels, and one warp of image and mask with OpenCV's conventions.

A matrix (B, 3, 3) maps source pixel coordinates (x, y, 1) to where they go, pixel centres at whole numbers, about the
middle ((W - 1) / 2, (H - 1) / 2): what `albumentations.Affine` builds for `cv2.warpAffine`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from policy_search.relaxed.tone import quantise_


def _matrix(like: Tensor, *parts: tuple[Tensor, tuple[int, int], float]) -> Tensor:
    """The identity (B, 3, 3) plus, for every part, a number (B,) times a sign at one place (row, column)."""
    places = tuple((3 * row + column, sign) for _, (row, column), sign in parts)
    flat, products = _places(places, like.device, like.dtype)
    # One product, not a dozen stacked entries: small tensors cost by their number.
    return torch.addmm(flat, torch.stack([number for number, _, _ in parts], -1), products).unflatten(1, (3, 3))


@lru_cache(maxsize=64)
def _places(parts: tuple[tuple[int, float], ...], device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The identity (9,) and, for every part, a row of (N, 9) with its sign at its place."""
    rows = torch.zeros(len(parts), 9, dtype=dtype)
    for row, (place, sign) in zip(rows, parts, strict=True):
        row[place] = sign
    return torch.eye(3, dtype=dtype).flatten().to(device), rows.to(device)


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

    One channel at a time: two at once take more than twice as long. The bilinear mask has only a gradient, so it is
    never computed.
    """

    @staticmethod
    def forward(
        ctx: Any, image: Tensor, mask: Tensor, matrix: Tensor, fill: float, target: tuple[int, int], mask_gradient: bool
    ) -> tuple[Tensor, Tensor]:
        inverse, (y, x) = inverted(matrix), _axes(matrix, image.shape[2:], target)
        grid = _grid(inverse, y, x, image.shape[2:])
        nearest = functional.grid_sample(mask, grid, mode="nearest", padding_mode="zeros", align_corners=False)
        # Whatever was handed in, what leaves is binary.
        nearest = (nearest > 0.5).to(mask.dtype)
        # Zero padding is constant padding once the fill is zero.
        above = image - fill
        smooth = functional.grid_sample(above, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        ctx.save_for_backward(above, mask if mask_gradient else None, inverse, grid, y, x)
        ctx.set_materialize_grads(False)
        if not mask_gradient:
            ctx.mark_non_differentiable(nearest)
        return quantise_(smooth.add_(fill), "round"), nearest

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        above, mask, inverse, grid, y, x = ctx.saved_tensors
        found: list[Tensor | None] = [None, None]
        to_grid: Tensor | None = None
        for part, (source, gradient) in enumerate(zip((above, mask), gradients, strict=True)):
            if gradient is None or source is None:
                continue
            wanted = [ctx.needs_input_grad[part], ctx.needs_input_grad[2]]
            # Numbers of aten's own enumerations: bilinear, zeros.
            found[part], more = torch.ops.aten.grid_sampler_2d_backward(gradient, source, grid, 0, 0, False, wanted)
            if wanted[1]:
                to_grid = more if to_grid is None else to_grid.add_(more)
        to_matrix = None
        if to_grid is not None:
            to_matrix = _matrix_gradient(to_grid, inverse, y, x, above.shape[2:])
        return *found, to_matrix, None, None, None


def inverted(matrix: Tensor) -> Tensor:
    """The inverse of affine matrices (B, 3, 3); no gradient. `torch.linalg.inv` would wait for a GPU to report errors."""
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


def _grid(inverse: Tensor, y: Tensor, x: Tensor, source: Sequence[int]) -> Tensor:
    """(B, h, w, 2) for grid_sample: for each target pixel, the source position in [-1, 1] of pixel edges."""
    # An affine map is separable: one product per row and per column, never per pixel. As two planes, x and y: pairs
    # of numbers in the last dimension take eight times as long to add.
    planes = []
    for place, side in ((0, source[1]), (1, source[0])):
        scaled = inverse[:, place] * (2 / side)
        columns, rows = x * scaled[:, :1], y * scaled[:, 1:2] + scaled[:, 2:]
        planes.append(rows[:, :, None] + columns[:, None, :])
    return torch.stack(planes, 1).permute(0, 2, 3, 1)


def _matrix_gradient(to_grid: Tensor, inverse: Tensor, y: Tensor, x: Tensor, source: Sequence[int]) -> Tensor:
    """(B, 3, 3) from the gradient (B, h, w, 2) of the grid."""
    by_column, by_row = to_grid.sum(1), to_grid.sum(2)
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
    grid = _grid(inverted(matrix), *_axes(matrix, labels.shape[2:], target), labels.shape[2:])
    return functional.grid_sample(labels, grid, mode="nearest", padding_mode="zeros", align_corners=False)

"""Differentiable geometry: affine matrices in pixels, and one warp of image and mask with OpenCV's conventions.

A matrix (B, 3, 3) maps source pixel coordinates (x, y, 1) to where they go, pixel centres at whole numbers, about the
middle ((W - 1) / 2, (H - 1) / 2): what `albumentations.Affine` builds for `cv2.warpAffine`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from policy_search.relaxed.tone import quantise, straight_through


def _matrix(entries: Sequence[Sequence[Tensor | float]], like: Tensor) -> Tensor:
    rows = [torch.stack([torch.as_tensor(e).to(like).expand_as(like) for e in row], -1) for row in entries]
    return torch.stack(rows, -2)


def scaling(x: Tensor, y: Tensor) -> Tensor:
    """(B, 3, 3) about the origin; factors above 1 enlarge."""
    return _matrix([[x, 0.0, 0.0], [0.0, y, 0.0], [0.0, 0.0, 1.0]], x)


def rotation(degrees: Tensor) -> Tensor:
    """(B, 3, 3) about the origin, counter-clockwise as seen on the screen (y points down)."""
    cos, sin = torch.cos(torch.deg2rad(degrees)), torch.sin(torch.deg2rad(degrees))
    return _matrix([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]], degrees)


def shear(x_degrees: Tensor, y_degrees: Tensor) -> Tensor:
    """(B, 3, 3): x moves by -tan(x_degrees) * y, and y by -tan(y_degrees) * x (Albumentations' sign)."""
    x, y = -torch.tan(torch.deg2rad(x_degrees)), -torch.tan(torch.deg2rad(y_degrees))
    return _matrix([[1.0, x, 0.0], [y, 1.0, 0.0], [0.0, 0.0, 1.0]], x_degrees)


def translation(x: Tensor, y: Tensor) -> Tensor:
    """(B, 3, 3) by pixels, to the right and down."""
    return _matrix([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]], x)


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
    grid = _source_grid(matrix, image.shape[2:], (size, size) if size else image.shape[2:])
    with torch.no_grad():
        nearest = functional.grid_sample(mask, grid, mode="nearest", padding_mode="zeros", align_corners=False)
        # Whatever was handed in, what leaves is binary.
        nearest = (nearest > 0.5).to(mask.dtype)
    # Zero padding is constant padding once the fill is zero.
    above = image - fill
    if not (mask_gradient and torch.is_grad_enabled()):
        smooth = functional.grid_sample(above, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        return quantise(smooth + fill, "round"), nearest
    channels = image.shape[1]
    stacked = torch.cat([above, mask], 1)
    smooth = functional.grid_sample(stacked, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    smooth_image, smooth_mask = smooth.split([channels, mask.shape[1]], 1)
    return quantise(smooth_image + fill, "round"), straight_through(nearest, smooth_mask)


def _source_grid(matrix: Tensor, source: Sequence[int], target: Sequence[int]) -> Tensor:
    """(B, h, w, 2) for grid_sample: for each target pixel, the source position in [-1, 1] of pixel edges."""
    inverse = torch.linalg.inv(matrix)
    y, x = (torch.arange(n, device=matrix.device, dtype=matrix.dtype) - (n - 1) / 2 for n in target)
    # Crops of an odd difference sit half a pixel up and left of the middle, as slicing with // 2 has it.
    y, x = (axis - 0.5 * ((s - t) % 2) for axis, s, t in zip((y, x), source, target, strict=True))
    # An affine map is separable: one product per row and per column, never per pixel.
    columns = x[None, :, None] * inverse[:, None, :2, 0]
    rows = y[None, :, None] * inverse[:, None, :2, 1] + inverse[:, None, :2, 2]
    pixels = rows[:, :, None, :] + columns[:, None, :, :]
    return pixels * pixels.new_tensor([2 / source[1], 2 / source[0]])


def centre(image: Tensor, size: int) -> Tensor:
    """The middle (B, C, size, size) of (B, C, H, W)."""
    top, left = ((side - size) // 2 for side in image.shape[2:])
    return image[:, :, top : top + size, left : left + size]


def warp_labels(labels: Tensor, matrix: Tensor, size: int | None = None) -> Tensor:
    """Instance ids (B, 1, H, W) under the warp that `warp` gives their images: nearest, 0 outside, no gradient."""
    target = (size, size) if size else labels.shape[2:]
    grid = _source_grid(matrix.detach(), labels.shape[2:], target)
    return functional.grid_sample(labels, grid, mode="nearest", padding_mode="zeros", align_corners=False)

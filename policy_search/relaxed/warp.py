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


def warp(image: Tensor, mask: Tensor, matrix: Tensor, fill: float) -> tuple[Tensor, Tensor]:
    """Warp images and masks about their middle.

    Args:
        image: (B, C, H, W) in [0, 1]; bilinear, `fill` (in [0, 1]) outside, put back on the 8-bit grid.
        mask: (B, 1, H, W), 0 or 1; nearest, 0 outside. Its gradient is that of the bilinear warp.
        matrix: (B, 3, 3) about the origin, see the module's docstring.

    Returns:
        image and mask of the same shapes. The mask is exactly 0 or 1.
    """
    height, width = image.shape[2:]
    grid = _source_grid(matrix, height, width)
    # Zero padding is constant padding once the fill is zero.
    stacked = torch.cat([image - fill, mask], 1)
    smooth = functional.grid_sample(stacked, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    with torch.no_grad():
        nearest = functional.grid_sample(mask, grid, mode="nearest", padding_mode="zeros", align_corners=False)
        # Whatever was handed in, what leaves is binary.
        nearest = (nearest > 0.5).to(mask.dtype)
    channels = image.shape[1]
    return quantise(smooth[:, :channels] + fill, "round"), straight_through(nearest, smooth[:, channels:])


def _source_grid(matrix: Tensor, height: int, width: int) -> Tensor:
    """(B, H, W, 2) for grid_sample: for each output pixel, the source position in [-1, 1] of pixel edges."""
    inverse = torch.linalg.inv(matrix)
    x = torch.arange(width, device=matrix.device, dtype=matrix.dtype) - (width - 1) / 2
    y = torch.arange(height, device=matrix.device, dtype=matrix.dtype) - (height - 1) / 2
    # An affine map is separable: one product per row and per column, never per pixel.
    columns = x[None, :, None] * inverse[:, None, :2, 0]
    rows = y[None, :, None] * inverse[:, None, :2, 1] + inverse[:, None, :2, 2]
    pixels = rows[:, :, None, :] + columns[:, None, :, :]
    return pixels * pixels.new_tensor([2 / width, 2 / height])

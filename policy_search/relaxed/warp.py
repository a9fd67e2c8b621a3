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


def _matrix(like: Tensor, *parts: tuple[Tensor, tuple[int, int], float]) -> Tensor:
    """The identity (B, 3, 3) plus, for every part, a number (B,) times a sign at one place (row, column)."""
    flat = torch.eye(3, device=like.device, dtype=like.dtype).flatten()
    places = flat.new_zeros(len(parts), 9)
    for part, (_, (row, column), sign) in enumerate(parts):
        places[part, 3 * row + column] = sign
    # One product, not a dozen stacked entries: small tensors cost by their number.
    return torch.addmm(flat, torch.stack([number for number, _, _ in parts], -1), places).unflatten(1, (3, 3))


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
    # An affine map is separable: one product per row and per column, never per pixel. As two planes, x and y: pairs
    # of numbers in the last dimension take eight times as long to add.
    inverse = inverse[:, :2] * inverse.new_tensor([[2 / source[1]], [2 / source[0]]])
    columns = x * inverse[:, :, 0, None]
    rows = y * inverse[:, :, 1, None] + inverse[:, :, 2, None]
    return (rows[:, :, :, None] + columns[:, :, None, :]).permute(0, 2, 3, 1)


def centre(image: Tensor, size: int) -> Tensor:
    """The middle (B, C, size, size) of (B, C, H, W)."""
    top, left = ((side - size) // 2 for side in image.shape[2:])
    return image[:, :, top : top + size, left : left + size]


def warp_labels(labels: Tensor, matrix: Tensor, size: int | None = None) -> Tensor:
    """Instance ids (B, 1, H, W) under the warp that `warp` gives their images: nearest, 0 outside, no gradient."""
    target = (size, size) if size else labels.shape[2:]
    grid = _source_grid(matrix.detach(), labels.shape[2:], target)
    return functional.grid_sample(labels, grid, mode="nearest", padding_mode="zeros", align_corners=False)

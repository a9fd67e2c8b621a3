"""Differentiable texture: blur, sharpening, noise and uneven light on 8-bit images held as floats.

Every function takes images (B, C, H, W) float in [0, 1] whose values are multiples of 1/255, one magnitude per image
(B,), and returns the same shape, range and grid: what Albumentations gives on the uint8 image, rounding included.
Rounding passes the gradient straight through.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from policy_search.relaxed.tone import LEVELS, columns, quantise, straight_through


def blur_radius(sigma: Tensor) -> Tensor:
    """Half-width of Albumentations' (and PIL's) Gaussian kernel, in pixels."""
    return torch.floor(sigma * 3.5)


def gaussian_blur(image: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur of `sigma` pixels, border reflected without its edge; 0 (in fact below 2/7) is the identity.

    One (H, H) and one (W, W) band matrix per image: a matrix product is differentiable in sigma and, on a CPU,
    cheaper than a grouped convolution with a kernel per image.
    """
    rows = _blur_matrix(sigma, image.shape[2])
    columns = rows if image.shape[2] == image.shape[3] else _blur_matrix(sigma, image.shape[3])
    return quantise(rows[:, None] @ image @ columns[:, None].transpose(2, 3), "round")


def _blur_matrix(sigma: Tensor, size: int) -> Tensor:
    """(B, size, size) matrices that blur along one axis, reflection folded in."""
    radius = blur_radius(sigma.detach())
    reach = min(int(radius.max().item()), size - 1)
    offsets = torch.arange(-reach, reach + 1, device=sigma.device, dtype=sigma.dtype)
    # Bounded below only to keep 0/0 out: at that sigma the kernel is a single tap anyway.
    weights = torch.exp(-0.5 * (offsets / sigma[:, None].clamp_min(1e-3)) ** 2) * (offsets.abs() <= radius[:, None])
    weights = weights / weights.sum(1, keepdim=True)
    target = torch.arange(size, device=sigma.device)[:, None]
    source = (target + offsets.long()).abs()
    source = torch.where(source >= size, 2 * (size - 1) - source, source).abs()
    matrix = weights.new_zeros(len(sigma), size, size)
    index = source.expand(len(sigma), -1, -1)
    return matrix.scatter_add(2, index, weights[:, None, :].expand(-1, size, -1))


def gaussian_noise(image: Tensor, deviation: Tensor, generator: torch.Generator) -> Tensor:
    """Add one field of normal noise to all channels; 0 is the identity. `deviation` is in units of [0, 1]."""
    batch, _, height, width = image.shape
    field = torch.randn(batch, 1, height, width, generator=generator, device=image.device, dtype=image.dtype)
    noise = columns(deviation) * field
    # Albumentations truncates the noise itself, towards zero, before it adds: that costs some of its variance.
    return quantise(image + straight_through(torch.trunc(noise.detach() * LEVELS) / LEVELS, noise), "round")


def sharpen(image: Tensor, alpha: Tensor) -> Tensor:
    """Add `alpha` times the 3 x 3 Laplacian (nine times the pixel less the sum of all nine), border reflected without
    its edge; 0 is the identity."""
    padded = functional.pad(image, (1, 1, 1, 1), mode="reflect")
    across = padded[..., :-2] + padded[..., 1:-1] + padded[..., 2:]
    laplacian = 9 * image - (across[:, :, :-2] + across[:, :, 1:-1] + across[:, :, 2:])
    return quantise(image + columns(alpha) * laplacian, "round")


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
        angle: (B,) radians.
    """
    y, x = (torch.linspace(0, 1, side, device=image.device, dtype=image.dtype) for side in image.shape[2:])
    rise = (torch.cos(angle)[:, None] * x)[:, None, None, :] + (torch.sin(angle)[:, None] * y)[:, None, :, None]
    # -|i| + 2 |i| (1 - g) is |i| - 2 |i| g: one formula for both signs.
    return quantise(image * (1 + columns(intensity) * (2 * rise - 1)), "round")

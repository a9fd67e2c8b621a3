"""Differentiable pixel primitives: tone, blur, noise and occlusion on 8-bit images held as floats.

Every function takes images (B, C, H, W) float in [0, 1] whose values are multiples of 1/255, one magnitude per image
(B,), and returns the same shape, range and grid: what Albumentations gives on the uint8 image, rounding included, so
that a policy is searched on the very images that it later emits. Rounding and other steps that are not differentiable
pass their gradient straight through.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

LEVELS = 255.0
# Below one grey level, above the rounding noise of float32: keeps floor() from losing a level that is already whole.
_WHOLE = 1e-3
# Rec. 601, as OpenCV's RGB to grey.
_LUMA = (0.299, 0.587, 0.114)


def straight_through(value: Tensor, surrogate: Tensor) -> Tensor:
    """`value` going forward, the gradient of `surrogate` going back (same shapes)."""
    return surrogate + (value - surrogate).detach()


def quantise(image: Tensor, rounding: Literal["floor", "round"] = "floor") -> Tensor:
    """Clip to [0, 1] and put on the 8-bit grid; the gradient passes straight through, at the clip too.

    Albumentations' look-up tables truncate ("floor"); OpenCV's filters and warps round.
    """
    levels = image.detach() * LEVELS
    whole = torch.floor(levels + _WHOLE) if rounding == "floor" else torch.round(levels)
    return straight_through(whole.clamp_(0, LEVELS).div_(LEVELS), image)


def _column(magnitude: Tensor) -> Tensor:
    return magnitude[:, None, None, None]


def brightness(image: Tensor, shift: Tensor) -> Tensor:
    """image + shift; 0 is the identity."""
    return quantise(image + _column(shift))


def contrast(image: Tensor, factor: Tensor) -> Tensor:
    """Scale the distance to the image's mean (of its luma, with three channels); 1 is the identity."""
    luma = image if image.shape[1] == 1 else (image * image.new_tensor(_LUMA)[:, None, None]).sum(1, keepdim=True)
    mean = luma.mean((1, 2, 3), keepdim=True)
    return quantise(mean + _column(factor) * (image - mean))


def gamma(image: Tensor, exponent: Tensor) -> Tensor:
    """image ** exponent; 1 is the identity. Black stays black and sends no gradient."""
    lit = image > 0
    return quantise(torch.where(lit, image, 1.0) ** _column(exponent) * lit)


def invert(image: Tensor, amount: Tensor) -> Tensor:
    """Negative at amount 1, identity at 0."""
    return quantise(image + _column(amount) * (1 - 2 * image), "round")


def solarize(image: Tensor, strength: Tensor, softness: float = 0.05) -> Tensor:
    """Invert the pixels at or above the threshold 1 - strength; strength 0 is the identity.

    The gradient is that of a threshold blurred by `softness`, since the step itself has none.
    """
    strength = _column(strength)
    above = (image.detach() * LEVELS + _WHOLE >= (1 - strength) * LEVELS) & (strength > 0)
    surrogate = image + torch.sigmoid((image.detach() - 1 + strength) / softness) * (1 - 2 * image)
    return quantise(straight_through(torch.where(above, 1 - image, image), surrogate), "round")


def posterize(image: Tensor, removed_bits: Tensor) -> Tensor:
    """Clear the lowest `removed_bits` (rounded, 0 to 7) bits; 0 is the identity.

    The gradient to the number of bits is that of the mean darkening, (2^bits - 1) / 2 grey levels.
    """
    bits = _column(removed_bits)
    step = torch.pow(2.0, bits.detach().round())
    value = torch.floor((image.detach() * LEVELS).round() / step) * step / LEVELS
    return straight_through(value, image - (torch.pow(2.0, bits) - 1) / (2 * LEVELS))


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
    noise = _column(deviation) * field
    # Albumentations truncates the noise itself, towards zero, before it adds: that costs some of its variance.
    return quantise(image + straight_through(torch.trunc(noise.detach() * LEVELS) / LEVELS, noise), "round")


def hole(side: Tensor, height: int, width: int, generator: torch.Generator, softness: float = 2.0) -> Tensor:
    """Indicator (B, 1, H, W) of one square hole of `side` pixels (rounded) at a uniform place; 0 is empty.

    Binary going forward; going back, the edges are ramps `softness` pixels wide.
    """
    place = torch.rand(len(side), 2, generator=generator, device=side.device, dtype=side.dtype)
    whole = side.detach().round().clamp(0, min(height, width))
    axes = []
    for axis, size in enumerate((height, width)):
        start = torch.floor(place[:, axis] * (size - whole + 1))
        position = torch.arange(size, device=side.device, dtype=side.dtype)
        hard = (position >= start[:, None]) & (position < (start + whole)[:, None])
        middle = (start + (whole - 1) / 2)[:, None]
        soft = torch.sigmoid((side[:, None] / 2 - (position - middle).abs()) / softness)
        axes.append(straight_through(hard.to(side.dtype), soft))
    return axes[0][:, None, :, None] * axes[1][:, None, None, :]


def occlude(image: Tensor, indicator: Tensor, fill: float) -> Tensor:
    """The fill value (in [0, 1]) where `indicator` (B, 1, H, W) is 1."""
    return image + indicator * (fill - image)

"""Tone operations as maps of a curve: what each of the 256 input levels is mapped to so far, and after one more.

Every function takes and returns curves (B, C, 256) float in [0, 1], multiples of 1/255, and one magnitude per image
(B,). Some also need `histogram` (B, C, 256), the share of the pixels of the image that the curve is for at each of its
own levels, or uniform numbers (B,) in [0, 1). The entries are what Albumentations gives on the uint8 image, rounding
included. Steps that are not differentiable pass their gradient straight through.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from policy_search.relaxed.tone import LEVELS, WHOLE, quantise, straight_through

# Rec. 601, as OpenCV's RGB to grey.
_LUMA = (0.299, 0.587, 0.114)


@lru_cache(maxsize=16)
def _luma(device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.tensor(_LUMA, device=device, dtype=dtype)


def _rows(amount: Tensor) -> Tensor:
    return amount[:, None, None]


def brightness(curve: Tensor, shift: Tensor) -> Tensor:
    """curve + shift; 0 is the identity."""
    return quantise(curve + _rows(shift))


def contrast(curve: Tensor, histogram: Tensor, factor: Tensor) -> Tensor:
    """Scale the distance to the image's mean (of its luma, with three channels); 1 is the identity."""
    means = (histogram * curve).sum(2)
    luma = means if means.shape[1] == 1 else (means * _luma(means.device, means.dtype)).sum(1, keepdim=True)
    mean = luma[:, :, None]
    return quantise(mean + _rows(factor) * (curve - mean))


def gamma(curve: Tensor, exponent: Tensor) -> Tensor:
    """curve ** exponent; 1 is the identity. Black stays black and sends no gradient."""
    lit = curve > 0
    return quantise(torch.where(lit, curve, 1.0) ** _rows(exponent) * lit)


def invert(curve: Tensor, amount: Tensor) -> Tensor:
    """Negative at amount 1, identity at 0."""
    return quantise(curve + _rows(amount) * (1 - 2 * curve), "round")


def solarize(curve: Tensor, strength: Tensor, softness: float = 0.05) -> Tensor:
    """Invert the levels at or above the threshold 1 - strength; strength 0 is the identity.

    The gradient is that of a threshold blurred by `softness`, since the step itself has none.
    """
    strength = _rows(strength)
    above = (curve.detach() * LEVELS + WHOLE >= (1 - strength) * LEVELS) & (strength > 0)
    surrogate = curve + torch.sigmoid((curve.detach() - 1 + strength) / softness) * (1 - 2 * curve)
    return quantise(straight_through(torch.where(above, 1 - curve, curve), surrogate), "round")


def posterize(curve: Tensor, removed_bits: Tensor) -> Tensor:
    """Clear the lowest `removed_bits` (rounded, 0 to 7) bits; 0 is the identity.

    The gradient to the number of bits is that of the mean darkening, (2^bits - 1) / 2 grey levels.
    """
    bits = _rows(removed_bits)
    step = torch.pow(2.0, bits.detach().round())
    value = torch.floor((curve.detach() * LEVELS).round() / step) * step / LEVELS
    return straight_through(value, curve - (torch.pow(2.0, bits) - 1) / (2 * LEVELS))


def equalize(curve: Tensor, histogram: Tensor) -> Tensor:
    """Each level becomes the share of pixels up to it, per channel, as OpenCV scales it; flat images stay as they are.

    No gradient to `curve`: an equalised image forgets every rising curve before it, so its derivative is zero.
    """
    with torch.no_grad():
        levels = (curve * LEVELS).round().long()
        shares = torch.zeros_like(histogram).scatter_add_(2, levels, histogram)
        # The darkest level in use becomes black: its own share does not count.
        darkest = shares.gather(2, (shares > 0).int().argmax(2, keepdim=True))
        flat = (shares > 0).sum(2, keepdim=True) < 2
        upto = (shares.cumsum(2) - darkest) / torch.where(flat, 1.0, 1 - darkest)
        return torch.where(flat, curve, quantise(upto.gather(2, levels), "round"))


def autocontrast(curve: Tensor, histogram: Tensor) -> Tensor:
    """Stretch the levels in use to the full range, per channel; flat images stay as they are.

    White does not count as in use: Albumentations' histogram leaves level 255 out.
    """
    used = (histogram > 0) & (curve.detach() * LEVELS < LEVELS - 0.5)
    low = torch.where(used, curve, 2.0).amin(2, keepdim=True)
    high = torch.where(used, curve, -1.0).amax(2, keepdim=True)
    flat = (high - low).detach() * LEVELS < 0.5
    smooth = torch.where(flat, curve, (curve - low) / torch.where(flat, 1.0, high - low))
    # Whole numbers in float64 meet the same ties as Albumentations, which rounds them to even.
    with torch.no_grad():
        level, first, last = ((entry * LEVELS).round().double() for entry in (curve, low, high))
        stretched = ((level - first) * (LEVELS / torch.where(flat, 1.0, last - first))).round().clamp(0, LEVELS)
        value = torch.where(flat, curve, (stretched / LEVELS).to(curve.dtype))
    return straight_through(value, smooth)


def tone_curve(curve: Tensor, scale: Tensor, shadow: Tensor, light: Tensor) -> Tensor:
    """Bezier curve from black to white whose two inner points are normal about 1/4 and 3/4, with deviation `scale`.

    `shadow` and `light` are the uniform numbers that they are drawn by; points are clipped to [0, 1]. The identity
    nowhere: with `scale` 0 it is an S of up to 6 grey levels.
    """
    # Clipped, as the normal quantile is infinite at the ends of [0, 1).
    normal = (torch.special.ndtri(uniform.clamp(1e-6, 1 - 1e-6)) for uniform in (shadow, light))
    low, high = (_rows((at + scale * z).clamp(0, 1)) for at, z in zip((0.25, 0.75), normal, strict=True))
    return bezier(curve, low, high)


def bezier(curve: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The cubic with control values 0, `low`, `high` and 1 (broadcast to the curve's shape)."""
    rest = 1 - curve
    return quantise(3 * rest**2 * curve * low + 3 * rest * curve**2 * high + curve**3, "round")

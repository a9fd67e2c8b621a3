"""The Albumentations transforms that the catalogue emits: each from the ends of a range, with p=1.

Every argument is written out, so that no default of another version can drift in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import albumentations as A
import cv2

from policy_search.augment.transforms import CopyPaste
from policy_search.relaxed.operations import Emission

Emit = Callable[[float, float, Emission], A.BasicTransform]
# The intensities that albumentations.Illumination takes.
ILLUMINATION = (0.01, 0.2)


def affine(border: int = cv2.BORDER_CONSTANT, **ranges: Callable[[float, float], Any]) -> Emit:
    """`albumentations.Affine` with one moving part."""

    def emit(low: float, high: float, emission: Emission) -> A.BasicTransform:
        return A.Affine(
            **{
                "scale": (1.0, 1.0),
                "rotate": (0.0, 0.0),
                "shear": (0.0, 0.0),
                **{name: make(low, high) for name, make in ranges.items()},
            },
            interpolation=cv2.INTER_LINEAR,
            mask_interpolation=cv2.INTER_NEAREST,
            # A mirrored border would show cells a second time under the same instance id.
            border_mode=border,
            fill=emission.fill,
            fill_mask=0,
            p=1.0,
        )

    return emit


def along_x(low: float, high: float, rest: float) -> dict[str, tuple[float, float]]:
    """A range along x; y rests."""
    return {"x": (low, high), "y": (rest, rest)}


def along_y(low: float, high: float, rest: float) -> dict[str, tuple[float, float]]:
    """A range along y; x rests."""
    return {"x": (rest, rest), "y": (low, high)}


def contrast(low: float, high: float, emission: Emission) -> A.BasicTransform:
    """Factors of the distance to the mean."""
    # RandomBrightnessContrast multiplies about black, which moves the mean; ColorJitter scales about the mean. With
    # the other three factors at rest it works on one channel as well.
    del emission
    return A.ColorJitter(brightness=(1.0, 1.0), contrast=(low, high), saturation=(1.0, 1.0), hue=(0.0, 0.0), p=1.0)


def brightness(low: float, high: float, emission: Emission) -> A.BasicTransform:
    """Shifts in shares of the full scale."""
    del emission
    return A.RandomBrightnessContrast(
        brightness_limit=(low, high),
        contrast_limit=(0.0, 0.0),
        brightness_by_max=True,
        ensure_safe_range=False,
        p=1.0,
    )


def gamma(low: float, high: float, emission: Emission) -> A.BasicTransform:
    """Exponents."""
    del emission
    return A.RandomGamma(gamma_limit=(100 * low, 100 * high), p=1.0)


def solarize(low: float, high: float, emission: Emission) -> A.BasicTransform:
    """Strengths: 1 less the threshold."""
    del emission
    return A.Solarize(threshold_range=(1 - high, 1 - low), p=1.0)


def posterize(low: float, high: float, emission: Emission) -> A.BasicTransform:
    """Bits that are cleared."""
    del emission
    return A.Posterize(num_bits=(8 - round(high), 8 - round(low)), p=1.0)


def equalize(low: float, high: float, emission: Emission) -> A.BasicTransform:
    """Each channel by its own histogram."""
    del low, high, emission
    return A.Equalize(mode="cv", by_channels=True, mask=None, mask_params=(), p=1.0)


def autocontrast(low: float, high: float, emission: Emission) -> A.BasicTransform:
    """Each channel from its darkest to its lightest level."""
    del low, high, emission
    # "cdf" would equalise.
    return A.AutoContrast(cutoff=0.0, ignore=None, method="pil", p=1.0)


def tone_curve(low: float, high: float, emission: Emission) -> A.BasicTransform:
    """One deviation of both control points; the ends are the same."""
    del high, emission
    return A.RandomToneCurve(scale=low, per_channel=False, p=1.0)


def sharpen(low: float, high: float, emission: Emission) -> A.BasicTransform:
    """Shares of the sharpened image."""
    del emission
    # At this lightness the kernel sums to 1, so that sharpening does not brighten.
    return A.Sharpen(alpha=(low, high), lightness=(1.0, 1.0), method="kernel", p=1.0)


def illumination(low: float, high: float, emission: Emission) -> A.BasicTransform:
    """Intensities over the searched crop, made up to those over an image `extent` times as wide."""
    first, last = ILLUMINATION
    return A.Illumination(
        mode="linear",
        intensity_range=tuple(min(max(end * emission.extent, first), last) for end in (low, high)),
        effect_type="both",
        angle_range=(0.0, 360.0),
        p=1.0,
    )


def copy_paste(low: float, high: float, emission: Emission) -> A.BasicTransform:
    """No magnitude."""
    del low, high, emission
    return CopyPaste(paste_probability=0.25, p=1.0)


def blur(low: float, high: float, emission: Emission) -> A.BasicTransform:
    """Sigmas in pixels."""
    del emission
    # A kernel size of 0 asks for the one that follows from sigma.
    return A.GaussianBlur(blur_limit=(0, 0), sigma_limit=(low, high), p=1.0)


def noise(low: float, high: float, emission: Emission) -> A.BasicTransform:
    """Deviations in shares of the full scale."""
    del emission
    # One field for all channels: a grey image stored as RGB must stay grey.
    return A.GaussNoise(std_range=(low, high), mean_range=(0.0, 0.0), per_channel=False, noise_scale_factor=1.0, p=1.0)


def cutout(low: float, high: float, emission: Emission) -> A.BasicTransform:
    """Sides in pixels."""
    side = (round(low), round(high))
    return A.CoarseDropout(
        num_holes_range=(emission.holes, emission.holes),
        hole_height_range=side,
        hole_width_range=side,
        fill=emission.fill,
        # What cannot be seen is not to be found: the covered part leaves the mask as well.
        fill_mask=0,
        p=1.0,
    )

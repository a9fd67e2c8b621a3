"""The table of operations, each with its exact Albumentations 2.0.8 twin.

Magnitudes are in the unit of the emitted transform, lengths in pixels rather than in fractions of the image: a cell is
as large in the searched crop as in the full image, and so must be a shift or a hole. Bounds are wide enough to leave
the source's look far behind; what is useful within them is learnt.

Tested at the bounds and between, on one and three channels and on oblong images, against the emitted transform at the
same magnitude. An image may differ by so many grey levels (mean absolute), a mask by so much of its IoU:

    exact (0.002: a few ties of rounding)   flips, translate_x/y, brightness, solarize, posterize, invert, equalize,
                                            autocontrast, sharpen, and at the same drawn numbers tone_curve,
                                            illumination and copy_paste
    0.05 (OpenCV's fixed-point warps        rotate, shear_x/y, scale, stretch_x/y, crop_resize, gaussian_blur, contrast
    and kernels; rounded luma)
    0.2 (a truncated float64 table)         gamma
    distributions                           gaussian_noise, cutout
    IoU of masks at least 0.97              all: nearest neighbours differ where a source lies midway between pixels

Where the emitted transform cannot do what was searched, or does it to another extent:

    cutout        the searched hole is a square, the emitted one draws height and width apart from the same range
    crop_resize   the searched crop is enlarged about its middle, as it lies at a random place already; see the entry
    illumination  on an image larger than the searched crop the same steepness per pixel adds up to more, so crops of
                  it differ more in brightness; Albumentations bounds the sum, so large images get less of it
    equalize, autocontrast and contrast use the levels of the whole image, in the search those of the crop
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import albumentations as A
import cv2
import torch
from torch import Tensor

from policy_search.augment.transforms import CopyPaste
from policy_search.relaxed import curves, occlusion, texture, warp
from policy_search.relaxed.operations import Emission, Group, Operation, Range

_Emit = Callable[[float, float, Emission], A.BasicTransform]


def _affine(border: int = cv2.BORDER_CONSTANT, **ranges: Callable[[float, float], Any]) -> _Emit:
    """`albumentations.Affine` with one moving part; every other argument written out, so no default can drift."""

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


def _flip(horizontal: bool) -> Callable[[Tensor], Tensor]:
    def matrix(amount: Tensor) -> Tensor:
        still = torch.ones_like(amount)
        mirror = 1 - 2 * amount
        return warp.scaling(mirror, still) if horizontal else warp.scaling(still, mirror)

    return matrix


def _along(make: Callable[[Tensor, Tensor], Tensor], axis: str, rest: float) -> Callable[[Tensor], Tensor]:
    """One axis of a two-axis matrix; the other one rests."""

    def matrix(amount: Tensor) -> Tensor:
        still = torch.full_like(amount, rest)
        return make(amount, still) if axis == "x" else make(still, amount)

    return matrix


def _x(low: float, high: float, rest: float) -> dict[str, tuple[float, float]]:
    return {"x": (low, high), "y": (rest, rest)}


def _y(low: float, high: float, rest: float) -> dict[str, tuple[float, float]]:
    return {"x": (rest, rest), "y": (low, high)}


def _emit_contrast(low: float, high: float, emission: Emission) -> A.BasicTransform:
    # RandomBrightnessContrast multiplies about black, which moves the mean; ColorJitter scales about the mean. With
    # the other three factors at rest it works on one channel as well.
    del emission
    return A.ColorJitter(brightness=(1.0, 1.0), contrast=(low, high), saturation=(1.0, 1.0), hue=(0.0, 0.0), p=1.0)


def _emit_brightness(low: float, high: float, emission: Emission) -> A.BasicTransform:
    del emission
    return A.RandomBrightnessContrast(
        brightness_limit=(low, high),
        contrast_limit=(0.0, 0.0),
        brightness_by_max=True,
        ensure_safe_range=False,
        p=1.0,
    )


def _emit_gamma(low: float, high: float, emission: Emission) -> A.BasicTransform:
    del emission
    return A.RandomGamma(gamma_limit=(100 * low, 100 * high), p=1.0)


def _emit_solarize(low: float, high: float, emission: Emission) -> A.BasicTransform:
    del emission
    return A.Solarize(threshold_range=(1 - high, 1 - low), p=1.0)


def _emit_posterize(low: float, high: float, emission: Emission) -> A.BasicTransform:
    del emission
    return A.Posterize(num_bits=(8 - round(high), 8 - round(low)), p=1.0)


def _emit_equalize(low: float, high: float, emission: Emission) -> A.BasicTransform:
    del low, high, emission
    return A.Equalize(mode="cv", by_channels=True, mask=None, mask_params=(), p=1.0)


def _emit_autocontrast(low: float, high: float, emission: Emission) -> A.BasicTransform:
    del low, high, emission
    # "cdf" would equalise.
    return A.AutoContrast(cutoff=0.0, ignore=None, method="pil", p=1.0)


def _emit_tone_curve(low: float, high: float, emission: Emission) -> A.BasicTransform:
    del high, emission
    return A.RandomToneCurve(scale=low, per_channel=False, p=1.0)


def _emit_sharpen(low: float, high: float, emission: Emission) -> A.BasicTransform:
    del emission
    # At this lightness the kernel sums to 1, so that sharpening does not brighten.
    return A.Sharpen(alpha=(low, high), lightness=(1.0, 1.0), method="kernel", p=1.0)


_ILLUMINATION = (0.01, 0.2)  # what Albumentations takes


def _emit_illumination(low: float, high: float, emission: Emission) -> A.BasicTransform:
    first, last = _ILLUMINATION
    return A.Illumination(
        mode="linear",
        intensity_range=tuple(min(max(end * emission.extent, first), last) for end in (low, high)),
        effect_type="both",
        angle_range=(0.0, 360.0),
        p=1.0,
    )


def _emit_copy_paste(low: float, high: float, emission: Emission) -> A.BasicTransform:
    del low, high, emission
    return CopyPaste(paste_probability=0.25, p=1.0)


def _emit_blur(low: float, high: float, emission: Emission) -> A.BasicTransform:
    del emission
    # A kernel size of 0 asks for the one that follows from sigma.
    return A.GaussianBlur(blur_limit=(0, 0), sigma_limit=(low, high), p=1.0)


def _emit_noise(low: float, high: float, emission: Emission) -> A.BasicTransform:
    del emission
    # One field for all channels: a grey image stored as RGB must stay grey.
    return A.GaussNoise(std_range=(low, high), mean_range=(0.0, 0.0), per_channel=False, noise_scale_factor=1.0, p=1.0)


def _emit_cutout(low: float, high: float, emission: Emission) -> A.BasicTransform:
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


CATALOGUE: tuple[Operation, ...] = (
    Operation("horizontal_flip", Group.POSE, None, lambda low, high, e: A.HorizontalFlip(p=1.0), matrix=_flip(True)),
    Operation("vertical_flip", Group.POSE, None, lambda low, high, e: A.VerticalFlip(p=1.0), matrix=_flip(False)),
    Operation(
        "rotate",
        Group.POSE,
        Range(-90, 90, identity=0, start=(-15, 15)),
        _affine(rotate=lambda low, high: (low, high)),
        matrix=warp.rotation,
    ),
    Operation(
        "translate_x",
        Group.POSE,
        Range(-32, 32, identity=0, start=(-8, 8), whole=True),
        _affine(translate_px=lambda low, high: _x(round(low), round(high), 0)),
        matrix=_along(warp.translation, "x", 0.0),
    ),
    Operation(
        "translate_y",
        Group.POSE,
        Range(-32, 32, identity=0, start=(-8, 8), whole=True),
        _affine(translate_px=lambda low, high: _y(round(low), round(high), 0)),
        matrix=_along(warp.translation, "y", 0.0),
    ),
    Operation(
        "shear_x",
        Group.SHAPE,
        Range(-30, 30, identity=0, start=(-5, 5)),
        _affine(shear=lambda low, high: _x(low, high, 0.0)),
        matrix=_along(warp.shear, "x", 0.0),
    ),
    Operation(
        "shear_y",
        Group.SHAPE,
        Range(-30, 30, identity=0, start=(-5, 5)),
        _affine(shear=lambda low, high: _y(low, high, 0.0)),
        matrix=_along(warp.shear, "y", 0.0),
    ),
    Operation(
        "scale",
        Group.SHAPE,
        Range(0.5, 2, identity=1, start=(0.87, 1.15), logarithmic=True),
        _affine(scale=lambda low, high: (low, high), keep_ratio=lambda low, high: True),
        matrix=lambda amount: warp.scaling(amount, amount),
    ),
    Operation(
        "stretch_x",
        Group.SHAPE,
        Range(0.6, 1 / 0.6, identity=1, start=(0.87, 1.15), logarithmic=True),
        _affine(scale=lambda low, high: _x(low, high, 1.0)),
        matrix=_along(warp.scaling, "x", 1.0),
    ),
    Operation(
        "stretch_y",
        Group.SHAPE,
        Range(0.6, 1 / 0.6, identity=1, start=(0.87, 1.15), logarithmic=True),
        _affine(scale=lambda low, high: _y(low, high, 1.0)),
        matrix=_along(warp.scaling, "y", 1.0),
    ),
    # Crop and resize back. The searched crop lies at a random place already, so the relaxed form enlarges about its
    # middle; the emitted one shows a random part of the whole image, placed so that no border shows at any drawn scale.
    # That bounds the place by the smallest scale: the outer parts of the image are shown less often than the middle.
    Operation(
        "crop_resize",
        Group.SHAPE,
        Range(1, 2, identity=1, start=(1.05, 1.3), logarithmic=True),
        _affine(
            # Replicated, because interpolation at the outermost half pixel would otherwise mix in the fill colour.
            border=cv2.BORDER_REPLICATE,
            scale=lambda low, high: (low, high),
            keep_ratio=lambda low, high: True,
            translate_percent=lambda low, high: (-(low - 1) / 2, (low - 1) / 2),
        ),
        matrix=lambda amount: warp.scaling(amount, amount),
    ),
    Operation(
        "brightness",
        Group.TONE,
        Range(-0.4, 0.4, identity=0, start=(-0.08, 0.08)),
        _emit_brightness,
        curve=lambda curve, _, amount: curves.brightness(curve, amount),
    ),
    Operation(
        "contrast",
        Group.TONE,
        Range(0.3, 1 / 0.3, identity=1, start=(0.8, 1.25), logarithmic=True),
        _emit_contrast,
        curve=curves.contrast,
    ),
    Operation(
        "gamma",
        Group.TONE,
        Range(0.4, 2.5, identity=1, start=(0.8, 1.25), logarithmic=True),
        _emit_gamma,
        curve=lambda curve, _, amount: curves.gamma(curve, amount),
    ),
    Operation(
        "solarize",
        Group.TONE,
        Range(0.02, 0.98, identity=0, start=(0.1, 0.3)),
        _emit_solarize,
        curve=lambda curve, _, amount: curves.solarize(curve, amount),
        gate_scales=False,
    ),
    Operation(
        "posterize",
        Group.TONE,
        Range(1, 6, identity=0, start=(1.5, 3.5), whole=True),
        _emit_posterize,
        curve=lambda curve, _, amount: curves.posterize(curve, amount),
        gate_scales=False,
    ),
    Operation(
        "invert",
        Group.TONE,
        None,
        lambda low, high, e: A.InvertImg(p=1.0),
        curve=lambda curve, _, amount: curves.invert(curve, amount),
    ),
    Operation(
        "equalize",
        Group.TONE,
        None,
        _emit_equalize,
        curve=lambda curve, histogram, _: curves.equalize(curve, histogram),
        gate_scales=False,
    ),
    Operation(
        "autocontrast",
        Group.TONE,
        None,
        _emit_autocontrast,
        curve=lambda curve, histogram, _: curves.autocontrast(curve, histogram),
        gate_scales=False,
    ),
    Operation(
        "tone_curve",
        Group.TONE,
        # At 0 it is 6 grey levels away from the identity: the nearest that Albumentations' formula comes to it.
        Range(0.02, 0.4, identity=0, start=(0.1, 0.1), single=True),
        _emit_tone_curve,
        curve=lambda curve, _, amount, shadow, light: curves.tone_curve(curve, amount, shadow, light),
        gate_scales=False,
        noise=2,
    ),
    Operation(
        "gaussian_blur",
        Group.TEXTURE,
        Range(0.3, 4, identity=0, start=(0.5, 1.5)),
        _emit_blur,
        pixels=lambda image, amount, _: texture.gaussian_blur(image, amount),
        gate_scales=False,
    ),
    Operation(
        "sharpen",
        Group.TEXTURE,
        Range(0, 1, identity=0, start=(0.05, 0.25)),
        _emit_sharpen,
        pixels=lambda image, amount, _: texture.sharpen(image, amount),
    ),
    Operation(
        "gaussian_noise",
        Group.TEXTURE,
        Range(0.0, 0.12, identity=0, start=(0.005, 0.02)),
        _emit_noise,
        pixels=texture.gaussian_noise,
    ),
    Operation(
        "illumination",
        Group.TEXTURE,
        Range(*_ILLUMINATION, identity=0, start=(0.03, 0.1)),
        _emit_illumination,
        pixels=texture.illumination,
    ),
    Operation(
        "cutout",
        Group.OCCLUSION,
        Range(4, 64, identity=0, start=(8, 24), whole=True),
        _emit_cutout,
        hole=occlusion.hole,
        gate_scales=False,
    ),
    # Only its gate is learnt; the share of instances is the paper's (4.2.5).
    Operation(
        "copy_paste",
        Group.OCCLUSION,
        None,
        _emit_copy_paste,
        paste=occlusion.paste_neighbour,
        gate_scales=False,
        opt_in=True,
    ),
)


def operations(*names: str) -> tuple[Operation, ...]:
    """The entries with these names, in the order given; all but the opt-in ones when none is named.

    Raises:
        KeyError: a name is not in the catalogue.
    """
    by_name = {operation.name: operation for operation in CATALOGUE}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise KeyError(f"unknown operations {unknown}: expected names among {', '.join(by_name)}")
    if names:
        return tuple(by_name[name] for name in names)
    return tuple(operation for operation in CATALOGUE if not operation.opt_in)

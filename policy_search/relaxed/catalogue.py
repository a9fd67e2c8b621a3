"""The table of operations, each with its exact Albumentations 2.0.8 twin.

Magnitudes are in the unit of the emitted transform, lengths in pixels rather than in fractions of the image: a cell is
as large in the searched crop as in the full image, and so must be a shift or a hole. Bounds are wide enough to leave
the source's look far behind; what is useful within them is learnt.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import albumentations as A
import cv2
import torch
from torch import Tensor

from policy_search.relaxed import tone, warp
from policy_search.relaxed.operations import Emission, Group, Operation, Range

_Emit = Callable[[float, float, Emission], A.BasicTransform]


def _affine(**ranges: Callable[[float, float], Any]) -> _Emit:
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
            border_mode=cv2.BORDER_CONSTANT,
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
    Operation(
        "brightness",
        Group.TONE,
        Range(-0.4, 0.4, identity=0, start=(-0.08, 0.08)),
        _emit_brightness,
        pixels=lambda image, amount, _: tone.brightness(image, amount),
    ),
    Operation(
        "contrast",
        Group.TONE,
        Range(0.3, 1 / 0.3, identity=1, start=(0.8, 1.25), logarithmic=True),
        _emit_contrast,
        pixels=lambda image, amount, _: tone.contrast(image, amount),
    ),
    Operation(
        "gamma",
        Group.TONE,
        Range(0.4, 2.5, identity=1, start=(0.8, 1.25), logarithmic=True),
        _emit_gamma,
        pixels=lambda image, amount, _: tone.gamma(image, amount),
    ),
    Operation(
        "solarize",
        Group.TONE,
        Range(0.02, 0.98, identity=0, start=(0.1, 0.3)),
        _emit_solarize,
        pixels=lambda image, amount, _: tone.solarize(image, amount),
        gate_scales=False,
    ),
    Operation(
        "posterize",
        Group.TONE,
        Range(1, 6, identity=0, start=(1.5, 3.5), whole=True),
        _emit_posterize,
        pixels=lambda image, amount, _: tone.posterize(image, amount),
        gate_scales=False,
    ),
    Operation(
        "invert",
        Group.TONE,
        None,
        lambda low, high, e: A.InvertImg(p=1.0),
        pixels=lambda image, amount, _: tone.invert(image, amount),
    ),
    Operation(
        "gaussian_blur",
        Group.TEXTURE,
        Range(0.3, 4, identity=0, start=(0.5, 1.5)),
        _emit_blur,
        pixels=lambda image, amount, _: tone.gaussian_blur(image, amount),
        gate_scales=False,
    ),
    Operation(
        "gaussian_noise",
        Group.TEXTURE,
        Range(0.0, 0.12, identity=0, start=(0.01, 0.03)),
        _emit_noise,
        pixels=lambda image, amount, generator: tone.gaussian_noise(image, amount, generator),
    ),
    Operation(
        "cutout",
        Group.OCCLUSION,
        Range(4, 64, identity=0, start=(8, 24), whole=True),
        _emit_cutout,
        hole=tone.hole,
        gate_scales=False,
    ),
)


def operations(*names: str) -> tuple[Operation, ...]:
    """The entries with these names, in the order given; all of them when none is named.

    Raises:
        KeyError: a name is not in the catalogue.
    """
    by_name = {operation.name: operation for operation in CATALOGUE}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise KeyError(f"unknown operations {unknown}: expected names among {', '.join(by_name)}")
    return tuple(by_name[name] for name in names) if names else CATALOGUE

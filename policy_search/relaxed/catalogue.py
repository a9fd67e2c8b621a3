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

    crop_resize   the part that is shown lies anywhere in the searched crop, as far from its middle as no border shows
                  at the smallest scale of the range: the same shares of the sides of a larger image are more pixels
    illumination  on an image larger than the searched crop the same steepness per pixel adds up to more, so crops of
                  it differ more in brightness; Albumentations bounds the sum, so large images get less of it
    equalize, autocontrast and contrast use the levels of the whole image, in the search those of the crop
"""

from __future__ import annotations

from collections.abc import Callable

import albumentations as A
import cv2
import torch
from torch import Tensor

from policy_search.relaxed import blur, curves, emissions, occlusion, texture, warp
from policy_search.relaxed.operations import Group, Operation, Range


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


CATALOGUE: tuple[Operation, ...] = (
    Operation("horizontal_flip", Group.POSE, None, lambda low, high, e: A.HorizontalFlip(p=1.0), matrix=_flip(True)),
    Operation("vertical_flip", Group.POSE, None, lambda low, high, e: A.VerticalFlip(p=1.0), matrix=_flip(False)),
    Operation(
        "rotate",
        Group.POSE,
        Range(-90, 90, identity=0, start=(-15, 15), rest=0),
        emissions.affine(rotate=lambda low, high: (low, high)),
        matrix=warp.rotation,
    ),
    Operation(
        "translate_x",
        Group.POSE,
        Range(-32, 32, identity=0, start=(-8, 8), whole=True),
        emissions.affine(translate_px=lambda low, high: emissions.along_x(round(low), round(high), 0)),
        matrix=_along(warp.translation, "x", 0.0),
    ),
    Operation(
        "translate_y",
        Group.POSE,
        Range(-32, 32, identity=0, start=(-8, 8), whole=True),
        emissions.affine(translate_px=lambda low, high: emissions.along_y(round(low), round(high), 0)),
        matrix=_along(warp.translation, "y", 0.0),
    ),
    Operation(
        "shear_x",
        Group.SHAPE,
        Range(-30, 30, identity=0, start=(-5, 5), rest=0),
        emissions.affine(shear=lambda low, high: emissions.along_x(low, high, 0.0)),
        matrix=_along(warp.shear, "x", 0.0),
    ),
    Operation(
        "shear_y",
        Group.SHAPE,
        Range(-30, 30, identity=0, start=(-5, 5), rest=0),
        emissions.affine(shear=lambda low, high: emissions.along_y(low, high, 0.0)),
        matrix=_along(warp.shear, "y", 0.0),
    ),
    Operation(
        "scale",
        Group.SHAPE,
        Range(0.5, 2, identity=1, start=(0.87, 1.15), logarithmic=True, rest=1),
        emissions.affine(scale=lambda low, high: (low, high), keep_ratio=lambda low, high: True),
        matrix=lambda amount: warp.scaling(amount, amount),
    ),
    Operation(
        "stretch_x",
        Group.SHAPE,
        Range(0.6, 1 / 0.6, identity=1, start=(0.87, 1.15), logarithmic=True, rest=1),
        emissions.affine(scale=lambda low, high: emissions.along_x(low, high, 1.0)),
        matrix=_along(warp.scaling, "x", 1.0),
    ),
    Operation(
        "stretch_y",
        Group.SHAPE,
        Range(0.6, 1 / 0.6, identity=1, start=(0.87, 1.15), logarithmic=True, rest=1),
        emissions.affine(scale=lambda low, high: emissions.along_y(low, high, 1.0)),
        matrix=_along(warp.scaling, "y", 1.0),
    ),
    # Crop and resize back: enlarged, then moved to a random place at which no border shows at any drawn scale. That
    # bounds the place by the smallest scale (one transform draws both apart): the outer parts of the image are shown
    # less often than the middle. Sides are those of the emitted image, and of the searched crop without its context.
    Operation(
        "crop_resize",
        Group.SHAPE,
        Range(1, 2, identity=1, start=(1.05, 1.3), logarithmic=True),
        emissions.affine(
            # Replicated, because interpolation at the outermost half pixel would otherwise mix in the fill colour.
            border=cv2.BORDER_REPLICATE,
            scale=lambda low, high: (low, high),
            keep_ratio=lambda low, high: True,
            translate_percent=lambda low, high: (-(low - 1) / 2, (low - 1) / 2),
        ),
        matrix=lambda amount: warp.scaling(amount, amount),
        drift=lambda low: (low - 1) / 2,
        noise=2,
    ),
    Operation(
        "brightness",
        Group.TONE,
        Range(-0.4, 0.4, identity=0, start=(-0.08, 0.08), rest=0),
        emissions.brightness,
        curve=lambda curve, _, amount: curves.brightness(curve, amount),
    ),
    Operation(
        "contrast",
        Group.TONE,
        Range(0.3, 1 / 0.3, identity=1, start=(0.8, 1.25), logarithmic=True, rest=1),
        emissions.contrast,
        curve=curves.contrast,
    ),
    Operation(
        "gamma",
        Group.TONE,
        Range(0.4, 2.5, identity=1, start=(0.8, 1.25), logarithmic=True, rest=1),
        emissions.gamma,
        curve=lambda curve, _, amount: curves.gamma(curve, amount),
    ),
    Operation(
        "solarize",
        Group.TONE,
        Range(0.02, 0.98, identity=0, start=(0.1, 0.3)),
        emissions.solarize,
        curve=lambda curve, _, amount: curves.solarize(curve, amount),
        gate_scales=False,
    ),
    Operation(
        "posterize",
        Group.TONE,
        Range(1, 6, identity=0, start=(1.5, 3.5), whole=True),
        emissions.posterize,
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
        emissions.equalize,
        curve=lambda curve, histogram, _: curves.equalize(curve, histogram),
        gate_scales=False,
    ),
    Operation(
        "autocontrast",
        Group.TONE,
        None,
        emissions.autocontrast,
        curve=lambda curve, histogram, _: curves.autocontrast(curve, histogram),
        gate_scales=False,
    ),
    Operation(
        "tone_curve",
        Group.TONE,
        # At 0 it is 6 grey levels away from the identity: the nearest that Albumentations' formula comes to it.
        Range(0.02, 0.4, identity=0, start=(0.1, 0.1), single=True),
        emissions.tone_curve,
        curve=lambda curve, _, amount, shadow, light: curves.tone_curve(curve, amount, shadow, light),
        gate_scales=False,
        noise=2,
    ),
    Operation(
        "gaussian_blur",
        Group.TEXTURE,
        Range(0.3, blur.LARGEST_SIGMA, identity=0, start=(0.5, 1.5), rest=0.3),
        emissions.blur,
        pixels=lambda image, amount, _: blur.gaussian_blur(image, amount),
        gate_scales=False,
    ),
    Operation(
        "sharpen",
        Group.TEXTURE,
        Range(0, 1, identity=0, start=(0.05, 0.25), rest=0),
        emissions.sharpen,
        pixels=lambda image, amount, _: texture.sharpen(image, amount),
    ),
    Operation(
        "gaussian_noise",
        Group.TEXTURE,
        Range(0.0, 0.12, identity=0, start=(0.005, 0.02), rest=0.003),
        emissions.noise,
        pixels=texture.gaussian_noise,
    ),
    Operation(
        "illumination",
        Group.TEXTURE,
        Range(*emissions.ILLUMINATION, identity=0, start=(0.03, 0.1), rest=0.01),
        emissions.illumination,
        pixels=texture.illumination,
    ),
    Operation(
        "cutout",
        Group.OCCLUSION,
        Range(4, 64, identity=0, start=(8, 24), whole=True),
        emissions.cutout,
        hole=occlusion.hole,
        gate_scales=False,
    ),
    # Only its gate is learnt; the share of instances is the paper's (4.2.5).
    Operation(
        "copy_paste",
        Group.OCCLUSION,
        None,
        emissions.copy_paste,
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

"""The operations of AutoAlbument 0.4.0, one by one: what the search did, what the policy file does, our equivalent.

The search worked on images in [0, 1]; with the value v that a file states:

    operation                 the search did                        the file does
    ShiftRGB                  one channel + v                       the same, v cut to whole grey levels
    RandomBrightness          image + v                             the same
    RandomContrast            image · v                             image · (1 + v)
    Solarize                  1 − x where x ≥ v                     the same, v cut to whole grey levels
    HorizontalFlip, …         mirror                                the same
    Rotate                    v degrees counter-clockwise           the same
    ShiftX, ShiftY            v widths or heights to the right/down the same
    Scale                     zoom by v                             zoom by 1 + v, so it never shrinks
    CutoutFixedNumberOfHoles  black squares, mask untouched         the same; 1×1 where it never saw an image
    CutoutFixedSize           0 to 16 black squares                 1 hole also where the search had none

Warps mirror the border (reflection about the outermost pixel's centre) and turn about the image's centre.
Albumentations 0.5 turned about a point half a pixel beside it; the search and Albumentations from 1.0 on did not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

import albumentations as A
import cv2

from policy_search.augment.policy_json import shown
from policy_search.cells.errors import PolicyError

Reading = Literal["searched", "emitted"]
Pair = tuple[float, float]

# OpenCV walks through every mirror image between a pixel and its source: time grows with 1/scale, 0.07 s for a
# 704×520 image at 0.01, hours at the 1e-8 that the search could reach.
MIN_SCALE = 0.01


@dataclass(frozen=True)
class Leaf:
    """One operation of the file.

    Attributes:
        operation: AutoAlbument's name of it.
        transform: our equivalent, p still to be set.
        weight: the file's p: the weight in its stage.
        remarks: keys of `autoalbument.REMARKS` that apply to it.
    """

    operation: str
    transform: A.BasicTransform
    weight: float
    remarks: frozenset[str] = frozenset()


class Arguments:
    """The arguments of one transform in the file, read strictly: every one must be asked for, and fit."""

    def __init__(self, node: Mapping[str, Any], name: str, place: str) -> None:
        self.name = name
        self.place = place
        self._left = {k: v for k, v in node.items() if k not in ("__class_fullname__", "p")}
        self._left.pop("rotate_method", None)  # of Albumentations 1.3; concerns boxes only
        self.expect("always_apply", False, missing=False)

    def take(self, key: str) -> Any:
        """The raw value of a required argument."""
        if key not in self._left:
            raise self.error(key, "missing")
        return self._left.pop(key)

    def expect(self, key: str, wanted: Any, **default: Any) -> None:
        """An argument that AutoAlbument always writes in the same way."""
        found = self._left.pop(key, default["missing"]) if "missing" in default else self.take(key)
        if found != wanted or isinstance(found, bool) != isinstance(wanted, bool):
            raise self.error(key, f"expected {wanted!r}, found {shown(found)}")

    def pair(self, key: str, low: float, high: float) -> Pair:
        """A range [a, b] with low ≤ a ≤ b ≤ high."""
        value = self.take(key)
        if not isinstance(value, (list, tuple)) or len(value) != 2 or not all(_is_number(v) for v in value):
            raise self.error(key, f"expected two finite numbers, found {shown(value)}")
        if not low <= value[0] <= value[1] <= high:
            raise self.error(key, f"expected a rising range within {low:g} … {high:g}, found {shown(value)}")
        return value[0], value[1]

    def count(self, key: str) -> int:
        """A whole number of at least 1."""
        value = self.take(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self.error(key, f"expected a whole number of 1 or more, found {shown(value)}")
        return value

    def done(self) -> None:
        """Refuse what was not asked for."""
        if self._left:
            key = min(self._left)
            raise self.error(key, f"AutoAlbument 0.4.0 writes no such argument for {self.name}")

    def error(self, key: str, text: str) -> PolicyError:
        """An error that names the place."""
        return PolicyError(f"{self.place}.{key[:100]}: {text}. Give the file as AutoAlbument 0.4.0 wrote it.")


def convert_leaf(node: Mapping[str, Any], place: str, reading: Reading, white: float) -> Leaf:
    """Our equivalent of one transform.

    Args:
        node: the serialised transform; its class is already shortened to the last part of its path.
        place: file and key, for errors.
        reading: what it is to do: as searched, or as the file was run.
        white: largest pixel value of the images it was written for: 255 or 1.

    Raises:
        PolicyError: an operation that AutoAlbument 0.4.0 does not have, or arguments it does not write.
    """
    name = node["__class_fullname__"]
    if name not in _READERS:
        raise PolicyError(
            f"{place}: AutoAlbument 0.4.0 has no operation that writes {shown(name)}; expected {', '.join(_READERS)}. "
            "Take the operation out of the file, or convert it by hand."
        )
    weight = node.get("p")
    if not _is_number(weight) or not 0.0 <= weight <= 1.0:
        raise PolicyError(f"{place}.p: expected a probability from 0 to 1, found {shown(weight)}")
    arguments = Arguments(node, name, place)
    operation, transform, remarks = _READERS[name](arguments, reading, white)
    arguments.done()
    return Leaf(operation, transform, float(weight), frozenset(remarks))


_Read = tuple[str, A.BasicTransform, set[str]]


def _shift_rgb(arguments: Arguments, reading: Reading, white: float) -> _Read:
    ranges = [arguments.pair(f"{c}_shift_limit", -white, white) for c in "rgb"]
    # RGBShift is this class with other argument names, but 2.0.8 writes it in a form it cannot read back. Adding 0.0
    # turns the file's −0.0 into 0.
    noise = A.AdditiveNoise(
        noise_type="uniform",
        spatial_mode="constant",
        noise_params={"ranges": [(low / white + 0.0, high / white + 0.0) for low, high in ranges]},
        approximation=1.0,
    )
    return "ShiftRGB", noise, {"channels"}


def _brightness_contrast(arguments: Arguments, reading: Reading, white: float) -> _Read:
    brightness = arguments.pair("brightness_limit", -1.0, 1.0)
    contrast = arguments.pair("contrast_limit", 0.0, 10.0)
    arguments.expect("brightness_by_max", True)
    moved = [any(brightness), any(contrast)]
    # A value of exactly 0.0 is told from the argument that rests by its type: AutoAlbument rests at the integer 0.
    written = [isinstance(pair[0], float) for pair in (brightness, contrast)]
    which = moved if sum(moved) == 1 else written
    if sum(which) != 1 or sum(moved) == 2:
        raise arguments.error("brightness_limit", "expected either a brightness or a contrast, found both or neither")
    if which[1]:
        factor = [v - 1.0 if reading == "searched" else v for v in contrast]
        return "RandomContrast", _linear((0.0, 0.0), (factor[0], factor[1])), {"contrast"}
    return "RandomBrightness", _linear(brightness, (0.0, 0.0)), set()


def _linear(brightness: Pair, contrast: Pair) -> A.BasicTransform:
    """Pixels times 1 + contrast, plus brightness in units of white."""
    return A.RandomBrightnessContrast(
        brightness_limit=brightness, contrast_limit=contrast, brightness_by_max=True, ensure_safe_range=False
    )


def _solarize(arguments: Arguments, reading: Reading, white: float) -> _Read:
    low, high = arguments.pair("threshold", 0.0, white)
    return "Solarize", A.Solarize(threshold_range=(low / white, high / white)), set()


def _shift_scale_rotate(arguments: Arguments, reading: Reading, white: float) -> _Read:
    bounds = {"shift_limit_x": 1.0, "shift_limit_y": 1.0, "scale_limit": 10.0, "rotate_limit": 180.0}
    limits = {key: arguments.pair(key, 0.0 if key == "scale_limit" else -most, most) for key, most in bounds.items()}
    for key, always in (("interpolation", 1), ("border_mode", 4), ("value", None), ("mask_value", None)):
        arguments.expect(key, always)
    moved = [key for key, pair in limits.items() if any(pair)]
    if len(moved) > 1:
        raise arguments.error(moved[1], f"expected one movement, found {' and '.join(moved)}")
    # With nothing moved it is a rotation or shift by exactly 0: a scale of 0 was out of reach of the search.
    kind = moved[0] if moved else "rotate_limit"
    remarks = {"mirror"} if moved else set()
    shift = {"x": (0.0, 0.0), "y": (0.0, 0.0)}
    scale = rotate = (0.0, 0.0)
    if kind == "rotate_limit":
        rotate = limits[kind]
    elif kind == "scale_limit":
        scale = limits[kind]
        remarks.add("scale")
        if reading == "searched" and scale[0] < MIN_SCALE:
            scale = (max(scale[0], MIN_SCALE), max(scale[1], MIN_SCALE))
            remarks.add("tiny")
    else:
        shift[kind[-1]] = limits[kind]
    base = 0.0 if kind == "scale_limit" and reading == "searched" else 1.0
    operation = {"rotate_limit": "Rotate", "scale_limit": "Scale", "shift_limit_x": "ShiftX", "shift_limit_y": "ShiftY"}
    affine = A.Affine(
        scale=(base + scale[0], base + scale[1]),
        keep_ratio=True,
        translate_percent=shift,
        rotate=rotate,
        shear=(0.0, 0.0),
        interpolation=cv2.INTER_LINEAR,
        mask_interpolation=cv2.INTER_NEAREST,
        border_mode=cv2.BORDER_REFLECT_101,
        fill=0,
        fill_mask=0,
    )
    return operation[kind], affine, remarks


def _cutout(arguments: Arguments, reading: Reading, white: float) -> _Read:
    holes, height, width = (arguments.count(f"max_{part}") for part in ("holes", "height", "width"))
    for key, same in (("min_holes", holes), ("min_height", height), ("min_width", width)):
        arguments.expect(key, same)
    arguments.expect("fill_value", 0)
    arguments.expect("mask_fill_value", None)
    dropout = A.CoarseDropout(
        num_holes_range=(holes, holes),
        hole_height_range=(height, height),
        hole_width_range=(width, width),
        fill=0,
        fill_mask=None,
    )
    remarks = {"holes"} | ({"one hole"} if holes == 1 else set()) | ({"point"} if height == width == 1 else set())
    return "Cutout", dropout, remarks


_READERS: dict[str, Callable[[Arguments, Reading, float], _Read]] = {
    "RGBShift": _shift_rgb,
    "RandomBrightnessContrast": _brightness_contrast,
    "Solarize": _solarize,
    "HorizontalFlip": lambda arguments, reading, white: ("HorizontalFlip", A.HorizontalFlip(), set()),
    "VerticalFlip": lambda arguments, reading, white: ("VerticalFlip", A.VerticalFlip(), set()),
    "ShiftScaleRotate": _shift_scale_rotate,
    "CoarseDropout": _cutout,
    "NoOp": lambda arguments, reading, white: ("NoOp", A.NoOp(), set()),
}


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)

"""The held-back shifts: what a labelled image of the source looks like when cells and microscope are others.

With one labelled cell type nobody can measure transfer to a real other type, so the source's own validation images are
shifted along the axes on which cell types and microscopes differ (size, elongation, contrast, exposure, focus, noise,
illumination) and the labels follow. numpy and OpenCV only, independent of every policy operation, on purpose: a policy
must not be judged by the code that it is made of.

Amounts are in units of the image's own standard deviation where grey levels are concerned: phase-contrast images have a
standard deviation of 0.02 … 0.07 of full scale, and a fixed amount would be nothing on one data set and ruin on
another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from policy_search.cells import InstanceMap

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Shift:
    """A named change of an image (H, W) uint8 and its instances; the random generator is used by noise alone."""

    name: str
    apply: Callable[[Image, InstanceMap, np.random.Generator], tuple[Image, InstanceMap]]


def resized(image: Image, instances: InstanceMap, fy: float, fx: float) -> tuple[Image, InstanceMap]:
    """Image and instances scaled by `fy`, `fx`. Pixel (y, x) of the result shows source pixel floor((y + ½)·H/H')."""
    height, width = image.shape
    new_h, new_w = max(round(height * fy), 1), max(round(width * fx), 1)
    rows = ((np.arange(new_h) + 0.5) * height / new_h).astype(np.int64)
    cols = ((np.arange(new_w) + 0.5) * width / new_w).astype(np.int64)
    # Area averaging shrinks without aliasing; it is wrong for enlarging.
    small = cv2.resize(image, (min(new_w, width), min(new_h, height)), interpolation=cv2.INTER_AREA)
    out = cv2.resize(small, (new_w, new_h), interpolation=cv2.INTER_CUBIC)
    return np.asarray(out, np.uint8), instances.map_layers(lambda layer: layer[np.ix_(rows, cols)]).drop_specks(10)


def _to_grey(values: NDArray[np.floating[Any]]) -> Image:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)


def contrast(image: Image, factor: float) -> Image:
    """Grey levels spread about the image's mean by `factor`."""
    mean = image.mean()
    return _to_grey((image - mean) * factor + mean)


def brightness(image: Image, sigmas: float) -> Image:
    """Grey levels moved by so many standard deviations of the image."""
    return _to_grey(image + sigmas * image.std())


def blur(image: Image, sigma: float) -> Image:
    """Out of focus: Gaussian of `sigma` pixels."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)


def noise(image: Image, sigmas: float, rng: np.random.Generator) -> Image:
    """White noise of so many standard deviations of the image."""
    return _to_grey(image + rng.normal(0.0, sigmas * image.std(), image.shape))


def illumination(image: Image, sigmas: float) -> Image:
    """A linear gradient from -sigmas (top left corner) to +sigmas (bottom right corner) standard deviations."""
    height, width = image.shape
    ramp = np.add.outer(np.linspace(-0.5, 0.5, height), np.linspace(-0.5, 0.5, width))
    return _to_grey(image + ramp * sigmas * image.std())


def _geometry(name: str, fy: float, fx: float) -> Shift:
    return Shift(name, lambda image, instances, rng: resized(image, instances, fy, fx))


def _pixels(name: str, change: Callable[[Image], Image]) -> Shift:
    return Shift(name, lambda image, instances, rng: (change(image), instances))


HELD_BACK: tuple[Shift, ...] = (
    _pixels("unshifted", lambda image: image),
    _geometry("scale 0.5", 0.5, 0.5),
    _geometry("scale 0.7", 0.7, 0.7),
    _geometry("scale 1.5", 1.5, 1.5),
    _geometry("stretch x 1.5", 1.0, 1.5),
    _geometry("squeeze y 0.6", 0.6, 1.0),
    _pixels("contrast 0.5", lambda image: contrast(image, 0.5)),
    _pixels("contrast 2.2", lambda image: contrast(image, 2.2)),
    _pixels("brightness +0.6", lambda image: brightness(image, 0.6)),
    _pixels("blur 1.5", lambda image: blur(image, 1.5)),
    Shift("noise 0.5", lambda image, instances, rng: (noise(image, 0.5, rng), instances)),
    _pixels("illumination 0.8", lambda image: illumination(image, 0.8)),
)

"""Small generated images for the search's tests: faint cells of one size on a fine-grained background."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Pair = tuple[NDArray[np.uint8], NDArray[np.bool_]]


def culture(seed: int, *, size: int = 256, radius: float = 7.0, per_area: float = 1 / 700) -> Pair:
    """An image (size, size) uint8 with mean near 128 and deviation near 12, and the mask of its round cells."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((size, size), np.uint8)
    shade = np.zeros((size, size), np.float32)
    for _ in range(int(size * size * per_area)):
        place = tuple(int(v) for v in rng.integers(0, size, 2))
        cell = np.zeros((size, size), np.uint8)
        cv2.circle(cell, place, round(radius * rng.uniform(0.8, 1.2)), 1, -1)
        mask |= cell
        shade[cell > 0] = rng.uniform(-20, -8)
    halo = cv2.dilate(mask, np.ones((3, 3), np.uint8)) - mask
    grain = cv2.GaussianBlur(rng.normal(0, 1, (size, size)).astype(np.float32), (0, 0), 1.5)
    image = 130 + shade + 12.0 * halo + 5 * grain / grain.std()
    return np.clip(np.round(image), 0, 255).astype(np.uint8), mask > 0


def shifted(pair: Pair, *, brightness: int = 0, scale: float = 1.0) -> Pair:
    """The pair as another microscope would show it; made with OpenCV, independently of the policy's code."""
    image, mask = pair
    if scale != 1:
        side = round(image.shape[0] * scale)
        image = cv2.resize(image, (side, side), interpolation=cv2.INTER_LINEAR)
        mask = cv2.resize(mask.astype(np.uint8), (side, side), interpolation=cv2.INTER_NEAREST) > 0
    return np.clip(image.astype(int) + brightness, 0, 255).astype(np.uint8), mask

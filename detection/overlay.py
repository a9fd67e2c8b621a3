"""What a biologist sees of a prediction: cells as a label image, as outlines on the picture, and as numbers."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from policy_search.cells.instances import Instance

# The golden ratio's turn: colours of cells with neighbouring numbers lie far apart on the colour circle.
_TURN = 0.618034
_HUES = 24
# The contrast of the picture under the outlines: phase contrast uses a small part of the grey values.
_LOW, _HIGH = 0.5, 99.5


class Counts(NamedTuple):
    """Numbers of one image. Areas are pixels of whole cells, hidden parts included; NaN-free: None without cells."""

    cells: int
    mean_area: float | None
    median_area: float | None
    foreground: float


def visible(
    cells: Sequence[Instance], height: int, width: int
) -> tuple[NDArray[np.uint16 | np.uint32], list[Instance]]:
    """The label image, and the cells in it.

    Args:
        cells: best first; where two overlap, the better one is on top.

    Returns:
        (H, W) uint16, uint32 beyond 65,535 cells: 0 is background, k the k-th of the returned cells. A cell that lies
        wholly below better ones is in neither, so that the number of labels is the number of cells.
    """
    order = np.zeros((height, width), np.int32)
    for number in range(len(cells), 0, -1):
        x0, y0, x1, y1 = cells[number - 1].box
        order[y0:y1, x0:x1][cells[number - 1].mask] = number
    seen = np.unique(order)
    seen = seen[seen > 0]
    numbers = np.zeros(len(cells) + 1, np.uint32)
    numbers[seen] = np.arange(1, len(seen) + 1)
    kind = np.uint16 if len(seen) <= np.iinfo(np.uint16).max else np.uint32
    kept = [Instance(k, c.x0, c.y0, c.mask) for k, c in enumerate((cells[n - 1] for n in seen), start=1)]
    return numbers[order].astype(kind), kept


def counts(labels: NDArray[np.uint16 | np.uint32], cells: Sequence[Instance]) -> Counts:
    """Numbers over what `visible` gave."""
    areas = [cell.area for cell in cells]
    return Counts(
        cells=len(areas),
        mean_area=float(np.mean(areas)) if areas else None,
        median_area=float(np.median(areas)) if areas else None,
        foreground=float(np.count_nonzero(labels)) / labels.size,
    )


def overlay(image: NDArray[np.uint8], cells: Sequence[Instance]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB: the picture in grey, contrast stretched, each cell's outermost pixels in its colour.

    Args:
        image: (H, W) or (H, W, 3) uint8.
        cells: best first; the outline of a better cell is on top.
    """
    grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    low, high = np.percentile(grey, [_LOW, _HIGH])
    if high > low:
        grey = np.clip((grey.astype(np.float32) - low) * (255 / (high - low)), 0, 255).astype(np.uint8)
    shown = np.repeat(grey[..., None], 3, axis=2)
    for number in range(len(cells), 0, -1):
        x0, y0, x1, y1 = cells[number - 1].box
        shown[y0:y1, x0:x1][border(cells[number - 1].mask)] = colour(number)
    return shown


def border(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels of a (H, W) mask that have a side outside it."""
    solid = np.pad(mask, 1)
    inner = solid[:-2, 1:-1] & solid[2:, 1:-1] & solid[1:-1, :-2] & solid[1:-1, 2:]
    return mask & ~inner


def colour(number: int) -> tuple[int, int, int]:
    """RGB of the cell of that number: one of 24 hues, bright, never grey."""
    hue = round(number * _TURN * _HUES) % _HUES / _HUES
    # Pure blue is dark to the eye: paler there.
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.65 if 0.58 < hue < 0.78 else 0.85, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)

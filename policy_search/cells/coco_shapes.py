"""The shape of one COCO annotation, checked and turned into a run-length code.

pycocotools takes what it is given: a coordinate that is no number, or is far outside the frame, makes it write beside
its memory, and a count that is no number is cut to one. So nothing reaches it unchecked.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from policy_search.cells.errors import DataError
from policy_search.cells.rle import Rle

# Pixels along an outline. pycocotools notes each five times over, with 16 bytes each.
MAX_OUTLINE = 1 << 21
_NUMBERS = ({float}, {int}, {int, float})


def annotation_rle(annotation: dict[str, Any], height: int, width: int) -> Rle | None:
    """RLE of one annotation on its frame, or None if it has no usable shape (a ring needs three points).

    Raises:
        DataError: it is neither polygons nor a run-length code, or holds what is no number or no length.
    """
    shape = annotation["segmentation"]
    if isinstance(shape, dict):
        return _code(shape, height, width)
    rings = usable_rings(shape)
    if not rings:
        return None
    for ring in rings:
        _check_ring(ring)
    parts: list[Rle] = coco_mask.frPyObjects(rings, height, width)
    merged: Rle = parts[0] if len(parts) == 1 else coco_mask.merge(parts)
    return merged


def usable_rings(shape: Any) -> list[list[Any]]:
    """The rings of three points or more; no shape at all holds none.

    Raises:
        DataError: it is no list of rings.
    """
    if shape is None:
        return []
    if not isinstance(shape, list) or not all(isinstance(ring, list) for ring in shape):
        found = "a list of numbers" if isinstance(shape, list) else type(shape).__name__
        raise DataError(f"segmentation should be a list of rings [[x, y, …], …] or a run-length code, found {found}")
    return [ring for ring in shape if len(ring) >= 6 and len(ring) % 2 == 0]


def empty_rle(height: int, width: int) -> Rle:
    """RLE without a pixel."""
    rle: Rle = coco_mask.frPyObjects({"size": [height, width], "counts": [height * width]}, height, width)
    return rle


def _check_ring(ring: list[Any]) -> None:
    if set(map(type, ring)) not in _NUMBERS:
        wrong = next(v for v in ring if type(v) not in (int, float))
        raise DataError(f"a coordinate should be a number, found {ascii(wrong)[:40]}")
    try:
        numbers = np.array(ring, np.float64)
    except OverflowError:
        numbers = np.array([np.inf] * 6)
    furthest = float(np.abs(numbers).max())
    if furthest * 2 * len(ring) <= MAX_OUTLINE:
        return  # however it winds
    points = numbers.reshape(-1, 2)
    with np.errstate(invalid="ignore", over="ignore"):
        steps = float(np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum())
    # The largest coordinate counts too: of a short outline far away it would leave 32 bits.
    if not steps + furthest <= MAX_OUTLINE:
        raise DataError(
            f"an outline with coordinates up to {furthest:g} is {steps:g} pixels long, expected up to {MAX_OUTLINE}"
        )


def _code(shape: dict[str, Any], height: int, width: int) -> Rle:
    if not {"size", "counts"} <= shape.keys():
        raise DataError("a run-length code should have size and counts")
    size, counts = shape["size"], shape["counts"]
    if not isinstance(size, list) or size != [height, width]:
        raise DataError(f"a run-length code is for a {ascii(size)[:40]} frame, expected [{height}, {width}]")
    if isinstance(counts, str | bytes):
        return {"size": [height, width], "counts": counts}  # looked at when it is decoded
    if not isinstance(counts, list):
        raise DataError(f"counts of a run-length code should be text or numbers, found {type(counts).__name__}")
    lengths = _lengths(counts)
    if lengths is None or lengths.sum() != height * width or (lengths < 0).any():
        raise DataError(f"counts of a run-length code should be lengths that add up to {height * width} pixels")
    rle: Rle = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return rle


def _lengths(counts: list[Any]) -> NDArray[np.int64] | None:
    if set(map(type, counts)) != {int}:
        return None
    try:
        return np.clip(np.array(counts, np.int64), -1, 1 << 32)  # so that the sum keeps to 64 bits
    except OverflowError:
        return None

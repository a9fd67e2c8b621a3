"""Layer, box and area of every label in label layers, from one pass over their pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def label_table(layers: NDArray[np.uint16]) -> NDArray[np.int64]:
    """(N, 7) int64, by id: id, layer, x0, y0, x1, y1, area of every label in (L, H, W) label layers.

    Cells are some ten pixels wide, so the pixels are read once, for the runs of equal labels along the rows; all else
    is about runs, which are fewer by far. That takes a fifth of the time of `ndimage.find_objects` and a histogram.
    """
    _, height, width = layers.shape
    flat = layers.ravel()
    is_last = np.zeros(-(-flat.size // 8) * 8, bool)
    np.not_equal(flat[1:], flat[:-1], out=is_last[: max(flat.size - 1, 0)])
    is_last[width - 1 : flat.size : max(width, 1)] = True  # runs end with their row
    ends = _positions(is_last)
    lengths, labels = np.diff(ends, prepend=-1), flat[ends]
    # A stable order keeps the runs of a label from top to bottom, layer by layer; the background's come first.
    order = np.argsort(labels, kind="stable")[len(labels) - np.count_nonzero(labels) :]
    if len(order) == 0:
        return np.zeros((0, 7), np.int64)
    labels, ends, lengths = labels[order], ends[order], lengths[order]
    rows = ends // width
    x1 = ends - rows * width + 1
    layer = rows // height
    first = np.flatnonzero(np.concatenate([[True], (np.diff(labels) != 0) | (np.diff(layer) != 0)]))
    last = np.append(first[1:], len(labels)) - 1
    found = layer[first]
    return np.column_stack([
        labels[first], found,
        np.minimum.reduceat(x1 - lengths, first), rows[first] - found * height,
        np.maximum.reduceat(x1, first), rows[last] - found * height + 1,
        np.add.reduceat(lengths, first),
    ])  # fmt: skip


def _positions(flags: NDArray[np.bool_]) -> NDArray[np.int64]:
    """`np.flatnonzero` of flags that are mostly false and a multiple of eight in number, read eight at a time.

    Two thirds of its time: its loop jumps at every flag that is set, and the processor cannot foresee where.
    """
    words = flags.view(np.uint64)
    hit = np.flatnonzero(words != 0)
    inside = np.flatnonzero(words[hit].view(bool))
    positions: NDArray[np.int64] = (hit[inside >> 3] << 3) + (inside & 7)
    return positions

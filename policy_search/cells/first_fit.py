"""Laying cells, given by their pixels, into as few label layers as first fit finds; no two that overlap share one."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from policy_search.cells.errors import DataError

MAX_ID = int(np.iinfo(np.uint16).max)
# Cells of a culture lie two or three deep. A file with one outline ten thousand times would take hours and all memory.
MAX_LAYERS = 256


def first_fit(cells: Iterable[NDArray[np.int64]], height: int, width: int) -> NDArray[np.uint16]:
    """(L, height, width) uint16 label layers; L is 0 when there is no pixel.

    Args:
        cells: pixels of each as positions row · width + column; the label is the place in the sequence, from 1. A cell
            without a pixel is left out, and its label stays unused.
        height, width: of the frame.

    Raises:
        DataError: there are more cells than labels fit into 16 bits, or more of them at one place than `MAX_LAYERS`.
    """
    room = np.zeros((0, height * width), np.uint16)
    layers: list[NDArray[np.uint16]] = []
    for number, pixels in enumerate(cells, start=1):
        if len(pixels) == 0:
            continue
        if number > MAX_ID:
            raise DataError(f"instance ids must be distinct and in 1 … {MAX_ID}, got {number}")
        for layer in layers:
            if not layer.take(pixels).any():
                break
        else:
            if len(layers) == MAX_LAYERS:
                raise DataError(
                    f"more than {MAX_LAYERS} cells lie on top of one another (the last is annotation {number}). "
                    "Remove what is there twice."
                )
            if len(layers) == len(room):
                more = np.zeros((max(len(room), 4), height * width), np.uint16)  # costs memory once written to
                room = np.concatenate([room, more]) if layers else more
                layers = list(room[: len(layers)])
            layer = room[len(layers)]
            layers.append(layer)
        layer[pixels] = number
    return room[: len(layers)].reshape(len(layers), height, width)

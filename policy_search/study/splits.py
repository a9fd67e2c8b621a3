"""How a search reads a data set: never its test split, some images from many wells, one channel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from policy_search.cells import CellDataset, ImageRecord, resolve
from policy_search.cells.errors import InputError

READABLE_SPLITS = ("train", "val", "unlabeled")


def read_split(data: str, split: str, root: Path | None, *, missing_ok: bool = False) -> CellDataset:
    """A dataset's split, never the test split: what a search has seen cannot prove anything about the search.

    Raises:
        InputError: the split is not one a search may read.
        DataError: see `resolve`.
    """
    if split not in READABLE_SPLITS:
        raise InputError(f"a search never reads the {split} split: expected one of {', '.join(READABLE_SPLITS)}")
    dataset = resolve(data, split, root, missing_ok=missing_ok)
    strays = [record.id for record in dataset if record.split != split]
    if strays:
        raise InputError(f"{data} hands out {strays[0]} of another split as {split}: it is not read")
    return dataset


def spread_over_wells(
    records: Sequence[ImageRecord], limit: int, *, unlabelled: bool = False
) -> tuple[ImageRecord, ...]:
    """Up to `limit` records, one of every well in turn; within a well evenly spaced, in the order given.

    Unlabelled records only where they are asked for.
    """
    wells: dict[str, list[ImageRecord]] = {}
    for record in records:
        if record.annotated or unlabelled:
            wells.setdefault(record.well, []).append(record)
    chosen: set[str] = set()
    share = -(-limit // max(len(wells), 1))
    spaced = [
        [group[i] for i in dict.fromkeys(np.linspace(0, len(group) - 1, min(share, len(group))).round().astype(int))]
        for group in wells.values()
    ]
    for turn in range(share):
        for group in spaced:
            if turn < len(group) and len(chosen) < limit:
                chosen.add(group[turn].id)
    return tuple(r for r in records if r.id in chosen)


def grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W) uint8 as it is; (H, W, 3) RGB as luminance: the probe's network sees one channel."""
    return image if image.ndim == 2 else np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)

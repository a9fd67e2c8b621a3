"""Images of the types that a policy is to carry over to: unlabelled, of no test split, never with their labels."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from policy_search.cells import CellDataset
from policy_search.cells.errors import DataError, InputError
from policy_search.cells.sources import DEMO
from policy_search.study.splits import grey, read_split, spread_over_wells

TARGET_SPLITS = ("train", "unlabeled")

Image = NDArray[np.uint8]


def read_targets(
    names: Sequence[str], data: str, source: CellDataset, root: Path | None, limit: int
) -> dict[str, tuple[Image, ...]]:
    """Up to `limit` images (H, W) uint8 of each split of each target type. Only pixels are read.

    Args:
        names: as for `--target`.
        data: as for `--data`; a synthetic source has synthetic targets.
        source: its types cannot be targets.
        root: LIVECell's folder.
        limit: images of a type and split, spread over the wells.

    Raises:
        InputError: a target that is the source type, or that mixes real and synthetic cells.
        DataError: see `cells.resolve`; a target without any image.
    """
    targets: dict[str, tuple[Image, ...]] = {}
    for name in names:
        targets |= _images_by_type(_same_collection(name, data), source, root, limit)
    return targets


def pixel_digest(images: Sequence[Image]) -> str:
    """16 hex digits over shapes and pixels."""
    digest = hashlib.sha256()
    for image in images:
        digest.update(f"{image.shape}|".encode())
        digest.update(np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()[:16]


def _same_collection(name: str, data: str) -> str:
    """`BT474` beside `demo/A172` means `demo/BT474`: synthetic cells are never matched to real ones."""
    if data.lower().startswith(DEMO):
        if "/" in name and not name.lower().startswith(DEMO):
            raise InputError(f"--target {name}: --data {data} is synthetic, so its targets must be too: demo/TYPE")
        return name if name.lower().startswith(DEMO) else DEMO + name
    if name.lower().startswith(DEMO):
        raise InputError(f"--target {name} is synthetic and --data {data} is not: name a type of the same collection")
    return name


def _images_by_type(name: str, source: CellDataset, root: Path | None, limit: int) -> dict[str, tuple[Image, ...]]:
    """Images by type of one target. Only `image` is called: the labels of a target are never read into a search."""
    images: dict[str, tuple[Image, ...]] = {}
    for split in TARGET_SPLITS:
        dataset = read_split(name, split, root, missing_ok=True)
        own = sorted(set(dataset.cell_types) & set(source.cell_types))
        if own:
            raise InputError(f"--target {name}: {own[0]} is the source type; name types that nobody labelled")
        for cell_type in dataset.cell_types:
            records = spread_over_wells(dataset.of_type(cell_type).records, limit, unlabelled=True)
            found = tuple(grey(dataset.image(record)) for record in records)
            images[cell_type] = images.get(cell_type, ()) + found
    if not any(images.values()):
        raise DataError(f"--target {name}: it has no {' or '.join(TARGET_SPLITS)} image; choose other types")
    return images

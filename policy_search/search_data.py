"""What one search may look at: labelled training images of the source, and images alone of the target types."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from policy_search.cells import CellDataset
from policy_search.cells.errors import DataError, InputError
from policy_search.cells.sources import DEMO
from policy_search.config import SearchConfig
from policy_search.relaxed.crops import CropSampler, Pair, PairSampler
from policy_search.relaxed.target import unlabelled
from policy_search.study.data import grey, read_split, spread_over_wells

TARGET_SPLITS = ("train", "unlabeled")

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class SearchData:
    """The data of a search, in memory.

    Attributes:
        source: the records that are read.
        pairs: their images (H, W) uint8 with foreground masks (H, W) bool.
        target: images (H, W) uint8 of the target types, without labels; empty in source mode.
        target_types: which types those are.
        fingerprint: of everything read; of target images only their pixels.
    """

    source: CellDataset
    pairs: tuple[Pair, ...]
    target: tuple[Image, ...]
    target_types: tuple[str, ...]
    fingerprint: str


def load_search_data(config: SearchConfig) -> SearchData:
    """Read up to `max_images` training images of the source with their masks, and as many of each target type without.

    Raises:
        InputError: a target that is the source type, or that mixes real and synthetic cells.
        DataError: see `cells.resolve`; a target without any image.
    """
    everything = read_split(config.data, "train", config.root)
    kept = spread_over_wells(everything.records, config.max_images)
    source = everything.where(lambda record: record in kept)
    if not kept:
        raise DataError(f"{config.data} has no labelled train image: a search needs the source's labels")
    pairs = [(grey(source.image(r)), source.instances(r).foreground()) for r in source]
    images: list[Image] = []
    types: list[str] = []
    for name in config.target:
        found, called = _target_images(_same_collection(name, config.data), source, config.root, config.max_images)
        images += found
        types += called
    fingerprint = source.fingerprint() + (f"-{_pixel_digest(images)}" if images else "")
    return SearchData(source, tuple(pairs), tuple(images), tuple(dict.fromkeys(types)), fingerprint)


def source_sampler(data: SearchData) -> PairSampler:
    """The labelled pairs that are augmented."""
    return CropSampler(data.pairs)


def target_sampler(data: SearchData) -> PairSampler | None:
    """The images to be matched, None in source mode. They have no masks: target mode reads images alone."""
    return unlabelled(data.target) if data.target else None


def _same_collection(name: str, data: str) -> str:
    """`BT474` beside `demo/A172` means `demo/BT474`: synthetic cells are never matched to real ones."""
    if data.lower().startswith(DEMO):
        if "/" in name and not name.lower().startswith(DEMO):
            raise InputError(f"--target {name}: --data {data} is synthetic, so its targets must be too: demo/TYPE")
        return name if name.lower().startswith(DEMO) else DEMO + name
    if name.lower().startswith(DEMO):
        raise InputError(f"--target {name} is synthetic and --data {data} is not: name a type of the same collection")
    return name


def _target_images(name: str, source: CellDataset, root: Path | None, limit: int) -> tuple[list[Image], list[str]]:
    """Images and types of one target. Only `image` is called: the labels of a target are never read into a search."""
    images: list[Image] = []
    types: list[str] = []
    for split in TARGET_SPLITS:
        dataset = read_split(name, split, root, missing_ok=True)
        own = sorted(set(dataset.cell_types) & set(source.cell_types))
        if own:
            raise InputError(f"--target {name}: {own[0]} is the source type; name types that nobody labelled")
        types += dataset.cell_types
        for cell_type in dataset.cell_types:
            records = spread_over_wells(dataset.of_type(cell_type).records, limit, unlabelled=True)
            images += [grey(dataset.image(record)) for record in records]
    if not images:
        raise DataError(f"--target {name}: it has no {' or '.join(TARGET_SPLITS)} image; choose other types")
    return images, types


def _pixel_digest(images: Sequence[Image]) -> str:
    """16 hex digits over shapes and pixels."""
    digest = hashlib.sha256()
    for image in images:
        digest.update(f"{image.shape}|".encode())
        digest.update(np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()[:16]

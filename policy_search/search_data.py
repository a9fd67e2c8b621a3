"""What one search may look at: labelled training images of the source, and images alone of the target types."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from policy_search.cells import CellDataset
from policy_search.cells.errors import DataError, InputError
from policy_search.cells.sources import DEMO
from policy_search.config import SearchConfig
from policy_search.relaxed.crops import CropSampler, Pair, PairSampler
from policy_search.relaxed.sized import resized
from policy_search.relaxed.target import unlabelled
from policy_search.study.data import foreground_pairs, grey, read_split, spread_over_wells
from policy_search.study.probe import ProbeSample

TARGET_SPLITS = ("train", "unlabeled")

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class SearchData:
    """The data of a search, in memory.

    Attributes:
        source: the records that are read.
        samples: their images (H, W) uint8 with instances.
        targets: target type -> its images (H, W) uint8, without labels; empty in source mode.
        fingerprint: of everything read; of target images only their pixels.
    """

    source: CellDataset
    samples: tuple[ProbeSample, ...]
    targets: Mapping[str, tuple[Image, ...]]
    fingerprint: str

    @property
    def pairs(self) -> list[Pair]:
        """Images (H, W) uint8 of the source with foreground masks (H, W) bool."""
        return foreground_pairs(self.samples)

    @property
    def target(self) -> tuple[Image, ...]:
        """The images of all target types."""
        return tuple(image for images in self.targets.values() for image in images)


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
    samples = [ProbeSample(r.id, grey(source.image(r)), source.instances(r)) for r in source]
    targets: dict[str, list[Image]] = {}
    for name in config.target:
        found = _target_images(_same_collection(name, config.data), source, config.root, config.max_images)
        targets |= found
    images = [image for found in targets.values() for image in found]
    fingerprint = source.fingerprint() + (f"-{_pixel_digest(images)}" if images else "")
    return SearchData(source, tuple(samples), {name: tuple(found) for name, found in targets.items()}, fingerprint)


def source_sampler(data: SearchData, sizes: Sequence[float] = ()) -> PairSampler:
    """The labelled pairs that are augmented, once for each size (see `relaxed.sized`) where there are any."""
    return CropSampler(resized(data.pairs, sizes) if sizes else data.pairs)


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


def _target_images(name: str, source: CellDataset, root: Path | None, limit: int) -> dict[str, list[Image]]:
    """Images by type of one target. Only `image` is called: the labels of a target are never read into a search."""
    images: dict[str, list[Image]] = {}
    for split in TARGET_SPLITS:
        dataset = read_split(name, split, root, missing_ok=True)
        own = sorted(set(dataset.cell_types) & set(source.cell_types))
        if own:
            raise InputError(f"--target {name}: {own[0]} is the source type; name types that nobody labelled")
        for cell_type in dataset.cell_types:
            records = spread_over_wells(dataset.of_type(cell_type).records, limit, unlabelled=True)
            images.setdefault(cell_type, []).extend(grey(dataset.image(record)) for record in records)
    if not any(images.values()):
        raise DataError(f"--target {name}: it has no {' or '.join(TARGET_SPLITS)} image; choose other types")
    return images


def _pixel_digest(images: Sequence[Image]) -> str:
    """16 hex digits over shapes and pixels."""
    digest = hashlib.sha256()
    for image in images:
        digest.update(f"{image.shape}|".encode())
        digest.update(np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()[:16]

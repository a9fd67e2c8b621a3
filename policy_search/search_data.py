"""What one search may look at: labelled training images of the source, and images alone of the target types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from policy_search.cells import CellDataset
from policy_search.cells.errors import DataError
from policy_search.config import SearchConfig
from policy_search.relaxed.crops import CropSampler, Pair, PairSampler
from policy_search.relaxed.sized import resized
from policy_search.relaxed.target import unlabelled
from policy_search.study.data import foreground_pairs
from policy_search.study.probe import ProbeSample
from policy_search.study.splits import grey, read_split, spread_over_wells
from policy_search.study.targets import pixel_digest, read_targets

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
    targets = read_targets(config.target, config.data, source, config.root, config.max_images)
    images = [image for found in targets.values() for image in found]
    fingerprint = source.fingerprint() + (f"-{pixel_digest(images)}" if images else "")
    return SearchData(source, tuple(samples), targets, fingerprint)


def source_sampler(data: SearchData, sizes: Sequence[float] = ()) -> PairSampler:
    """The labelled pairs that are augmented, once for each size (see `relaxed.sized`) where there are any."""
    return CropSampler(resized(data.pairs, sizes) if sizes else data.pairs)


def target_sampler(data: SearchData) -> PairSampler | None:
    """The images to be matched, None in source mode. They have no masks: target mode reads images alone."""
    return unlabelled(data.target) if data.target else None

"""What a network is trained on: the threefold set (design 7.2) and its crops, both functions of the seed alone."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import ceil

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from policy_search.augment import Augmenter
from policy_search.cells import CellDataset, ImageRecord, InstanceMap
from policy_search.cells.errors import DataError, InputError

Pixels = NDArray[np.uint8]
Drawn = tuple[Pixels, InstanceMap]

# Streams of random numbers under one run seed, kept apart so that none repeats another.
_ORDER, _CROP, _SIZE = 1, 2, 3
# Resizing leaves no image longer than this (detectron2's default, LIVECell's limit).
LONGEST_EDGE = 1333


def labelled(dataset: CellDataset) -> CellDataset:
    """Only what somebody labelled.

    Raises:
        DataError: nothing is.
    """
    kept = dataset.where(lambda record: record.annotated)
    if len(kept) == 0:
        raise DataError(f"{dataset.name} has no labelled image among its {len(dataset)}: nothing to learn from")
    return kept


def donor_for(dataset: CellDataset, record: ImageRecord) -> Callable[[np.random.Generator], Drawn]:
    """Gives a random other image of `dataset` to copy cells from.

    With one image there is no other. Then the image donates to itself, turned by 180 degrees or mirrored: in place,
    each cell would be pasted exactly onto itself. Who trains like that should know (`donates_to_itself`).
    """
    others = [other for other in dataset.records if other.id != record.id]

    def donate(rng: np.random.Generator) -> Drawn:
        if others:
            other = others[int(rng.integers(len(others)))]
            return dataset.image(other), dataset.instances(other)
        rows, columns = [(-1, 1), (1, -1), (-1, -1)][int(rng.integers(3))]
        turned = dataset.instances(record).map_layers(lambda plane: np.ascontiguousarray(plane[::rows, ::columns]))
        return np.ascontiguousarray(dataset.image(record)[::rows, ::columns]), turned

    return donate


def donates_to_itself(dataset: CellDataset, augmenter: Augmenter | None) -> bool:
    """Whether copy-paste has no other image to take cells from."""
    return augmenter is not None and augmenter.document.needs_donor and len(dataset) == 1


@dataclass
class TrainingSet:
    """Every image of the source `factor` times: draw 0 is untouched, draws 1 … factor - 1 went through the policy.

    A draw is a function of (seed, image id, draw index): the same each time it is asked for, in any process. Draws are
    kept in memory up to `memory` bytes and made again after that.

    Attributes:
        dataset: the labelled source images.
        augmenter: the policy; None leaves every copy untouched.
    """

    dataset: CellDataset
    augmenter: Augmenter | None
    seed: int
    factor: int = 3
    min_area: int = 10
    memory: int = 1 << 30
    _kept: OrderedDict[int, Drawn] = field(default_factory=OrderedDict, repr=False)
    _bytes: int = field(default=0, repr=False)

    def __len__(self) -> int:
        return len(self.dataset) * self.factor

    def entry(self, index: int) -> tuple[ImageRecord, int]:
        """The record and the draw behind an index."""
        return self.dataset.records[index // self.factor], index % self.factor

    def __getitem__(self, index: int) -> Drawn:
        if index in self._kept:
            self._kept.move_to_end(index)
            return self._kept[index]
        drawn = self._draw(*self.entry(index))
        self._kept[index] = drawn
        self._bytes += drawn[0].nbytes + drawn[1].layers.nbytes
        while self._bytes > self.memory and len(self._kept) > 1:
            _, (image, instances) = self._kept.popitem(last=False)
            self._bytes -= image.nbytes + instances.layers.nbytes
        return drawn

    def _draw(self, record: ImageRecord, draw: int) -> Drawn:
        image, instances = self.dataset.image(record), self.dataset.instances(record)
        if draw == 0 or self.augmenter is None:
            return image, instances
        return self.augmenter(
            image,
            instances,
            seed=self.seed,
            image_id=record.id,
            draw=draw,
            donor=donor_for(self.dataset, record) if self.augmenter.document.needs_donor else None,
            min_area=self.min_area,
        )


class Crops(Sequence[Drawn]):
    """An endless sequence of random crops: item i is a function of (seed, i), whichever process asks for it.

    An epoch visits every image as often as crops cover it, in an order of its own; whole images are visited once.

    Each visit draws one of `sizes` by itself, as LIVECell's training does. That suits a cache of features, too: of k
    sizes, v visits of an image meet k·(1 - (1 - 1/k)^v) on average and find the others computed already. Going
    through all k in turn would meet the most that v visits can.

    Args:
        images: what is visited.
        size: side of the crops in pixels; 0 gives whole images.
        seed: the source of all randomness.
        length: number of items.
        flip: move each crop by a random symmetry.
        sizes: shortest edges; one is drawn for each visit and the image resized to it before it is cropped.

    Attributes:
        per_epoch: crops an epoch.
    """

    def __init__(
        self,
        images: TrainingSet,
        size: int,
        seed: int,
        length: int,
        *,
        flip: bool = False,
        sizes: Sequence[int] = (),
    ) -> None:
        if size < 0 or any(edge < 1 for edge in sizes):
            raise InputError(f"a crop side must be 0 or more and sizes 1 or more pixels, got {size} and {tuple(sizes)}")
        self.images, self.size, self.seed, self.length, self.flip = images, size, seed, length, flip
        self.sizes = tuple(sizes)
        entries = [images.entry(index)[0] for index in range(len(images))]
        visits = [crops_to_cover(record.height, record.width, size) if size else 1 for record in entries]
        self._visits = np.repeat(np.arange(len(images)), visits)
        self.per_epoch = len(self._visits)
        self._order = lru_cache(maxsize=2)(self._shuffled)

    def __len__(self) -> int:
        return self.length

    def _shuffled(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng([self.seed, _ORDER, epoch]).permutation(self._visits)

    def visit(self, position: int) -> int:
        """Index into the training set of the crop at `position`."""
        epoch, place = divmod(position, self.per_epoch)
        return int(self._order(epoch)[place])

    def __getitem__(self, position: int) -> Drawn:  # type: ignore[override]
        if not 0 <= position < self.length:
            raise IndexError(f"crop {position} of {self.length}")
        rng = np.random.default_rng([self.seed, _CROP, position])
        image, instances = self.images[self.visit(position)]
        if self.sizes:
            edge = np.random.default_rng([self.seed, _SIZE, position]).choice(self.sizes)
            image, instances = resize_shortest_edge(image, instances, int(edge))
        if self.size:
            image, instances = random_crop(image, instances, self.size, rng)
        if self.flip:
            image, instances = random_symmetry(image, instances, rng)
        return image, instances.drop_specks(self.images.min_area)


def crops_to_cover(height: int, width: int, size: int) -> int:
    """ceil(H·W / size²): how often an epoch visits an image."""
    return ceil(height * width / size**2)


def resized_shape(height: int, width: int, edge: int) -> tuple[int, int]:
    """(height, width) with the shortest edge at `edge`, or with the longest at `LONGEST_EDGE` if it would pass that."""
    factor = edge / min(height, width)
    # Either side in one multiplication, and the shortest edge exactly, to round as detectron2 does.
    rows, columns = (float(edge), factor * width) if height < width else (factor * height, float(edge))
    if max(rows, columns) > LONGEST_EDGE:
        factor = LONGEST_EDGE / max(rows, columns)
        rows, columns = rows * factor, columns * factor
    return max(int(rows + 0.5), 1), max(int(columns + 0.5), 1)


def resize_shortest_edge(image: Pixels, instances: InstanceMap, edge: int) -> Drawn:
    """Image (bilinear, with as wide a support as shrinking asks for) and instances (nearest) at another size."""
    height, width = instances.shape
    rows, columns = resized_shape(height, width, edge)
    if (rows, columns) == (height, width):
        return image, instances
    size = (columns, rows)
    resized = np.asarray(PillowImage.fromarray(image).resize(size, PillowImage.Resampling.BILINEAR))

    def nearest(plane: NDArray[np.uint16]) -> NDArray[np.uint16]:
        moved = PillowImage.fromarray(plane.astype(np.int32)).resize(size, PillowImage.Resampling.NEAREST)
        return np.asarray(moved).astype(np.uint16)

    return resized, instances.map_layers(nearest)


def random_crop(image: Pixels, instances: InstanceMap, size: int, rng: np.random.Generator) -> Drawn:
    """A (size, size) window anywhere in the image, as much of it as there is where the image is smaller."""
    height, width = instances.shape
    y = int(rng.integers(max(height - size, 0) + 1))
    x = int(rng.integers(max(width - size, 0) + 1))
    window = (slice(y, y + size), slice(x, x + size))
    return np.ascontiguousarray(image[window]), instances.map_layers(lambda plane: np.ascontiguousarray(plane[window]))


def random_symmetry(image: Pixels, instances: InstanceMap, rng: np.random.Generator) -> Drawn:
    """One of the eight symmetries of the square, or of the four that keep the shape of any other rectangle."""
    turns = int(rng.integers(4)) if image.shape[0] == image.shape[1] else 2 * int(rng.integers(2))
    mirror = bool(rng.integers(2))

    def move(plane: NDArray[np.generic]) -> NDArray[np.generic]:
        turned = np.rot90(plane, turns)
        return np.ascontiguousarray(turned[:, ::-1] if mirror else turned)

    return move(image), instances.map_layers(move)  # type: ignore[arg-type, return-value]

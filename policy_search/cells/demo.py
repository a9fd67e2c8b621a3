"""The built-in synthetic phase-contrast culture: eight cell types, wells, splits, and a reader that renders on demand.

It needs no download, has exact masks, and is the same everywhere. It is synthetic: results on it say that the machinery
works and how methods compare, never how well cells of a real line are found.
"""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from policy_search.cells.dataset import CellDataset, ImageRecord
from policy_search.cells.demo_crowd import MARGIN, Cell, grow
from policy_search.cells.demo_optics import Light, photograph
from policy_search.cells.demo_types import Culture, culture
from policy_search.cells.errors import DataError
from policy_search.cells.instances import Instance, InstanceMap
from policy_search.cells.types import CELL_TYPES, cell_type

HEIGHT, WIDTH = 256, 256
VERSION = 1  # raise it whenever pixels or masks change: it is part of every content key
MIN_AREA = 16  # px: what the frame leaves of a cell below this is not annotated
# Wells, and images per well, of each split. Wells are numbered through in this order, so none is in two splits.
SPLITS: dict[str, tuple[int, int]] = {"train": (6, 3), "val": (2, 3), "test": (3, 3), "unlabeled": (2, 4)}
_CACHED = 128  # rendered images kept in memory, about half a megabyte each
_ROWS = "ABCDEFGH"
_HOURS_APART = 20
_GROWTH = 0.1  # more cells from one image of a well to the next

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Well:
    """What the images of one well share: seeding density (1 = medium), direction of the culture's flow, light."""

    density: float
    flow: float
    light: Light


@dataclass(frozen=True)
class _Plan:
    """Which image of the demo culture a record stands for."""

    cell_type: str
    well: int
    image: int


def demo_dataset(types: Sequence[str], split: str) -> CellDataset:
    """The demo culture of some cell types (any spelling), one split: `train`, `val`, `test` or `unlabeled`.

    Raises:
        DataError: unknown cell type or split, or no type at all.
    """
    if split not in SPLITS:
        raise DataError(f"the demo culture has no split {split!r}: expected one of {', '.join(SPLITS)}")
    wanted = {cell_type(name).name for name in types}
    if not wanted:
        raise DataError("no cell type given for the demo culture: name one, for example demo/A172, or demo/all")
    names = [known.name for known in CELL_TYPES if known.name in wanted]
    plans: dict[str, _Plan] = {}
    records = []
    for name in names:
        for record, plan in sorted(_culture_records(culture(name), split), key=lambda pair: pair[0].id):
            records.append(record)
            plans[record.id] = plan
    title = "all" if len(names) == len(CELL_TYPES) else ",".join(names)
    return CellDataset(f"demo/{title}", tuple(records), DemoReader(plans), synthetic=True)


@dataclass(frozen=True)
class DemoReader:
    """Renders records of the demo culture; the latest ones stay in memory."""

    plans: dict[str, _Plan]

    def image(self, record: ImageRecord) -> Image:
        """(H, W) uint8."""
        return _rendered(self._plan(record), record.height, record.width)[0].copy()

    def instances(self, record: ImageRecord) -> InstanceMap:
        """The outlines from which the image was rendered. Its layers are read-only, for they are shared.

        Raises:
            DataError: the record is of the unlabelled split.
        """
        plan = self._plan(record)
        if not record.annotated:
            raise DataError(
                f"{record.id} is of the demo culture's unlabelled split: its cells are not annotated. "
                "Use split train, val or test for annotations."
            )
        return _rendered(plan, record.height, record.width)[1]

    def content_key(self, record: ImageRecord) -> str:
        """Hex digest over what the image is made from: generator version, culture, well, image, size.

        Not over pixels: they may differ by a grey level between machines, and a fingerprint must not.
        """
        plan = self._plan(record)
        made_from = (VERSION, culture(plan.cell_type), plan, record.height, record.width, record.annotated)
        return hashlib.sha256(repr(made_from).encode()).hexdigest()[:16]

    def _plan(self, record: ImageRecord) -> _Plan:
        try:
            return self.plans[record.id]
        except KeyError:
            raise DataError(f"{record.id} is not an image of this demo dataset ({len(self.plans)} images)") from None


def render(
    cell_type: str, seed: Sequence[int] | int, height: int = HEIGHT, width: int = WIDTH, *, well: Well | None = None
) -> tuple[Image, InstanceMap]:
    """One synthetic field of view: (height, width) uint8 image and its instances. Equal arguments, equal result.

    Args:
        cell_type: any spelling.
        seed: one or more non-negative integers.
        well: density and light; drawn from the seed when None.

    Raises:
        DataError: unknown cell type.
        ValueError: a negative seed, or a frame without pixels.
    """
    if height < 1 or width < 1:
        raise ValueError(f"a frame needs at least one pixel, got {height} × {width}")
    grown = culture(cell_type)
    rng = _generator(grown, seed if isinstance(seed, Sequence) else [seed])
    conditions = draw_well(grown, rng) if well is None else well
    cells = grow(grown, conditions.density, conditions.flow + rng.normal(0, 0.2), height, width, rng)
    image = photograph(cells, grown, conditions.light, height + 2 * MARGIN, width + 2 * MARGIN, rng)
    frame = np.ascontiguousarray(image[MARGIN : MARGIN + height, MARGIN : MARGIN + width])
    return frame, InstanceMap.from_instances(_framed(cells, height, width), height, width)


def draw_well(grown: Culture, rng: np.random.Generator) -> Well:
    """Conditions of a well of this culture."""
    light = Light(
        gain=float(np.exp(rng.normal(0, 0.08))),
        blur=float(rng.uniform(0.35, 0.5)),
        tilt=(float(rng.normal(0, 0.6)), float(rng.normal(0, 0.6))),
        vignette=float(rng.uniform(0, 1.5)),
        noise=float(rng.uniform(0.85, 1.25)),
    )
    return Well(float(grown.crowd.range ** rng.uniform(-1, 1)), float(rng.uniform(0, math.pi)), light)


@lru_cache(maxsize=_CACHED)
def _rendered(plan: _Plan, height: int, width: int) -> tuple[Image, InstanceMap]:
    grown = culture(plan.cell_type)
    well = draw_well(grown, _generator(grown, [VERSION, plan.well]))
    images = next(per_well for (first, last, per_well) in _well_ranges() if first <= plan.well < last)
    age = plan.image - (images - 1) / 2
    aged = Well(well.density * (1 + _GROWTH * age), well.flow, well.light)
    image, instances = render(plan.cell_type, [VERSION, plan.well, plan.image + 1], height, width, well=aged)
    instances.layers.setflags(write=False)
    return image, instances


def _generator(grown: Culture, seed: Sequence[int]) -> np.random.Generator:
    """Streams of different cultures are unrelated even at the same seed."""
    return np.random.default_rng([zlib.crc32(grown.name.encode()), *seed])


def _well_ranges() -> Iterator[tuple[int, int, int]]:
    """First well, last well + 1 and images per well of every split."""
    first = 0
    for wells, images in SPLITS.values():
        yield first, first + wells, images
        first += wells


def _culture_records(grown: Culture, split: str) -> Iterator[tuple[ImageRecord, _Plan]]:
    first, last, images = dict(zip(SPLITS, _well_ranges(), strict=True))[split]
    prefix = cell_type(grown.name).folder
    for number in range(first, last):
        position = f"{_ROWS[number % len(_ROWS)]}{grown.column + number // len(_ROWS)}"
        for image in range(images):
            days, hours = divmod(image * _HOURS_APART, 24)
            stem = f"{prefix}_Phase_{position}_{1 + image % 2}_{days:02d}d{hours:02d}h00m_{1 + image % 4}"
            record = ImageRecord(
                id=f"demo/{stem}",
                cell_type=grown.name,
                split=split,
                well=f"{grown.name}/{position}",
                height=HEIGHT,
                width=WIDTH,
                annotated=split != "unlabeled",
            )
            yield record, _Plan(grown.name, number, image)


def _framed(cells: Sequence[Cell], height: int, width: int) -> Iterator[Instance]:
    """What the frame shows of the cells, numbered 1 … N."""
    number = 0
    for cell in cells:
        x0, y0 = cell.x0 - MARGIN, cell.y0 - MARGIN
        left, top = max(-x0, 0), max(-y0, 0)
        mask = cell.mask[top : max(height - y0, 0), left : max(width - x0, 0)].astype(bool)
        if np.count_nonzero(mask) < MIN_AREA:
            continue
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        tight = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        number += 1
        yield Instance(number, int(x0 + left + columns[0]), int(y0 + top + rows[0]), tight)

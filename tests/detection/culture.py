"""A small culture of ellipses, and a network small enough for tests."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from skimage.draw import ellipse

from detection.network import ModelConfig
from policy_search.cells import CellDataset, ImageRecord, Instance, InstanceMap

MICRO = ModelConfig(
    stem=8, stages=(8, 12, 16, 20), blocks=(1, 1, 1, 1), fpn=16, rpn_batch=32, rois=16, candidates_train=50,
    proposals_train=50, candidates_test=100, proposals_test=100, box_conv_dim=16, box_fc_dim=16, mask_dim=16,
)  # fmt: skip


class Memory:
    """A reader over images that are there already."""

    def __init__(self) -> None:
        self.items: dict[str, tuple[np.ndarray, InstanceMap]] = {}

    def image(self, record: ImageRecord) -> np.ndarray:
        return self.items[record.id][0]

    def instances(self, record: ImageRecord) -> InstanceMap:
        return self.items[record.id][1]

    def content_key(self, record: ImageRecord) -> str:
        return str(zlib.crc32(self.items[record.id][0].tobytes()))


def ellipses(height: int, width: int, cells: int, rng: np.random.Generator) -> InstanceMap:
    """`cells` ellipses, wider than high, that may overlap and touch the border."""
    found = []
    for label in range(1, cells + 1):
        plane = np.zeros((height, width), bool)
        y, x = rng.integers(height), rng.integers(width)
        plane[ellipse(y, x, rng.uniform(4, 8), rng.uniform(8, 16), shape=plane.shape)] = True
        ys, xs = np.nonzero(plane)
        window = plane[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
        found.append(Instance(label, int(xs.min()), int(ys.min()), window))
    return InstanceMap.from_instances(found, height, width)


def culture(
    types: Sequence[str] = ("A172",),
    *,
    images: int = 2,
    height: int = 96,
    width: int = 128,
    cells: int = 12,
    split: str = "train",
    seed: int = 0,
) -> CellDataset:
    """`images` of each type; cells are bright on a noisy ground."""
    reader, records = Memory(), []
    for cell_type in types:
        for index in range(images):
            rng = np.random.default_rng([seed, zlib.crc32(cell_type.encode()), index])
            instances = ellipses(height, width, cells, rng)
            image = rng.normal(120, 4, (height, width)) + 60 * instances.foreground()
            record = ImageRecord(f"{split}/{cell_type}_{index}", cell_type, split, f"W{index}", height, width)
            reader.items[record.id] = (image.clip(0, 255).astype(np.uint8), instances)
            records.append(record)
    return CellDataset("ellipses", tuple(records), reader)

"""Instances as layered label maps: up to thousands of cells in a few (H, W) planes, without loss where cells overlap.

Design 3.2. No two overlapping instances share a layer (first fit), so a geometric transform warps L planes with nearest
interpolation instead of N masks. What belongs to one instance is recovered inside its bounding box only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from policy_search.cells.errors import DataError
from policy_search.cells.first_fit import MAX_ID as MAX_ID
from policy_search.cells.first_fit import first_fit
from policy_search.cells.label_table import label_table
from policy_search.cells.outlines import outline
from policy_search.cells.rle import Rle as Rle
from policy_search.cells.rle import pixels_of

LabelPlane = NDArray[np.uint16]


@dataclass(frozen=True)
class Instance:
    """One cell inside its bounding box.

    Attributes:
        id: label in the map, 1 … 65535.
        x0, y0: column and row of the box's first pixel.
        mask: (h, w) bool, tight: every border row and column holds a pixel of the instance.
    """

    id: int
    x0: int
    y0: int
    mask: NDArray[np.bool_]

    @property
    def box(self) -> tuple[int, int, int, int]:
        """XYXY in pixels, right and bottom exclusive (so width = x1 - x0)."""
        h, w = self.mask.shape
        return self.x0, self.y0, self.x0 + w, self.y0 + h

    @property
    def area(self) -> int:
        """Pixels."""
        return int(np.count_nonzero(self.mask))


@dataclass(frozen=True, eq=False)
class InstanceMap:
    """Instances of one image as label layers.

    Attributes:
        layers: (L, H, W) uint16, contiguous; 0 is background, every other value an instance id that stands in one
            layer only. L is 0 when there is no instance.
    """

    layers: NDArray[np.uint16]

    def __post_init__(self) -> None:
        if self.layers.ndim != 3 or self.layers.dtype != np.uint16:
            raise ValueError(f"layers must be (L, H, W) uint16, got {self.layers.shape} {self.layers.dtype}")

    # -- making one ---------------------------------------------------------------------------------------------

    @classmethod
    def empty(cls, height: int, width: int) -> InstanceMap:
        """A map without instances."""
        return cls(np.zeros((0, height, width), np.uint16))

    @classmethod
    def from_instances(cls, instances: Iterable[Instance], height: int, width: int) -> InstanceMap:
        """Lay out instances by first fit. Ids are kept and must be distinct; masks must lie inside the frame."""
        layers: list[LabelPlane] = []
        seen: set[int] = set()
        for instance in instances:
            x0, y0, x1, y1 = instance.box
            if not (0 < instance.id <= MAX_ID) or instance.id in seen:
                raise DataError(f"instance ids must be distinct and in 1 … {MAX_ID}, got {instance.id}")
            if x0 < 0 or y0 < 0 or x1 > width or y1 > height:
                raise ValueError(f"instance {instance.id} has box {instance.box} outside the {width}×{height} frame")
            seen.add(instance.id)
            if not instance.mask.any():
                continue
            for layer in layers:
                window = layer[y0:y1, x0:x1]
                if not window[instance.mask].any():
                    window[instance.mask] = instance.id
                    break
            else:
                layer = np.zeros((height, width), np.uint16)
                layer[y0:y1, x0:x1][instance.mask] = instance.id
                layers.append(layer)
        return cls(np.stack(layers)) if layers else cls.empty(height, width)

    @classmethod
    def from_rles(cls, rles: Sequence[Rle], height: int, width: int) -> InstanceMap:
        """Instance i of the sequence gets id i + 1; one without a pixel is left out (its id stays unused).

        Raises:
            DataError: a code is for another frame or damaged, or there are more than fit into 16 bits.
        """
        return cls(first_fit(pixels_of(rles, height, width), height, width))

    @classmethod
    def from_polygons(cls, polygons: Sequence[Sequence[Sequence[float]]], height: int, width: int) -> InstanceMap:
        """COCO polygons (per instance a list of [x0, y0, x1, y1, …] rings), rasterised exactly as pycocotools does."""
        rles = [coco_mask.merge(coco_mask.frPyObjects([list(r) for r in rings], height, width)) for rings in polygons]
        return cls.from_rles(rles, height, width)

    @classmethod
    def from_labels(cls, labels: NDArray[np.integer[Any]]) -> InstanceMap:
        """A label image (H, W), one value per cell, 0 background. Ids are renumbered 1 … N in order of value."""
        values = np.unique(labels)
        values = values[values != 0]
        if len(values) > MAX_ID:
            raise DataError(f"a label image may hold up to {MAX_ID} cells, this one holds {len(values)}")
        if len(values) == 0:
            return cls.empty(*labels.shape)
        layer = (np.searchsorted(values, labels) + 1).astype(np.uint16)
        layer[labels == 0] = 0
        return cls(layer[None])

    # -- what it holds --------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W)."""
        return int(self.layers.shape[1]), int(self.layers.shape[2])

    @cached_property
    def _table(self) -> NDArray[np.int64]:
        """(N, 7) int64, by id: id, layer, x0, y0, x1, y1, area."""
        return label_table(self.layers)

    def __len__(self) -> int:
        return len(self._table)

    @property
    def ids(self) -> NDArray[np.int64]:
        """(N,) int64, ascending. Every per-instance result below is in this order."""
        return self._table[:, 0]

    def boxes(self) -> NDArray[np.float32]:
        """(N, 4) float32 XYXY in pixels, right and bottom exclusive."""
        return self._table[:, 2:6].astype(np.float32)

    def areas(self) -> NDArray[np.int64]:
        """(N,) int64 pixels."""
        return self._table[:, 6]

    def __iter__(self) -> Iterator[Instance]:
        for label, layer, x0, y0, x1, y1, _ in self._table.tolist():
            yield Instance(label, x0, y0, self.layers[layer, y0:y1, x0:x1] == label)

    def foreground(self) -> NDArray[np.bool_]:
        """(H, W) bool: the binary semantic mask."""
        covered: NDArray[np.bool_] = np.any(self.layers, axis=0)
        return covered

    def label_image(self) -> NDArray[np.uint16]:
        """(H, W) uint16, one label per pixel. Where cells overlap the smaller one is on top."""
        out = np.zeros(self.shape, np.uint16)
        table = self._table[np.argsort(-self._table[:, 6], kind="stable")]
        for label, layer, x0, y0, x1, y1, _ in table.tolist():
            out[y0:y1, x0:x1][self.layers[layer, y0:y1, x0:x1] == label] = label
        return out

    def rles(self) -> list[Rle]:
        """COCO RLE per instance on the full frame (compressed counts, bytes)."""
        return [encode_instance(instance, *self.shape) for instance in self]

    def polygons(self) -> list[list[list[float]] | None]:
        """Per instance the rings along its pixel edges; pycocotools rasterises them to exactly the same mask.

        None for an instance with a hole: a COCO polygon cannot express it, `rles` can.
        """
        return [outline(instance.mask, instance.x0, instance.y0) for instance in self]

    # -- changing it ----------------------------------------------------------------------------------------------

    def map_layers(self, change: Callable[[LabelPlane], LabelPlane]) -> InstanceMap:
        """Apply a plane-to-plane function (a nearest-neighbour warp, a crop) to every layer."""
        if len(self.layers) == 0:
            return InstanceMap.empty(*change(np.zeros(self.shape, np.uint16)).shape)
        return InstanceMap(np.stack([change(layer) for layer in self.layers]))

    def select(self, ids: NDArray[np.integer[Any]] | Sequence[int]) -> InstanceMap:
        """Only the instances with these ids; layers left without one are dropped."""
        keep = np.zeros(MAX_ID + 1, bool)
        keep[np.asarray(ids, dtype=np.int64)] = True
        keep[0] = False
        layers = np.where(keep[self.layers], self.layers, np.uint16(0))
        return InstanceMap(np.ascontiguousarray(layers[layers.any(axis=(1, 2))]))

    def drop_specks(self, min_area: int) -> InstanceMap:
        """Without the instances under `min_area` pixels (what a crop or a paste leaves of a cell at its border).

        Layers left without one are dropped; the map itself when nothing goes.
        """
        stays = self._table[:, 6] >= min_area
        if stays.all():
            return self
        layers = self.layers.copy()
        for label, layer, x0, y0, x1, y1, _ in self._table[~stays].tolist():
            window = layers[layer, y0:y1, x0:x1]
            window[window == label] = 0
        table = self._table[stays]
        used, table[:, 1] = np.unique(table[:, 1], return_inverse=True)
        kept = InstanceMap(layers if len(used) == len(layers) else layers[used])
        kept.__dict__["_table"] = table  # the rest has not changed: what is known of it is not looked for again
        return kept


def encode_instance(instance: Instance, height: int, width: int) -> Rle:
    """COCO RLE of one instance on a (height, width) frame, built from its box: no full-frame mask is made."""
    x0, y0, x1, y1 = instance.box
    column_major = instance.mask.T
    # Run borders: positions in the column-major order of the full frame where the value changes.
    padded = np.zeros((x1 - x0, y1 - y0 + 2), np.int8)
    padded[:, 1:-1] = column_major
    change = np.diff(padded, axis=1)
    cols, starts = np.nonzero(change == 1)
    _, ends = np.nonzero(change == -1)
    first = (cols + x0) * height + starts + y0
    last = (cols + x0) * height + ends + y0
    # Runs that meet across a column border are one run.
    joined = np.flatnonzero(first[1:] == last[:-1]) + 1
    first, last = np.delete(first, joined), np.delete(last, joined - 1)
    borders = np.concatenate([np.stack([first, last], 1).ravel(), [height * width]])
    counts = np.diff(borders, prepend=0)
    if counts[-1] == 0:
        counts = counts[:-1]
    rle: Rle = coco_mask.frPyObjects({"size": [height, width], "counts": counts.tolist()}, height, width)
    return rle

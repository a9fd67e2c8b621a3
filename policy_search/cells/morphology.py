"""Size and convexity of every annotated cell (the paper's Figure 6), one image in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from policy_search.cells.coco import CocoFile
from policy_search.cells.dataset import CellDataset, ImageRecord
from policy_search.cells.errors import DataError
from policy_search.cells.instances import InstanceMap, LabelPlane
from policy_search.cells.livecell import FileReader


class Shapes(NamedTuple):
    """The cells of one image, by id: four arrays of length N.

    Attributes:
        ids: (N,) int64, ascending.
        area: (N,) int64, pixels.
        convexity: (N,) float64 in (0, 1], area over the area of the convex hull of the cell's pixels.
        whole: (N,) bool, False where the cell has a pixel on the image's border and may go on beyond it.
    """

    ids: NDArray[np.int64]
    area: NDArray[np.int64]
    convexity: NDArray[np.float64]
    whole: NDArray[np.bool_]


@dataclass(frozen=True)
class TypeMorphology:
    """The measured cells of one type in one data set.

    Attributes:
        label: what it is called in tables and figures; unique among those measured together.
        data: the name given for `--data`.
        cell_type: canonical name, or the data set's own.
        synthetic: True for the demo culture.
        records: the annotated images, those without a cell too.
        image: (N,) int64, position in `records`.
        cell: (N,) int64, instance id in its image (COCO: position of the annotation + 1).
        area, convexity, whole: (N,), see `Shapes`.
        vertices: (N,) int64, vertices of the annotated polygon, 0 where the annotation is none; None if not asked for.
    """

    label: str
    data: str
    cell_type: str
    synthetic: bool
    records: tuple[ImageRecord, ...]
    image: NDArray[np.int64] = field(repr=False)
    cell: NDArray[np.int64] = field(repr=False)
    area: NDArray[np.int64] = field(repr=False)
    convexity: NDArray[np.float64] = field(repr=False)
    whole: NDArray[np.bool_] = field(repr=False)
    vertices: NDArray[np.int64] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.area)

    @property
    def wells(self) -> int:
        """Wells that the images are from."""
        return len({r.well for r in self.records})

    def polygon_vertices(self) -> NDArray[np.int64]:
        """(M,) vertices of the cells that were annotated by a polygon; empty when vertices were not asked for."""
        return np.zeros(0, np.int64) if self.vertices is None else self.vertices[self.vertices > 0]

    def whole_only(self) -> TypeMorphology:
        """Without the cells that the image's border cuts."""
        keep = self.whole
        return replace(
            self,
            image=self.image[keep],
            cell=self.cell[keep],
            area=self.area[keep],
            convexity=self.convexity[keep],
            whole=keep[keep],
            vertices=None if self.vertices is None else self.vertices[keep],
        )


def cell_shapes(instances: InstanceMap) -> Shapes:
    """Area, convexity and wholeness of every cell; overlapping cells count with all their own pixels.

    Pixels are unit squares: a filled rectangle and a single pixel have convexity exactly 1. A slanted edge is a
    staircase with its notches inside the hull, so small round cells lie below 1 (a disc of radius 5: 0.85, of radius
    12: 0.93, of radius 50: 0.98). `skimage.measure.regionprops(...).solidity` takes the hull of the midpoints of the
    pixels' sides and counts the pixels inside: it fills part of those notches and gives more (LIVECell: by 0.02 in
    the median, 0.03 for cells under 100 px², 0.01 above 1,000).
    """
    parts = [_layer_shapes(layer) for layer in instances.layers]
    if not parts:
        none = np.zeros(0, np.int64)
        return Shapes(none, none, np.zeros(0), np.zeros(0, bool))
    ids, area, convexity, whole = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(ids, kind="stable")
    return Shapes(ids[order], area[order], convexity[order], whole[order])


def _layer_shapes(layer: LabelPlane) -> Shapes:
    """The cells of one layer. Only the hull is taken cell by cell: all else is one pass over the ends of row runs."""
    height, width = layer.shape
    padded = np.zeros((height, width + 2), np.uint16)
    padded[:, 1:-1] = layer
    # Column x is an edge of row y where the labels left and right of it differ: a run ends, a run starts, or both.
    y, x = np.divmod(np.flatnonzero(padded[:, 1:] != padded[:, :-1]), width + 1)
    ending, starting = padded[y, x], padded[y, x + 1]
    label = np.concatenate([starting[starting > 0], ending[ending > 0]])
    edge_x = np.concatenate([x[starting > 0], x[ending > 0]])
    edge_y = np.concatenate([y[starting > 0], y[ending > 0]])
    signed = np.concatenate([-x[starting > 0], x[ending > 0]])  # a run's length is its end less its start
    if len(label) == 0:
        none = np.zeros(0, np.int64)
        return Shapes(none, none, np.zeros(0), np.zeros(0, bool))
    order = np.argsort(label, kind="stable")
    label, edge_x, edge_y = label[order], edge_x[order], edge_y[order]
    first = np.flatnonzero(np.concatenate([[True], label[1:] != label[:-1]]))
    stops = [*first[1:].tolist(), len(label)]
    area = np.add.reduceat(signed[order], first)
    left, right = np.minimum.reduceat(edge_x, first), np.maximum.reduceat(edge_x, first)
    top, bottom = np.minimum.reduceat(edge_y, first), np.maximum.reduceat(edge_y, first) + 1
    whole = (left > 0) & (top > 0) & (right < width) & (bottom < height)
    # Both corners of each edge, from the corner of the cell's box: small numbers, exact in OpenCV's arithmetic.
    lengths = np.diff([*first, len(label)])
    corners = np.empty((len(label), 2, 2), np.int32)
    corners[:, :, 0] = (edge_x - np.repeat(left, lengths))[:, None]
    corners[:, 0, 1] = edge_y - np.repeat(top, lengths)
    corners[:, 1, 1] = corners[:, 0, 1] + 1
    hull = [
        cv2.contourArea(cv2.convexHull(corners[start:stop].reshape(-1, 2)))
        for start, stop in zip(first.tolist(), stops, strict=True)
    ]
    return Shapes(label[first].astype(np.int64), area, area / np.array(hull), whole)


def measure(
    datasets: Sequence[CellDataset], *, vertices: bool = False, progress: Callable[[int], object] | None = None
) -> tuple[TypeMorphology, ...]:
    """Measure every annotated cell, by data set and type. Reads annotations only: the images need not be there.

    Args:
        datasets: splits of one data set share its name and are put together; an image that stands in two of them
            (a COCO file without a split word is both its train and its test) counts once.
        vertices: count the vertices of the annotated polygons too.
        progress: called with 1 after each image.

    Returns:
        In order of first appearance.

    Raises:
        DataError: damaged annotations, an unlabelled image, or the same image in two data sets.
    """
    seen: dict[Hashable, str] = {}
    collected: dict[tuple[str, str], _Collected] = {}
    for dataset in datasets:
        for record in dataset:
            key = _origin(dataset, record)
            earlier = seen.setdefault(key, dataset.name)
            if earlier != dataset.name:
                raise DataError(
                    f"--data {earlier} and --data {dataset.name} both hold {record.id}: its cells would count twice; "
                    "leave one of them out"
                )
            own = collected.setdefault((dataset.name, record.cell_type), _Collected(dataset.synthetic))
            if key not in own.keys:
                own.add(key, record, cell_shapes(dataset.instances(record)))
                if vertices:
                    own.vertices.append(annotated_vertices(dataset, record)[own.shapes[-1].ids - 1])
            if progress is not None:
                progress(1)
    labels = _labels([(data, cell_type, own.synthetic) for (data, cell_type), own in collected.items()])
    return tuple(own.finish(label, *names) for label, (names, own) in zip(labels, collected.items(), strict=True))


def annotated_vertices(dataset: CellDataset, record: ImageRecord) -> NDArray[np.int64]:
    """(highest id,) int64: by instance id - 1, vertices over all rings of its annotated polygon; 0 for no polygon.

    The paper's measure. It says as much about who drew the outline as about the cell: an annotator who clicks more
    often makes a cell "less convex". A last point that repeats the first closes the ring and is no vertex.
    """
    if not isinstance(dataset.reader, FileReader):
        return np.zeros(int(dataset.instances(record).ids.max(initial=0)), np.int64)
    coco, image_id = dataset.reader.sources[record.id]
    return np.array([_vertices(a["segmentation"]) for a in coco.annotations.get(image_id, [])], np.int64)


def _vertices(segmentation: object) -> int:
    """Vertices of a COCO segmentation: rings [x0, y0, x1, y1, …]; RLE has none."""
    if not isinstance(segmentation, list):
        return 0
    rings = [ring for ring in segmentation if isinstance(ring, list) and len(ring) >= 6]
    return sum(len(ring) // 2 - (list(ring[:2]) == list(ring[-2:])) for ring in rings)


def _origin(dataset: CellDataset, record: ImageRecord) -> Hashable:
    """What an image's annotations are known by: their place in a file, or the demo's own id."""
    if isinstance(dataset.reader, FileReader) and record.id in dataset.reader.sources:
        source: CocoFile
        source, image_id = dataset.reader.sources[record.id]
        return source.path, image_id
    return record.id


@dataclass
class _Collected:
    """What has been measured of a type so far."""

    synthetic: bool
    keys: set[Hashable] = field(default_factory=set)
    records: list[ImageRecord] = field(default_factory=list)
    shapes: list[Shapes] = field(default_factory=list)
    vertices: list[NDArray[np.int64]] = field(default_factory=list)

    def add(self, key: Hashable, record: ImageRecord, shapes: Shapes) -> None:
        self.keys.add(key)
        self.records.append(record)
        self.shapes.append(shapes)

    def finish(self, label: str, data: str, cell_type: str) -> TypeMorphology:
        cells, area, convexity, whole = (np.concatenate(column) for column in zip(*self.shapes, strict=True))
        image = np.repeat(np.arange(len(self.shapes)), [len(s.ids) for s in self.shapes])
        vertices = np.concatenate(self.vertices) if self.vertices else None
        return TypeMorphology(
            label, data, cell_type, self.synthetic, tuple(self.records), image, cells, area, convexity, whole, vertices
        )


def _labels(groups: Sequence[tuple[str, str, bool]]) -> list[str]:
    """Names for (data, type, synthetic): the type, `demo/` before a synthetic one, the data set where that is not
    enough to tell two apart."""
    plain = [f"demo/{cell_type}" if synthetic else cell_type for _, cell_type, synthetic in groups]
    return [p if plain.count(p) == 1 else f"{p} ({g[0]})" for p, g in zip(plain, groups, strict=True)]

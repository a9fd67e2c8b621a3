"""A dataset: records of images, and a reader that turns a record into pixels and instances."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from policy_search.cells.instances import InstanceMap

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class ImageRecord:
    """One image of a dataset, without its pixels.

    Attributes:
        id: unique and stable across machines: `<dataset>/<file name>`. Seeds and caches are keyed by it.
        cell_type: canonical name (`A172`), or whatever the dataset calls it when it is none of the eight.
        split: `train`, `val`, `test` or `unlabeled`.
        well: images of one well are near copies; splits and bootstraps go by well.
        height, width: pixels.
        annotated: False means nobody labelled this image, which is not the same as "no cells".
        complete: False when the annotators are known to have left cells out.
    """

    id: str
    cell_type: str
    split: str
    well: str
    height: int
    width: int
    annotated: bool = True
    complete: bool = True


class Sample(NamedTuple):
    """A record with its contents: image (H, W) uint8 or (H, W, 3) uint8 RGB, and its instances."""

    record: ImageRecord
    image: Image
    instances: InstanceMap


class Reader(Protocol):
    """What stands behind a dataset: files, or the generator of the demo culture."""

    def image(self, record: ImageRecord) -> Image:
        """(H, W) uint8 or (H, W, 3) uint8 RGB."""
        ...

    def instances(self, record: ImageRecord) -> InstanceMap:
        """The annotated cells; raises DataError for an unlabelled record."""
        ...

    def content_key(self, record: ImageRecord) -> str:
        """Changes when the record's pixels or annotations change."""
        ...


@dataclass(frozen=True)
class CellDataset:
    """Images of one or more cell types of one split.

    Attributes:
        name: what the user typed for `--data`.
        records: in a fixed order (by cell type, then id).
        reader: gives pixels and instances.
        synthetic: True for the demo culture. Shown wherever its numbers appear.
    """

    name: str
    records: tuple[ImageRecord, ...]
    reader: Reader
    synthetic: bool = False

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[ImageRecord]:
        return iter(self.records)

    @property
    def cell_types(self) -> tuple[str, ...]:
        """Types present, in order of first appearance."""
        return tuple(dict.fromkeys(r.cell_type for r in self.records))

    def image(self, record: ImageRecord) -> Image:
        """(H, W) uint8 or (H, W, 3) uint8 RGB."""
        return self.reader.image(record)

    def instances(self, record: ImageRecord) -> InstanceMap:
        """The annotated cells of `record`."""
        return self.reader.instances(record)

    def sample(self, record: ImageRecord) -> Sample:
        """Record, pixels and instances together."""
        return Sample(record, self.image(record), self.instances(record))

    def where(self, keep: Callable[[ImageRecord], bool]) -> CellDataset:
        """The same dataset with only the records for which `keep` holds."""
        return CellDataset(self.name, tuple(r for r in self.records if keep(r)), self.reader, self.synthetic)

    def of_type(self, cell_type: str) -> CellDataset:
        """Only one cell type."""
        return self.where(lambda r: r.cell_type == cell_type)

    def fingerprint(self) -> str:
        """Hex digest over ids, splits and contents: equal data, equal digest, on any machine."""
        digest = hashlib.sha256()
        for record in sorted(self.records, key=lambda r: r.id):
            digest.update(f"{record.id}|{record.split}|{self.reader.content_key(record)}\n".encode())
        return digest.hexdigest()[:16]


def coco_ground_truth(samples: Sequence[Sample]) -> dict[str, Any]:
    """COCO ground truth with one category ('cell'): image ids are positions in `samples` + 1, masks are RLE.

    Records with `annotated=False` are refused: they would count every detection as false.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (record, _, instances) in enumerate(samples, start=1):
        if not record.annotated:
            raise ValueError(f"{record.id} is unlabelled and cannot be ground truth")
        images.append({"id": number, "file_name": record.id, "height": record.height, "width": record.width})
        rles, boxes, areas = instances.rles(), instances.boxes(), instances.areas()
        for rle, (x0, y0, x1, y1), area in zip(rles, boxes.tolist(), areas.tolist(), strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "iscrowd": 0,
                    "area": area,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "segmentation": {"size": rle["size"], "counts": rle["counts"].decode("ascii")},
                }
            )
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cell"}]}

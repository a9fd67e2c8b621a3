"""What is in a dataset and what is wrong with it, record by record."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from policy_search.cells.dataset import CellDataset, ImageRecord
from policy_search.cells.errors import DataError
from policy_search.cells.instances import InstanceMap
from policy_search.cells.livecell import FileReader

FEW_CELLS = 10  # LIVECell issue 21: images with 1–9 annotated cells are almost always unfinished


@dataclass(frozen=True)
class Finding:
    """One problem.

    Attributes:
        level: `error` (the image cannot be used) or `warning`.
        record: id of the image.
        text: what is wrong.
    """

    level: str
    record: str
    text: str


@dataclass(frozen=True)
class TypeStats:
    """Numbers of one cell type. Areas in pixels; mean and standard deviation of pixels in [0, 1]."""

    cell_type: str
    images: int
    cells: int
    median_area: float
    cells_per_image: float
    covered: float
    pixel_mean: float
    pixel_std: float


def check_dataset(dataset: CellDataset) -> Iterator[Finding]:
    """Problems of every record, read one at a time."""
    for record in dataset:
        try:
            dataset.image(record)
        except DataError as error:
            yield Finding("error", record.id, str(error))
            continue
        if not record.annotated:
            continue
        try:
            instances = dataset.instances(record)
        except DataError as error:
            yield Finding("error", record.id, str(error))
            continue
        if not record.complete:
            yield Finding(
                "warning", record.id, "annotation is marked incomplete: correct detections may count as false"
            )
        if len(instances) < FEW_CELLS:
            yield Finding("warning", record.id, f"only {len(instances)} annotated cells")
        yield from _annotation_findings(dataset, record, instances)


def _annotation_findings(dataset: CellDataset, record: ImageRecord, instances: InstanceMap) -> Iterator[Finding]:
    if isinstance(dataset.reader, FileReader):
        coco, image_id = dataset.reader.sources[record.id]
        given = len(coco.annotations.get(image_id, []))
        if given != len(instances):
            lost = given - len(instances)
            yield Finding("warning", record.id, f"{lost} of {given} annotations have no pixel inside the frame")
    twins = duplicate_pairs(instances)
    if twins:
        yield Finding("warning", record.id, f"{len(twins)} pairs of annotations are duplicates (IoU above 0.9)")


def duplicate_pairs(instances: InstanceMap, threshold: float = 0.9) -> list[tuple[int, int]]:
    """Pairs of instance ids whose masks overlap with an IoU above the threshold."""
    items = list(instances)
    pairs = []
    order = sorted(range(len(items)), key=lambda i: items[i].x0)
    for position, i in enumerate(order):
        ax0, ay0, ax1, ay1 = items[i].box
        for j in order[position + 1 :]:
            bx0, by0, bx1, by1 = items[j].box
            if bx0 >= ax1:
                break
            if by0 >= ay1 or ay0 >= by1:
                continue
            x0, y0, x1, y1 = max(ax0, bx0), max(ay0, by0), min(ax1, bx1), min(ay1, by1)
            a = items[i].mask[y0 - ay0 : y1 - ay0, x0 - ax0 : x1 - ax0]
            b = items[j].mask[y0 - by0 : y1 - by0, x0 - bx0 : x1 - bx0]
            shared = int(np.count_nonzero(a & b))
            if shared > threshold * (items[i].area + items[j].area - shared):
                pairs.append((min(items[i].id, items[j].id), max(items[i].id, items[j].id)))
    return pairs


def type_stats(dataset: CellDataset) -> list[TypeStats]:
    """One row per cell type of an annotated dataset."""
    rows = []
    for name in dataset.cell_types:
        part = dataset.of_type(name)
        areas, covered, pixels = [], [], []
        for record in part:
            sample = part.sample(record)
            areas.append(sample.instances.areas())
            covered.append(float(sample.instances.foreground().mean()))
            pixels.append((float(sample.image.mean()) / 255, float(sample.image.std()) / 255))
        every = np.concatenate(areas)
        rows.append(
            TypeStats(
                cell_type=name,
                images=len(part),
                cells=len(every),
                median_area=float(np.median(every)) if len(every) else float("nan"),
                cells_per_image=len(every) / len(part),
                covered=float(np.mean(covered)),
                pixel_mean=float(np.mean([p[0] for p in pixels])),
                pixel_std=float(np.mean([p[1] for p in pixels])),
            )
        )
    return rows

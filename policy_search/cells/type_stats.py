"""Size, coverage and grey levels of the annotated cells, a row for each type."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from policy_search.cells.dataset import CellDataset


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

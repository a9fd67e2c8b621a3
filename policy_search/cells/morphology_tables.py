"""Measured cells as tables: a row of quantiles for each type, a line of CSV for each cell."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from policy_search.cells.errors import InputError
from policy_search.cells.files import replacing
from policy_search.cells.morphology import TypeMorphology
from policy_search.cells.types import find_cell_type


class Quantiles(NamedTuple):
    """Of a distribution; NaN where it is empty. Linear interpolation between neighbours, as numpy's default."""

    p5: float
    p25: float
    median: float
    p75: float
    p95: float


@dataclass(frozen=True)
class TypeRow:
    """One type in numbers.

    Attributes:
        label, data, synthetic: see `TypeMorphology`.
        images, wells: annotated ones, also those without a cell.
        cells: counted in the quantiles.
        cut: of these, with a pixel on the image's border.
        area: pixels.
        convexity: in (0, 1].
        vertices: of the annotated polygons; None when they were not counted, NaN where there is no polygon.
        area_ratio: median area over the source's; None without a source.
        larger_than_source: chance that a cell of this type is larger than one of the source, ties counted half
            (0.5: no difference); None without a source, NaN without cells.
    """

    label: str
    data: str
    synthetic: bool
    images: int
    wells: int
    cells: int
    cut: int
    area: Quantiles
    convexity: Quantiles
    vertices: Quantiles | None
    area_ratio: float | None = None
    larger_than_source: float | None = None

    @property
    def length_ratio(self) -> float | None:
        """Square root of `area_ratio`: the factor by which an image must be scaled to take the source to this type."""
        return None if self.area_ratio is None else math.sqrt(self.area_ratio)

    def document(self) -> dict[str, Any]:
        """As JSON types; what could not be measured (NaN, which JSON lacks) is None."""
        plain: dict[str, Any] = {
            key: value._asdict() if isinstance(value, Quantiles) else value for key, value in vars(self).items()
        }
        plain["length_ratio"] = self.length_ratio
        finite: dict[str, Any] = _without_nan(plain)
        return finite


def by_size(types: Sequence[TypeMorphology]) -> tuple[TypeMorphology, ...]:
    """Data sets in the order given, in each the type with the smallest median cell first; those without cells last."""
    order = {data: i for i, data in enumerate(dict.fromkeys(t.data for t in types))}
    return tuple(
        sorted(types, key=lambda t: (order[t.data], float(np.median(t.area)) if len(t) else math.inf, t.label))
    )


def find_source(types: Sequence[TypeMorphology], name: str) -> TypeMorphology:
    """The type that `--source` means: by its label, else by the cell type in any spelling.

    Raises:
        InputError: none or several are meant, or it has no cell.
    """
    exact = [t for t in types if t.label.lower() == name.lower()]
    known = find_cell_type(name)
    wanted = known.name if known is not None else name
    found = exact or [t for t in types if t.cell_type.lower() == wanted.lower()]
    labels = ", ".join(t.label for t in types)
    if not found:
        raise InputError(f"--source {name} is not among the measured types ({labels}): add it to --data")
    if len(found) > 1:
        meant = ", ".join(f"'{t.label}'" for t in found)
        raise InputError(f"--source {name} could mean {meant}: give one of these names in full")
    if len(found[0]) == 0:
        raise InputError(f"--source {name} has no cell to compare others with: choose another type or split")
    return found[0]


def summarise(types: Sequence[TypeMorphology], source: TypeMorphology | None = None) -> list[TypeRow]:
    """A row for each type, in the order given.

    Args:
        types: as `measure` gave them.
        source: the type that the others are compared with.
    """
    return [_row(t, source) for t in types]


def _row(own: TypeMorphology, source: TypeMorphology | None) -> TypeRow:
    area = _quantiles(own.area)
    return TypeRow(
        label=own.label,
        data=own.data,
        synthetic=own.synthetic,
        images=len(own.records),
        wells=own.wells,
        cells=len(own),
        cut=int(np.count_nonzero(~own.whole)),
        area=area,
        convexity=_quantiles(own.convexity),
        vertices=None if own.vertices is None else _quantiles(own.polygon_vertices()),
        area_ratio=None if source is None else area.median / float(np.median(source.area)),
        larger_than_source=None if source is None else chance_larger(own.area, source.area),
    )


def _quantiles(values: NDArray[np.int64] | NDArray[np.float64]) -> Quantiles:
    if len(values) == 0:
        return Quantiles(*[math.nan] * 5)
    return Quantiles(*np.percentile(values, (5, 25, 50, 75, 95)).tolist())


def chance_larger(values: NDArray[np.int64], others: NDArray[np.int64]) -> float:
    """Chance that one of `values` is larger than one of `others`, a tie counted half: Mann-Whitney's U / (N·M)."""
    if len(values) == 0 or len(others) == 0:
        return math.nan
    ordered = np.sort(others)
    below = np.searchsorted(ordered, values, side="left").sum(dtype=np.float64)
    up_to = np.searchsorted(ordered, values, side="right").sum(dtype=np.float64)
    return float((below + up_to) / 2 / (len(values) * len(others)))


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def write_cells(path: str | Path, types: Sequence[TypeMorphology]) -> None:
    """Write a CSV with a line for each cell, in one step.

    Columns: data, type, split, image, well, cell (instance id), area (px²), convexity (6 digits), whole (1 or 0), and
    vertices where they were counted (empty for a cell without a polygon).

    Raises:
        InputError: the folder cannot be written.
    """
    counted = any(t.vertices is not None for t in types)
    header = ["data", "type", "split", "image", "well", "cell", "area", "convexity", "whole"]
    with replacing(path) as scratch, scratch.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*header, "vertices"] if counted else header)
        for own in types:
            heads = [(own.data, own.cell_type, r.split, r.id, r.well) for r in own.records]
            vertices = np.zeros(len(own), np.int64) if own.vertices is None else own.vertices
            columns = (own.image, own.cell, own.area, own.convexity, own.whole, vertices)
            for image, cell, area, convexity, whole, count in zip(*(c.tolist() for c in columns), strict=True):
                row = [*heads[image], cell, area, f"{convexity:.6f}", int(whole)]
                writer.writerow([*row, count or ""] if counted else row)

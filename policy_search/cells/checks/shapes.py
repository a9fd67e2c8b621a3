"""Checks of the annotations of one image as they stand in the file: what became of each, and what they say of it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policy_search.cells.checks.findings import Finding, amount
from policy_search.cells.dataset import ImageRecord
from policy_search.cells.instances import InstanceMap

OUTSIDE = 1.0  # px that a vertex may lie outside the frame: tools clip to pixel centres, edges, or one beyond
BOX_TOLERANCE = 2.0  # px an edge; tools differ in whether the last pixel counts
AREA_TOLERANCE, AREA_FLOOR = 0.2, 10.0  # share and px²: of small cells polygon and pixels differ by a tenth

Annotation = dict[str, Any]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


class Outlines:
    """The usable rings of N annotations, measured together.

    Attributes:
        drawn: (N,) bool, has at least one usable ring.
        is_code: (N,) bool, is given as a run-length code.
        short: (N,) bool, has rings that are left out because they hold fewer than three points.
        bounds: (N, 4) float64 XYXY of all vertices; NaN without a ring.
        area: (N,) float64 sum of the rings' areas; NaN without a ring.
    """

    def __init__(self, annotations: Sequence[Annotation]) -> None:
        count = len(annotations)
        self.is_code = np.array([isinstance(a["segmentation"], dict) for a in annotations], bool)
        self.short = np.zeros(count, bool)
        owner, rings = [], []
        for index, annotation in enumerate(annotations):
            shape = annotation["segmentation"]
            # Of a crowd nobody has drawn the shape, which may be anything; null is no shape.
            if isinstance(shape, dict) or annotation.get("iscrowd"):
                continue
            for ring in shape or []:
                if len(ring) >= 6 and len(ring) % 2 == 0:
                    owner.append(index)
                    rings.append(ring)
                else:
                    self.short[index] = True
        self.drawn = np.zeros(count, bool)
        self.drawn[owner] = True
        self.bounds, self.area = np.full((count, 4), np.nan), np.full(count, np.nan)
        if rings:
            self._measure(np.array(owner), rings)

    def _measure(self, owner: NDArray[np.int64], rings: list[list[float]]) -> None:
        x, y = np.array(list(chain.from_iterable(rings)), np.float64).reshape(-1, 2).T
        sizes = np.array([len(ring) // 2 for ring in rings])
        first = np.cumsum(sizes) - sizes
        following = np.arange(1, len(x) + 1)
        following[first + sizes - 1] = first  # a ring closes
        doubled = np.add.reduceat(x * y[following] - x[following] * y, first)
        cells, begin = np.unique(owner, return_index=True)
        self.area[cells] = np.add.reduceat(np.abs(doubled) / 2, begin)
        vertex = first[begin]
        self.bounds[cells] = np.column_stack([
            np.minimum.reduceat(x, vertex), np.minimum.reduceat(y, vertex),
            np.maximum.reduceat(x, vertex), np.maximum.reduceat(y, vertex),
        ])  # fmt: skip


def shape_findings(annotations: Sequence[Annotation], instances: InstanceMap, record: ImageRecord) -> list[Finding]:
    """What was lost between the file and the map, and what disagrees.

    Every annotation that has no instance is counted by exactly one of crowd-region, cell-empty, cell-outside and
    cell-without-pixel.

    Args:
        annotations: of the image, in file order; instance id = position + 1.
        instances: that were made of them.
        record: of the image.
    """
    count = len(annotations)
    kept = np.zeros(count, bool)
    kept[instances.ids - 1] = True
    crowd = np.array([bool(a.get("iscrowd")) for a in annotations], bool)
    outlines = Outlines(annotations)
    x0, y0, x1, y1 = outlines.bounds.T
    with np.errstate(invalid="ignore"):
        beyond = (x1 <= 0) | (y1 <= 0) | (x0 >= record.width) | (y0 >= record.height)
        outside = np.minimum(x0, y0) < -OUTSIDE
        outside |= (x1 > record.width + OUTSIDE) | (y1 > record.height + OUTSIDE)
    empty = ~outlines.drawn & ~outlines.is_code
    lost = ~kept & ~crowd
    area, boxes = np.full(count, np.nan), np.full((count, 4), np.nan)
    area[instances.ids - 1], boxes[instances.ids - 1] = instances.areas(), instances.boxes()
    box_wrong, as_corners = _boxes_that_differ(annotations, kept, [outlines.bounds, boxes], record)
    hint = ", they look like x0, y0, x1, y1 instead of x, y, width, height" if as_corners else ""
    told = {
        "crowd-region": (crowd & ~kept, "crowd regions"),
        "cell-empty": (lost & empty, "no ring of three points or more"),
        "cell-outside": (lost & ~empty & beyond, "wholly outside the frame"),
        "cell-without-pixel": (lost & ~empty & ~beyond, "no pixel covered"),
        "ring-too-short": (outlines.short & outlines.drawn & ~crowd, "rings of fewer than three points"),
        "vertices-outside": (kept & outside, f"vertices over {OUTSIDE:g} px outside the frame"),
        "bbox-differs": (box_wrong, f"bbox over {BOX_TOLERANCE:g} px off{hint}"),
        "area-differs": (
            _areas_that_differ(annotations, kept, [outlines.area, area]),
            f"area over {AREA_TOLERANCE:.0%} off",
        ),
    }
    return [
        Finding(
            code, record.id, record.split, f"{_number(flags)} of {amount(count, 'annotation')}: {text}", _number(flags)
        )
        for code, (flags, text) in told.items()
        if flags.any()
    ]


def _number(flags: Flags) -> int:
    return int(np.count_nonzero(flags))


def _boxes_that_differ(
    annotations: Sequence[Annotation], kept: Flags, measured: list[Floats], record: ImageRecord
) -> tuple[Flags, bool]:
    """(N,) bool, and whether most of them would be right if read as corners. Without a bbox nothing can differ.

    Args:
        annotations: N of them.
        kept: (N,) bool, those looked at.
        measured: boxes (N, 4) XYXY, each of which is right.
        record: of the image; a box may be cut at its frame.
    """
    has = np.array([a.get("bbox") is not None for a in annotations], bool) & kept
    given = np.full((len(annotations), 4), np.inf)
    for index in np.flatnonzero(has).tolist():
        box = annotations[index]["bbox"]
        if isinstance(box, list) and len(box) == 4:
            given[index] = [_as_float(v) for v in box]
    frame = np.array([record.width, record.height] * 2, np.float64)
    corners = np.column_stack([given[:, :2], given[:, :2] + given[:, 2:]])

    def off(boxes: Floats) -> Flags:
        with np.errstate(invalid="ignore"):
            near = [np.abs(np.clip(boxes, 0, frame) - np.clip(m, 0, frame)).max(1) <= BOX_TOLERANCE for m in measured]
        differs: Flags = ~np.logical_or.reduce(near)
        return differs

    wrong = has & off(corners)
    return wrong, bool(wrong.any() and np.count_nonzero(wrong & off(given)) * 2 < np.count_nonzero(wrong))


def _areas_that_differ(annotations: Sequence[Annotation], kept: Flags, measured: list[Floats]) -> Flags:
    """(N,) bool: farther than the tolerance from the area of the outline and from that of its pixels."""
    has = np.array([a.get("area") is not None for a in annotations], bool) & kept
    given = np.array([_as_float(a["area"]) if h else np.inf for a, h in zip(annotations, has, strict=True)])
    with np.errstate(invalid="ignore"):
        near = [np.abs(given - m) <= np.maximum(AREA_FLOOR, AREA_TOLERANCE * m) for m in measured]
    differs: Flags = has & ~np.logical_or.reduce(near)
    return differs


def _as_float(value: Any) -> float:
    """What is no number, or none that fits, is as far off as can be."""
    try:
        return float(value) if isinstance(value, int | float) else np.inf
    except OverflowError:
        return np.inf

"""How cells of the demo culture share the dish: where they settle, and how neighbours divide their border.

Everything is laid out on a plane that is `MARGIN` pixels larger than the frame on every side, so that cells cut by the
frame are cut from whole cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from policy_search.cells.demo_shapes import Points, rounded_outlines, spread_outlines, thin_processes
from policy_search.cells.demo_types import Crowd, Culture

MARGIN = 32
_CANDIDATES = 14  # places tried for a cell before it settles for the roomiest
_SQUEEZE = 0.8  # a clinging cell makes do with this much of the distance it needs
_SUBPIXEL = 4  # fractional bits of polygon corners in OpenCV
_OVERLAP = 0.9  # px: how much deeper a neighbour must be before a cell that laps over it gives up a shared pixel
_LAPPING = 0.4  # share of cells whose edge laps over their neighbours'
_LEAST_SHARE = 0.35  # a cell left with less of its outline than this was squeezed out of the culture

Mask = NDArray[np.uint8]
Plane = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Cell:
    """One cell on the padded plane.

    Attributes:
        x0, y0: column and row of the window's first pixel.
        mask: (h, w) uint8 0/1, with an empty pixel around the cell except where the plane ends.
        depth: (h, w) float32, distance to the outside in pixels.
        rounded: rounded up, not spread.
        riding: lies on top of its neighbours instead of sharing a border with them.
    """

    x0: int
    y0: int
    mask: Mask
    depth: Plane
    rounded: bool
    riding: bool

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the padded plane."""
        h, w = self.mask.shape
        return slice(self.y0, self.y0 + h), slice(self.x0, self.x0 + w)


def grow(
    culture: Culture, density: float, flow: float, height: int, width: int, rng: np.random.Generator
) -> list[Cell]:
    """Cells of one field of view, on the padded (height + 2·MARGIN, width + 2·MARGIN) plane.

    Args:
        density: cells relative to the culture's medium well.
        flow: direction in which cells of this field tend to point, radians.
    """
    tall, wide = height + 2 * MARGIN, width + 2 * MARGIN
    crowd, outline = culture.crowd, culture.outline
    count = int(rng.poisson(crowd.cells * density * tall * wide / 65536))
    rounded = rng.random(count) < crowd.rounded
    riding = rounded & (rng.random(count) < crowd.riding)
    radii = outline.radius * np.exp(rng.normal(0, outline.radius_spread, count))
    radii[rounded] = crowd.rounded_radius * np.exp(rng.normal(0, 0.16, np.count_nonzero(rounded)))
    places = _settle(radii, riding, crowd, tall, wide, rng)
    angles = _directions(places, crowd.order, flow, rng)
    rings = spread_outlines(outline, radii, angles, rng)
    threads = thin_processes(outline, rings, ~rounded, rng)
    ovals = rounded_outlines(radii, rng)
    cells = []
    for i in range(count):
        ring = ovals[i] if rounded[i] else rings[i]
        cell = _rasterise(ring + places[i], [line + places[i] for line in threads[i]], tall, wide)
        if cell is not None:
            cells.append(replace(cell, rounded=bool(rounded[i]), riding=bool(riding[i])))
    return _share(cells, tall, wide, rng)


def _settle(
    radii: NDArray[np.float64], riding: NDArray[np.bool_], crowd: Crowd, tall: int, wide: int, rng: np.random.Generator
) -> Points:
    """(N, 2) x, y of cell centres: alone, or beside a cell of a group that is already there.

    Of the places drawn for a cell those on the plane and at least `spacing` radii from everyone are good. A straggling
    group takes the first good one, a compact group the one nearest to its first cell; who finds none settles alone,
    where there is most room. Riders go anywhere.
    """
    count = len(radii)
    places = np.zeros((count, 2))
    founder = np.arange(count)
    anywhere = rng.random((count, _CANDIDATES, 2)) * (wide, tall)
    turn = rng.random((count, _CANDIDATES)) * 2 * np.pi
    heading = np.stack([np.cos(turn), np.sin(turn)], 2)
    slack = 1 + 0.35 * rng.random((count, _CANDIDATES, 1)) ** 2
    parents = (rng.random((count, _CANDIDATES)) * np.arange(count)[:, None]).astype(int)
    clings = rng.random(count) < crowd.clinging
    for i in range(count):
        places[i] = anywhere[i, 0]
        if i == 0 or riding[i]:
            continue
        needed = (radii[:i] + radii[i]) * crowd.spacing
        if clings[i]:
            parent = parents[i]
            options = places[parent] + heading[i] * slack[i] * needed[parent, None]
            on_plane = ((options >= 0) & (options < (wide, tall))).all(axis=1)
            room = np.where(on_plane, _room(options, places[:i], needed), 0)
            good = np.flatnonzero(room >= min(0.97, max(float(room.max()), _SQUEEZE)))
            if len(good):
                best = good[0]
                if crowd.compact:
                    group = founder[parent[best]]
                    good = good[founder[parent[good]] == group]
                    best = good[((options[good] - places[group]) ** 2).sum(axis=1).argmin()]
                places[i], founder[i] = options[best], founder[parent[best]]
                continue
        room = _room(anywhere[i], places[:i], needed)
        places[i] = anywhere[i, np.minimum(room, 1).argmax()]
    return places


def _room(options: Points, places: Points, needed: NDArray[np.float64]) -> NDArray[np.float64]:
    """(K,) distance of each option to its nearest cell, in units of the distance needed."""
    gaps = options[:, None] - places[None]
    nearest: NDArray[np.float64] = (np.sqrt((gaps**2).sum(axis=2)) / needed).min(axis=1)
    return nearest


def _directions(places: Points, order: float, flow: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """(N,) angles: a slowly turning flow, blurred by 1 - order."""
    wave = rng.normal(0, 1 / 130, (2, 2))
    bend = np.sin(places @ wave[0]) + np.sin(places @ wave[1] + 1)
    stray = rng.uniform(-np.pi / 2, np.pi / 2, len(places))
    return np.asarray(flow + 0.5 * bend + (1 - order) * stray, np.float64)


def _rasterise(ring: Points, threads: Sequence[Points], tall: int, wide: int) -> Cell | None:
    """The cell drawn in its window, or None when it lies outside the plane."""
    points = np.concatenate([ring, *threads])
    x0, y0 = np.maximum(np.floor(points.min(axis=0)).astype(int) - 2, 0)
    x1, y1 = np.minimum(np.ceil(points.max(axis=0)).astype(int) + 3, (wide, tall))
    if x1 - x0 < 3 or y1 - y0 < 3:
        return None
    mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
    cv2.fillPoly(mask, [_fixed(ring - (x0, y0))], 1, shift=_SUBPIXEL)
    for thread in threads:
        cv2.polylines(mask, [_fixed(thread - (x0, y0))], False, 1, 2, shift=_SUBPIXEL)
    mask = largest_piece(mask)  # a process may have closed a loop, a ruffled edge crossed itself
    return Cell(int(x0), int(y0), mask, _depth(mask), False, False)


def _fixed(points: Points) -> NDArray[np.int32]:
    fixed: NDArray[np.int32] = np.round(points * 2**_SUBPIXEL).astype(np.int32)
    return fixed


def _depth(mask: Mask) -> Plane:
    """Distance to the nearest empty pixel, in pixels. The border of the plane is no outside."""
    return np.asarray(cv2.distanceTransform(mask, cv2.DIST_L2, 3))


def _share(cells: Sequence[Cell], tall: int, wide: int, rng: np.random.Generator) -> list[Cell]:
    """Settle borders: a pixel claimed by several cells goes to the one it lies deepest in.

    Cells that lap keep their edge over the neighbour's as well. Riders neither take nor give.
    """
    # Distances in a pixel grid tie often; a hair's difference between cells decides.
    claims = [
        _claim(cell) * np.float32(1 + hair) for cell, hair in zip(cells, rng.uniform(0, 1e-3, len(cells)), strict=True)
    ]
    margins = np.where(rng.random(len(cells)) < _LAPPING, _OVERLAP, 0)
    deepest = np.zeros((tall, wide), np.float32)
    for cell, claim in zip(cells, claims, strict=True):
        if not cell.riding:
            np.maximum(deepest[cell.window], claim, out=deepest[cell.window])
    settled = []
    for cell, claim, margin in zip(cells, claims, margins, strict=True):
        if cell.riding:
            settled.append(cell)
            continue
        kept = ((claim >= deepest[cell.window] - np.float32(margin)) & (claim > 0)).astype(np.uint8)
        before, after = cv2.countNonZero(cell.mask), cv2.countNonZero(kept)
        if after == before:
            settled.append(cell)
        elif after >= _LEAST_SHARE * before:
            whole = largest_piece(kept)
            settled.append(replace(cell, mask=whole, depth=_depth(whole)))
    return settled


def _claim(cell: Cell) -> Plane:
    """Depth by which cells contend for a pixel: rounded cells are stiff and push spread ones aside."""
    return np.asarray(cell.depth + 2.5 * cell.mask, np.float32) if cell.rounded else cell.depth


def largest_piece(mask: Mask) -> Mask:
    """The largest connected piece of a (h, w) 0/1 mask, without holes; all zero when there is none."""
    out = np.zeros_like(mask)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if contours:
        largest = max(range(len(contours)), key=lambda k: (cv2.contourArea(contours[k]), len(contours[k])))
        cv2.drawContours(out, contours, largest, 1, cv2.FILLED)
    return out

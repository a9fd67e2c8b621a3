"""Outlines of the demo culture: where cells settle, what shape they take, and how neighbours share their border.

Everything is laid out on a plane that is `MARGIN` pixels larger than the frame on every side, so that cells cut by the
frame are cut from whole cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from policy_search.cells.demo_types import Crowd, Culture, Outline

MARGIN = 32
_CANDIDATES = 14  # places tried for a cell before it settles for the roomiest
_SQUEEZE = 0.8  # a clinging cell makes do with this much of the distance it needs
_SUBPIXEL = 4  # fractional bits of polygon corners in OpenCV
_OVERLAP = 0.9  # px: how much deeper a neighbour must be before a shared pixel is given up
_LEAST_SHARE = 0.35  # a cell left with less of its outline than this was squeezed out of the culture
_ARC = np.linspace(0, 1, 6, endpoint=False)[:, None]  # parameters of a quadratic Bézier arc, end point excluded

Mask = NDArray[np.uint8]
Plane = NDArray[np.float32]
Points = NDArray[np.float64]


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
    cells = []
    for place, radius, angle, is_round, rides in zip(places, radii, angles, rounded, riding, strict=True):
        rings = [_round(radius, rng)] if is_round else [_spread(outline, radius, angle, rng)]
        threads = [] if is_round else _processes(outline, rings[0], rng)
        cell = _rasterise(rings[0] + place, [thread + place for thread in threads], tall, wide)
        if cell is not None:
            cells.append(replace(cell, rounded=bool(is_round), riding=bool(rides)))
    return _share(cells, tall, wide)


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
    return np.asarray((np.sqrt((gaps**2).sum(axis=2)) / needed).min(axis=1))


def _directions(places: Points, order: float, flow: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """(N,) angles: a slowly turning flow, blurred by 1 - order."""
    wave = rng.normal(0, 1 / 130, (2, 2))
    bend = np.sin(places @ wave[0]) + np.sin(places @ wave[1] + 1)
    return flow + 0.5 * bend + (1 - order) * rng.uniform(-np.pi / 2, np.pi / 2, len(places))


def _round(radius: float, rng: np.random.Generator) -> Points:
    """(M, 2) corners of a rounded cell: a slightly oval circle with a small third harmonic."""
    theta = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    oval, bump = rng.normal(0, 0.10), rng.normal(0, 0.03)
    phase = rng.uniform(0, 2 * np.pi, 2)
    r = radius * (1 + oval * np.cos(2 * theta + phase[0]) + bump * np.cos(3 * theta + phase[1]))
    return np.stack([r * np.cos(theta), r * np.sin(theta)], 1)


def _spread(outline: Outline, radius: float, angle: float, rng: np.random.Generator) -> Points:
    """(M, 2) corners of a spread cell around (0, 0), pointing along `angle` (see `Outline`)."""
    tips = int(rng.integers(outline.tips[0], outline.tips[1] + 1))
    theta = (np.arange(tips) + rng.uniform(-0.3, 0.3, tips)) * (2 * np.pi / tips) + rng.uniform(0, 2 * np.pi)
    reach = np.exp(rng.normal(0, outline.tip_spread, tips))
    inner = float(reach.mean())
    arms = rng.random(tips) < outline.arms / tips
    reach = np.where(arms, outline.arm_length * rng.uniform(0.7, 1.3, tips), reach)
    gap = np.diff(theta, append=theta[0] + 2 * np.pi)
    # The control point between two corners; capped so that a wide gap does not throw it far out.
    waist = outline.sag * inner / np.maximum(np.cos(gap / 2), 0.5) * rng.uniform(0.92, 1.08, tips)
    corner = np.stack([np.cos(theta), np.sin(theta)], 1) * reach[:, None]
    middle = theta + gap / 2
    control = np.stack([np.cos(middle), np.sin(middle)], 1) * waist[:, None]
    after = np.roll(corner, -1, axis=0)
    curve = (
        corner[:, None] * (1 - _ARC) ** 2 + control[:, None] * 2 * _ARC * (1 - _ARC) + after[:, None] * _ARC**2
    ).reshape(-1, 2)
    stretch = np.exp(max(0.0, float(rng.normal(outline.stretch, outline.stretch_spread))) / 2)
    turned = curve * radius * (stretch, 1 / stretch)
    turned = turned - turned.mean(axis=0) + rng.normal(0, outline.ruffle, turned.shape)
    c, s = np.cos(angle), np.sin(angle)
    return np.asarray(turned @ np.array([[c, s], [-s, c]]))


def _processes(outline: Outline, ring: Points, rng: np.random.Generator) -> list[Points]:
    """Center lines (4, 2) of thin processes that leave the cell at its far corners."""
    count = int(rng.poisson(outline.processes))
    if count == 0:
        return []
    distance = np.hypot(ring[:, 0], ring[:, 1])
    roots = rng.choice(len(ring), size=count, p=distance**3 / (distance**3).sum())
    lines = []
    for root in roots:
        out = ring[root] / distance[root]
        length = outline.process_length * rng.uniform(0.4, 1.6)
        side = np.array([-out[1], out[0]]) * np.cumsum(rng.normal(0, 0.09, 3))[:, None]
        steps = np.array([[0.33], [0.67], [1.0]])
        lines.append(np.concatenate([ring[root : root + 1] * 0.7, ring[root] + length * steps * (out + side)]))
    return lines


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
    return Cell(int(x0), int(y0), mask, _depth(mask), False, False)


def _fixed(points: Points) -> NDArray[np.int32]:
    return np.round(points * 2**_SUBPIXEL).astype(np.int32)


def _depth(mask: Mask) -> Plane:
    """Distance to the nearest empty pixel, in pixels. The border of the plane is no outside."""
    return np.asarray(cv2.distanceTransform(mask, cv2.DIST_L2, 3))


def _share(cells: Sequence[Cell], tall: int, wide: int) -> list[Cell]:
    """Settle borders: a pixel claimed by several cells goes to the one it lies deepest in.

    Within `_OVERLAP` of a tie both keep it, as one cell's edge lies over the other's. Riders neither take nor give.
    """
    deepest = np.zeros((tall, wide), np.float32)
    for cell in cells:
        if not cell.riding:
            np.maximum(deepest[cell.window], _claim(cell), out=deepest[cell.window])
    settled = []
    for cell in cells:
        if cell.riding:
            settled.append(cell)
            continue
        claim = _claim(cell)
        kept = ((claim > deepest[cell.window] - _OVERLAP) & (claim > 0)).astype(np.uint8)
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

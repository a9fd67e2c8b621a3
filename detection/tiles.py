"""Large images in overlapping tiles: where they lie, and how their detections become one list without doubles.

Tiles share a band of `overlap` pixels; a line in the middle of each band divides the image into cores, one a tile. A
cell no larger than the band, whose centre is in a core, lies whole within that core's tile. Detected centres scatter,
so a tile may also speak for cells a little outside its core; where two tiles then name one cell, one of them stays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detection.statistics.comparison import Detected
from policy_search.cells.instances import Instance

# Tiles begin at multiples of it: the strides of the network then fall on the same pixels in every tile.
GRID = 32
# How far outside its core a tile's detection may be centred: pixels, and at most this part of the overlap.
SLACK, SLACK_PART = 16, 0.125
# A detection that ends this near the edge of its tile, in pixels, may be a part of a larger cell.
EDGE = 2
# Two detections of different tiles are one cell when they share more than this part of the smaller one.
SAME = 0.5
# Longest side in pixels that is still taken in one piece when nobody says otherwise, and the tile used beyond it:
# the height of LIVECell's images. A network proposes a fixed number of regions at a time, and some resize what they see
# to a fixed height, so a piece should be about what they were trained on.
WHOLE, TILE = 1024, 520
SMALLEST_TILE = 4 * GRID


class Tile(NamedTuple):
    """XYXY in pixels, right and bottom exclusive: what is looked at, and the core that is spoken for."""

    frame: tuple[int, int, int, int]
    core: tuple[int, int, int, int]


class Merged(NamedTuple):
    """Cells of the whole image, best first, ids from 1; `cut` of them end at a tile's edge inside the image."""

    cells: list[Instance]
    scores: list[float]
    cut: int


def tile_for(height: int, width: int) -> int | None:
    """The tile to use for an image of this size by default; None: take it in one piece."""
    return TILE if max(height, width) > WHOLE else None


def overlap_of(tile: int) -> int:
    """Pixels that neighbouring tiles share, a quarter of the tile or a little more: larger cells are cut."""
    return tile - (tile * 3 // 4) // GRID * GRID


def tiles_of(height: int, width: int, tile: int) -> list[Tile]:
    """Tiles that cover the image; their cores cover it once.

    Raises:
        ValueError: `tile` is below `SMALLEST_TILE`.
    """
    if tile < SMALLEST_TILE:
        raise ValueError(f"a tile needs at least {SMALLEST_TILE} pixels a side, got {tile}")
    rows, columns = _spans(height, tile), _spans(width, tile)
    return [Tile((x0, y0, x1, y1), (cx0, cy0, cx1, cy1)) for y0, y1, cy0, cy1 in rows for x0, x1, cx0, cx1 in columns]


def _spans(length: int, tile: int) -> list[tuple[int, int, int, int]]:
    """Along one axis: first and last of each tile, first and last of its core."""
    overlap = overlap_of(tile)
    count = 1 + max(0, -((tile - length) // (tile - overlap)))
    starts = [index * (tile - overlap) for index in range(count)]
    borders = [0, *(start + overlap // 2 for start in starts[1:]), length]
    return [(s, min(s + tile, length), borders[i], borders[i + 1]) for i, s in enumerate(starts)]


def find_in_tiles(
    find: Callable[[NDArray[np.uint8]], Detected],
    image: NDArray[np.uint8],
    tile: int,
    report: Callable[[int, int], None] = lambda *_: None,
) -> Merged:
    """`find` on each tile of an image, put together. Needs the memory of one tile and of the cells' own masks.

    Args:
        report: called after each tile with how many are done, and of how many.
    """
    height, width = image.shape[:2]
    tiles = tiles_of(height, width, tile)
    found = []
    for number, part in enumerate(tiles, start=1):
        x0, y0, x1, y1 = part.frame
        found.append(find(np.ascontiguousarray(image[y0:y1, x0:x1])))
        report(number, len(tiles))
    return merge(tiles, found, height, width)


def merge(tiles: list[Tile], found: list[Detected], height: int, width: int) -> Merged:
    """Detections of each tile, in its own coordinates, as detections of the (height, width) image."""
    cells: list[Instance] = []
    scores: list[float] = []
    rank: list[tuple[bool, bool, float]] = []
    source: list[int] = []
    slack = min(SLACK, SLACK_PART * _overlap_in(tiles))
    for index, (tile, (own, values)) in enumerate(zip(tiles, found, strict=True)):
        for cell, value in zip(own, values, strict=True):
            moved = Instance(1, cell.x0 + tile.frame[0], cell.y0 + tile.frame[1], cell.mask)
            outside, cut = _outside(moved, tile), _is_cut(moved, tile, height, width)
            # A part that is centred outside the core belongs to a cell that another tile sees better.
            if outside == 0 or (outside < slack and not cut):
                cells.append(moved)
                scores.append(value)
                rank.append((cut, outside > 0, -value))
                source.append(index)
    kept = _without_doubles(cells, source, sorted(range(len(cells)), key=lambda i: rank[i]))
    kept.sort(key=lambda i: -scores[i])
    numbered = [Instance(n, cells[i].x0, cells[i].y0, cells[i].mask) for n, i in enumerate(kept, start=1)]
    return Merged(numbered, [scores[i] for i in kept], sum(rank[i][0] for i in kept))


def _overlap_in(tiles: list[Tile]) -> int:
    """Twice the smallest distance from a core's inner border to the tile's edge; 0 without neighbours."""
    inner = [a - b for tile in tiles for a, b in zip(tile.core[:2], tile.frame[:2], strict=True) if a > b]
    return 2 * min(inner, default=0)


def _outside(cell: Instance, tile: Tile) -> float:
    """How far the centre of a cell's box is from the core; 0 inside. A core has its left and upper edge."""
    x0, y0, x1, y1 = cell.box
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    left, top, right, bottom = tile.core
    inside = left <= x < right and top <= y < bottom
    return 0.0 if inside else max(left - x, x - right, top - y, y - bottom, np.finfo(float).tiny)


def _is_cut(cell: Instance, tile: Tile, height: int, width: int) -> bool:
    """Whether a cell ends about where its tile does, and the image does not."""
    x0, y0, x1, y1 = cell.box
    left, top, right, bottom = tile.frame
    return (
        (left > 0 and x0 < left + EDGE)
        or (top > 0 and y0 < top + EDGE)
        or (right < width and x1 > right - EDGE)
        or (bottom < height and y1 > bottom - EDGE)
    )


def _without_doubles(cells: list[Instance], source: list[int], order: list[int]) -> list[int]:
    """Of detections in order of preference, those that are no double of a preferred one from another tile."""
    boxes = np.array([cell.box for cell in cells], np.int64).reshape(-1, 4)
    tile = np.array(source, np.int64)
    keep = np.zeros(len(cells), bool)
    for i in order:
        x0, y0, x1, y1 = boxes[i]
        touching = keep & (tile != tile[i])
        touching &= (boxes[:, 0] < x1) & (boxes[:, 2] > x0) & (boxes[:, 1] < y1) & (boxes[:, 3] > y0)
        keep[i] = not any(_shared(cells[i], cells[j]) > SAME for j in np.flatnonzero(touching))
    return np.flatnonzero(keep).tolist()


def _shared(a: Instance, b: Instance) -> float:
    """Common pixels over the smaller of two areas."""
    x0, y0 = max(a.x0, b.x0), max(a.y0, b.y0)
    x1, y1 = min(a.box[2], b.box[2]), min(a.box[3], b.box[3])
    if x1 <= x0 or y1 <= y0:
        return 0.0
    first = a.mask[y0 - a.y0 : y1 - a.y0, x0 - a.x0 : x1 - a.x0]
    second = b.mask[y0 - b.y0 : y1 - b.y0, x0 - b.x0 : x1 - b.x0]
    return float(np.count_nonzero(first & second)) / max(1, min(a.area, b.area))

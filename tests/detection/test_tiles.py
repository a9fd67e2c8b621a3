"""Tiles: cores cover the image once; cells on seams come out once and whole; memory follows the tile, not the image."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from detection.tiles import GRID, Tile, find_in_tiles, merge, overlap_of, tile_for, tiles_of
from policy_search.cells.instances import Instance


@pytest.mark.parametrize(
    ("height", "width", "tile"),
    [(520, 704, 256), (1000, 300, 512), (4000, 4000, 1024), (128, 128, 128), (769, 1025, 1024), (385, 384, 384)],
)
def test_cores_cover_every_pixel_once_and_lie_deep_in_their_tiles(height, width, tile):
    count = np.zeros((height, width), np.uint8)
    half = overlap_of(tile) // 2
    for (x0, y0, x1, y1), (cx0, cy0, cx1, cy1) in tiles_of(height, width, tile):
        count[cy0:cy1, cx0:cx1] += 1
        assert 0 <= x0 < x1 <= width
        assert 0 <= y0 < y1 <= height
        assert max(x1 - x0, y1 - y0) <= tile
        assert x0 % GRID == y0 % GRID == 0
        for near, far in ((x0, cx0), (y0, cy0)):
            assert far - near == (half if near else 0)
        for near, far, end in ((cx1, x1, width), (cy1, y1, height)):
            assert far == end == near or far - near >= half
    assert (count == 1).all()
    assert overlap_of(tile) >= tile / 4


def test_small_images_are_one_tile_and_tiny_tiles_are_refused():
    assert tiles_of(100, 90, 128) == [Tile((0, 0, 90, 100), (0, 0, 90, 100))]
    assert tile_for(520, 704) is None
    assert tile_for(4000, 600) == 520
    with pytest.raises(ValueError, match="at least 128"):
        tiles_of(520, 704, 127)


def field(height: int, width: int, cells: int, largest: int, seed: int) -> np.ndarray:
    """Label image of solid rectangles that do not touch, each at most `largest` pixels a side."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((height, width), np.int32)
    label = 0
    while label < cells:
        h, w = rng.integers(3, largest + 1, 2)
        y, x = rng.integers(height - h), rng.integers(width - w)
        if not labels[max(y - 1, 0) : y + h + 1, max(x - 1, 0) : x + w + 1].any():
            label += 1
            labels[y : y + h, x : x + w] = label
    return labels


def seen(labels: np.ndarray, shift=None):
    """A detector that finds every cell of its part, cut where the part ends, with a score that depends on the cell."""
    rng = np.random.default_rng(1)

    def find(part: np.ndarray):
        cells, scores = [], []
        for label in np.unique(part[part > 0]):
            ys, xs = np.nonzero(part == label)
            mask = (part == label)[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
            if shift:  # a border wrong by some pixels, differently each time it is looked at
                mask = mask[rng.integers(shift) :, rng.integers(shift) :]
                mask = mask[: len(mask) - rng.integers(shift), : mask.shape[1] - rng.integers(shift)]
                if mask.size == 0:
                    continue
            cells.append(Instance(len(cells) + 1, int(xs.min()), int(ys.min()), mask))
            scores.append(float(1 / (1 + label + rng.random() * bool(shift))))
        return cells, scores

    return find


@pytest.mark.parametrize("seed", range(3))
def test_every_cell_up_to_the_overlap_comes_out_once_and_whole(seed):
    labels = field(520, 704, 60, overlap_of(256), seed)
    merged = find_in_tiles(seen(labels), labels, 256)
    back = np.zeros_like(labels)
    for cell in merged.cells:
        x0, y0, x1, y1 = cell.box
        assert cell.mask.all()
        (label,) = np.unique(labels[y0:y1, x0:x1])
        assert (labels == label).sum() == cell.area
        back[y0:y1, x0:x1] = label
    assert (back == labels).all()
    assert len(merged.cells) == 60
    assert merged.cut == 0
    assert [cell.id for cell in merged.cells] == list(range(1, 61))
    assert merged.scores == sorted(merged.scores, reverse=True)
    whole = seen(labels)(labels)
    assert merged.scores == sorted(whole[1], reverse=True)


@pytest.mark.parametrize("seed", range(3))
def test_uncertain_borders_neither_lose_nor_double_a_cell(seed):
    labels = field(520, 704, 150, 28, seed)
    large = [label for label in range(1, 151) if (labels == label).sum() >= 150]
    merged = find_in_tiles(seen(labels, shift=4), labels, 128)
    found = [int(np.bincount(labels[c.y0 : c.box[3], c.x0 : c.box[2]][c.mask]).argmax()) for c in merged.cells]
    assert [found.count(label) for label in large] == [1] * len(large)


def block(x: int, y: int, w: int, h: int) -> Instance:
    return Instance(1, x, y, np.ones((h, w), bool))


def test_the_whole_one_of_two_views_stays_even_when_the_other_scores_higher():
    # Seam in the middle of a 448 px wide image: tile 256 and overlap 64, cores meet at 224.
    tiles = tiles_of(100, 448, 256)
    assert [t.frame for t in tiles] == [(0, 0, 256, 100), (192, 0, 448, 100)]
    left = ([block(200, 10, 40, 20)], [0.6])  # 200 … 240: whole
    right = ([block(0, 10, 48, 20)], [0.9])  # 192 … 240, ends at its tile's edge
    merged = merge(tiles, [left, right], 100, 448)
    assert [(c.box, s) for c, s in zip(merged.cells, merged.scores, strict=True)] == [((200, 10, 240, 30), 0.6)]
    assert merged.cut == 0


def test_distinct_neighbours_across_a_seam_and_doubles_of_one_tile_stay():
    tiles = tiles_of(100, 448, 256)
    left = ([block(206, 10, 20, 20), block(208, 10, 20, 20)], [0.8, 0.7])  # what one tile says is the network's word
    right = ([block(222 - 192, 10, 20, 20)], [0.9])  # shares 4 or 6 of 20 columns
    merged = merge(tiles, [left, right], 100, 448)
    assert [c.box[0] for c in merged.cells] == [222, 206, 208]


def test_a_cell_larger_than_the_overlap_is_counted_as_cut():
    labels = np.zeros((128, 448), np.int32)
    labels[40:60, 100:340] = 1
    merged = find_in_tiles(seen(labels), labels, 256)
    assert merged.cut == len(merged.cells) > 0


def test_memory_follows_the_tile_on_4000_by_4000_pixels():
    image = np.zeros((4000, 4000), np.uint8)
    largest = []

    def find(part):
        largest.append(part.size)
        cells = [
            block(x, y, 20, 20) for y in range(5, part.shape[0] - 30, 30) for x in range(5, part.shape[1] - 30, 30)
        ]
        return cells, [0.5] * len(cells)

    tracemalloc.start()
    merged = find_in_tiles(find, image, 1024)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert max(largest) <= 1024 * 1024
    assert 14_000 < len(merged.cells) < 22_000
    # An (N, H, W) block would need 250 GB; the cells' own masks, 400 bytes each, and lists about them need 40 MB.
    assert peak < 60e6

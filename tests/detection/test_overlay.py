"""Label images, outlines and counts of known cells."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.segmentation import find_boundaries

from detection.overlay import border, colour, counts, overlay, visible
from policy_search.cells.instances import Instance
from tests.detection.culture import ellipses


def square(x: int, y: int, side: int) -> Instance:
    return Instance(1, x, y, np.ones((side, side), bool))


def test_the_better_cell_is_on_top_and_a_hidden_one_is_in_neither():
    labels, cells = visible([square(0, 0, 6), square(4, 4, 6), square(1, 1, 2)], 20, 30)
    assert labels.dtype == np.uint16
    assert labels.shape == (20, 30)
    assert [cell.box for cell in cells] == [(0, 0, 6, 6), (4, 4, 10, 10)]
    assert [cell.id for cell in cells] == [1, 2]
    assert np.unique(labels).tolist() == [0, 1, 2]
    assert (labels[:6, :6] == 1).all()
    assert (labels == 2).sum() == 36 - 4
    got = counts(labels, [*cells])
    assert got == (2, 36.0, 36.0, pytest.approx(68 / 600))


def test_numbers_close_up_after_a_hidden_cell():
    labels, cells = visible([square(0, 0, 6), square(1, 1, 2), square(10, 10, 3)], 20, 30)
    assert labels[11, 11] == 2
    assert [cell.box for cell in cells] == [(0, 0, 6, 6), (10, 10, 13, 13)]


def test_beyond_65535_cells_labels_have_32_bits():
    dots = [Instance(1, i % 300, i // 300, np.ones((1, 1), bool)) for i in range(65536)]
    labels, cells = visible(dots, 300, 300)
    assert labels.dtype == np.uint32
    assert len(cells) == labels.max() == 65536
    assert visible(dots[:-1], 300, 300)[0].dtype == np.uint16


def test_without_cells():
    labels, cells = visible([], 5, 7)
    assert counts(labels, cells) == (0, None, None, 0.0)
    image = np.arange(35, dtype=np.uint8).reshape(5, 7)
    shown = overlay(image, cells)
    assert (shown == shown[..., :1]).all()
    assert np.argsort(shown[..., 0].ravel(), kind="stable").tolist() == list(range(35))


def test_areas_and_foreground_are_those_of_the_masks():
    cells = list(ellipses(80, 90, 9, np.random.default_rng(0)))
    labels, kept = visible(cells, 80, 90)
    got = counts(labels, kept)
    full = np.zeros((80, 90), bool)
    for cell in cells:
        x0, y0, x1, y1 = cell.box
        full[y0:y1, x0:x1] |= cell.mask
    assert got.foreground == pytest.approx(full.mean())
    assert len(kept) == len(np.unique(labels)) - 1
    areas = [c.area for c in kept]
    assert (got.mean_area, got.median_area) == (np.mean(areas), np.median(areas))


def test_outlines_are_the_inner_boundary_in_the_cells_colour():
    (cell,) = ellipses(60, 60, 1, np.random.default_rng(3))
    edge = find_boundaries(np.pad(cell.mask, 1), connectivity=1, mode="inner")[1:-1, 1:-1]
    assert (border(cell.mask) == edge).all()
    image = np.full((60, 60), 99, np.uint8)
    image[0, 0] = 101
    for picture in (image, np.repeat(image[..., None], 3, 2)):
        shown = overlay(picture, [cell])
        coloured = (shown != shown[..., :1]).any(axis=2)
        full = np.zeros((60, 60), bool)
        x0, y0, x1, y1 = cell.box
        full[y0:y1, x0:x1] = edge
        assert (coloured == full).all()
        assert (shown[full] == colour(1)).all()


def test_the_better_outline_is_on_top():
    shown = overlay(np.zeros((20, 20), np.uint8), [square(0, 0, 8), square(4, 0, 8)])
    assert tuple(shown[0, 5]) == colour(1)
    assert tuple(shown[0, 10]) == colour(2)


def test_colours_of_neighbouring_numbers_differ_and_none_is_grey():
    shades = np.array([colour(n) for n in range(1, 200)])
    assert (np.ptp(shades, axis=1) > 150).all()
    for step in (1, 2, 3):
        assert (np.abs(np.diff(shades[::step], axis=0)).sum(axis=1) > 100).all()
    assert len({tuple(s) for s in shades}) == 24

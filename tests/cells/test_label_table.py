"""Boxes and areas of label layers by their runs, against scipy and numpy; what `drop_specks` leaves."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from policy_search.cells.instances import InstanceMap
from policy_search.cells.label_table import _positions


def reference(layers: NDArray[np.uint16]) -> list[list[int]]:
    """id, layer, x0, y0, x1, y1, area by `find_objects` and `bincount`, ordered by id, then layer."""
    rows = []
    for index, layer in enumerate(layers):
        areas = np.bincount(layer.ravel(), minlength=1)
        for label, box in enumerate(ndimage.find_objects(layer.astype(np.int32)), 1):
            if box is not None:
                y, x = box
                rows.append([label, index, x.start, y.start, x.stop, y.stop, int(areas[label])])
    return sorted(rows)


def blobs(seed: int, shape: tuple[int, int, int], largest: int) -> NDArray[np.uint16]:
    """Patches of random size, which cut each other and touch the frame, each layer with labels of its own."""
    rng = np.random.default_rng(seed)
    layers = np.zeros(shape, np.uint16)
    for label in rng.choice(np.arange(1, largest + 1), min(largest, 60), replace=False):
        y, x, high, wide = rng.integers([0, 0, 1, 1], [shape[1], shape[2], 13, 13])
        layers[label % shape[0], y : y + high, x : x + wide] = label
    return layers


@pytest.mark.parametrize("shape", [(1, 40, 61), (3, 33, 64), (2, 7, 5), (4, 1, 50), (4, 50, 1)], ids=str)
@pytest.mark.parametrize("largest", [3, 300, 40_000, 65_535])
def test_table_of_blobs(shape: tuple[int, int, int], largest: int) -> None:
    for seed in range(5):
        layers = blobs(seed, shape, largest)
        assert InstanceMap(layers)._table.tolist() == reference(layers)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 37, 53), (1, 300, 301)], ids=str)
def test_table_of_noise(shape: tuple[int, int, int]) -> None:
    layers = np.random.default_rng(0).integers(0, 120, shape).astype(np.uint16)
    layers[1:] += np.uint16(200) * (layers[1:] > 0)
    assert InstanceMap(layers)._table.tolist() == reference(layers)


def test_one_label_that_fills_all_and_ends_where_the_next_row_begins() -> None:
    full = np.full((1, 3, 8), 5, np.uint16)
    assert InstanceMap(full)._table.tolist() == [[5, 0, 0, 0, 8, 3, 24]]
    across = np.zeros((2, 3, 8), np.uint16)
    across[0, 1, 6:] = across[0, 2, :2] = 9
    across[0, 2, 7] = across[1, 0, 0] = 4  # one after the other in memory, but in two layers
    assert InstanceMap(across)._table.tolist() == [[4, 0, 7, 2, 8, 3, 1], [4, 1, 0, 0, 1, 1, 1], [9, 0, 0, 1, 8, 3, 4]]


@pytest.mark.parametrize("shape", [(0, 4, 5), (1, 0, 5), (1, 5, 0), (2, 6, 7)], ids=str)
def test_table_without_a_label(shape: tuple[int, int, int]) -> None:
    table = InstanceMap(np.zeros(shape, np.uint16))._table
    assert table.shape == (0, 7)
    assert table.dtype == np.int64


def test_table_of_layers_that_are_not_contiguous() -> None:
    wide = blobs(1, (2, 30, 80), 300)
    view = wide[:, ::2, 10:70]
    assert InstanceMap(view)._table.tolist() == reference(np.ascontiguousarray(view))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 1.0])
def test_positions_are_those_of_numpy(share: float) -> None:
    for count in (0, 8, 64, 8000):
        flags = np.random.default_rng(count).random(count) < share
        found = _positions(flags)
        assert found.dtype == np.int64
        np.testing.assert_array_equal(found, np.flatnonzero(flags))


@pytest.mark.parametrize("label", [1, 32_766, 32_767, 32_768, 65_535])
def test_boxes_of_large_labels(label: int) -> None:
    layer = np.zeros((20, 30), np.uint16)
    layer[3:9, 11:17] = label
    instances = InstanceMap(layer[None])
    assert instances.ids.tolist() == [label]
    assert instances.boxes().tolist() == [[11, 3, 17, 9]]
    assert instances.areas().tolist() == [36]
    assert len(instances.drop_specks(36)) == 1
    assert len(instances.drop_specks(37)) == 0


def test_a_cell_of_the_least_area_stays_beside_a_speck() -> None:
    layer = np.zeros((20, 30), np.uint16)
    layer[3:9, 11:17] = 7  # 36 pixels
    layer[12, 2:7] = 4
    kept = InstanceMap(layer[None]).drop_specks(36)
    assert kept.ids.tolist() == [7]
    assert kept.areas().tolist() == [36]


@pytest.mark.parametrize("min_area", [0, 1, 2, 20, 60, 1000])
def test_drop_specks_is_a_selection_by_area(min_area: int) -> None:
    for seed in range(10):
        layers = blobs(seed, (4, 33, 64), 300)
        if seed % 2:
            layers[1] = 0  # a layer that is empty already
        before, instances = layers.copy(), InstanceMap(layers)
        kept = instances.drop_specks(min_area)
        np.testing.assert_array_equal(layers, before)
        areas = np.bincount(before.ravel())
        areas[0] = 0
        if not ((areas > 0) & (areas < min_area)).any():
            assert kept is instances
            continue
        expected = np.where((areas >= min_area)[before], before, 0)
        expected = expected[expected.any(axis=(1, 2))]
        assert kept.layers.dtype == np.uint16
        assert kept.layers.flags.c_contiguous
        np.testing.assert_array_equal(kept.layers, expected)
        # What was known of the rest is carried over, with its layers renumbered.
        assert kept._table.tolist() == reference(expected)


def test_a_speck_inside_another_cell_of_its_layer_leaves_that_cell_alone() -> None:
    layer = np.full((9, 9), 3, np.uint16)
    layer[4, 4] = 8
    kept = InstanceMap(layer[None]).drop_specks(2)
    assert kept.layers.tolist() == np.where(layer == 8, 0, layer)[None].tolist()
    assert kept.areas().tolist() == [80]
    corner = np.zeros((9, 9), np.uint16)
    corner[2, 2:7] = corner[2:7, 2] = 1  # its box holds the other cell
    corner[4:6, 4:6] = 2
    assert InstanceMap(corner[None]).drop_specks(10).layers.tolist() == np.zeros((0, 9, 9)).tolist()
    assert (InstanceMap(corner[None]).drop_specks(5).ids == [1]).all()
    bent = corner.copy()
    bent[4:8, 4:9] = 2
    assert InstanceMap(bent[None]).drop_specks(10).layers.tolist() == np.where(bent == 2, bent, 0)[None].tolist()

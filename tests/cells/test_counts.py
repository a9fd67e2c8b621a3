"""Pixels of each label, by both ways of counting."""

from __future__ import annotations

import numpy as np
import pytest

from policy_search.cells.instances import InstanceMap, _counts


@pytest.mark.parametrize("shape", [(1, 1), (37, 53), (4097, 4096)], ids=["one pixel", "small", "above 2**24 pixels"])
@pytest.mark.parametrize("largest", [0, 1, 300, 40_000, 65_535])
def test_counts_are_those_of_numpy(shape: tuple[int, int], largest: int) -> None:
    layer = np.random.default_rng(0).integers(0, largest + 1, shape).astype(np.uint16)
    layer[0, 0] = largest
    expected = np.bincount(layer.ravel())
    expected[0] = 0
    assert np.array_equal(_counts(layer), expected)


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

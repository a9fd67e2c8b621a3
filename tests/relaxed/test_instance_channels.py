"""Planes of single cells, against brute force over all pairs of pixels."""

from __future__ import annotations

import numpy as np

from policy_search.relaxed.instance_channels import BANDS, PLANES, instance_planes


def test_outlines_and_bands_are_those_of_brute_force() -> None:
    rng = np.random.default_rng(0)
    labels = np.zeros((22, 26), np.int64)
    labels[3:12, 2:11], labels[5:15, 11:20], labels[16:, 4:12] = 1, 2, 5  # two that touch, one cut by the frame
    labels[7, 6] = 0  # a hole
    labels[rng.integers(0, 22, 4), rng.integers(0, 26, 4)] = 9
    planes = instance_planes(labels)
    assert planes.shape == (PLANES, 22, 26)
    depth, greatest = np.zeros(labels.shape), {}
    for y, x in zip(*np.nonzero(labels), strict=True):
        others = np.argwhere(labels != labels[y, x])
        depth[y, x] = np.sqrt(((others - (y, x)) ** 2).sum(1)).min()
        greatest[labels[y, x]] = max(greatest.get(labels[y, x], 0), depth[y, x])
    share = np.array([[depth[y, x] / greatest.get(labels[y, x], 1) for x in range(26)] for y in range(22)])
    assert np.array_equal(planes[0], labels > 0)
    assert np.array_equal(planes[1], depth == 1)
    for band, least in enumerate(BANDS, 2):
        assert np.array_equal(planes[band], share > least)


def test_a_cell_that_fills_the_image_and_an_image_without_cells() -> None:
    assert instance_planes(np.full((5, 6), 2))[:, 2, 3].tolist() == [True, False, True, True, True]
    assert not instance_planes(np.zeros((5, 6), np.uint16)).any()

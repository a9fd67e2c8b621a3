"""Targets and decoding: what the network is asked for turns back into the instances it came from."""

from __future__ import annotations

import numpy as np
import torch

from policy_search.cells import InstanceMap
from policy_search.study.matching import match
from policy_search.study.network import ProbeNet, decode, predict, targets
from policy_search.study.probe import ProbeSample


def test_targets_of_a_rectangle() -> None:
    labels = np.zeros((16, 20), int)
    labels[4:13, 5:16] = 1  # 9 × 11: its centre line is 5 pixels from the border
    foreground, depth = targets(InstanceMap.from_labels(labels))
    assert np.array_equal(foreground, labels)
    assert depth.max() == 1.0
    assert depth[8, 10] == 1.0
    assert (depth[labels == 0] == 0).all()
    assert (depth[4, 5:16] == 0).all()  # its outermost pixels
    assert np.all(np.diff(depth[4:9, 10]) > 0)  # deeper and deeper towards the centre


def test_depth_is_zero_between_touching_cells() -> None:
    labels = np.zeros((20, 30), int)
    labels[4:16, 3:15], labels[4:16, 15:27] = 1, 2
    _, depth = targets(InstanceMap.from_labels(labels))
    assert (depth[4:16, 14:16] == 0).all()


def test_decoding_the_targets_gives_the_instances(blobs: tuple[ProbeSample, ...]) -> None:
    for sample in blobs:
        counts = match(decode(targets(sample.instances)), sample.instances)
        assert counts.true_positive == len(sample.instances)
        assert counts.false_positive == 0


def test_decoding_separates_at_the_level_that_separates() -> None:
    ys, xs = np.mgrid[:40, :96]
    deep = np.maximum(0.9 - np.hypot(ys - 20, xs - 20) / 30, 0.9 - np.hypot(ys - 20, xs - 42) / 30)
    shallow = 0.4 - np.hypot(ys - 20, xs - 78) / 50  # never as deep as the others
    probabilities = np.stack([np.ones((40, 96)), np.maximum(deep, shallow)]).astype(np.float32)
    labels = decode(probabilities)
    # The two deep peaks meet at 0.53, so 0.6 parts them and 0.4 would join them; the third is never above 0.4.
    assert len({labels[20, 20], labels[20, 42], labels[20, 78]} - {0}) == 3
    assert labels.max() == 3


def test_decoding_drops_specks_and_nothing() -> None:
    probabilities = np.zeros((2, 32, 32), np.float32)
    assert decode(probabilities).max() == 0
    probabilities[:, 4:7, 4:7] = 1.0
    assert decode(probabilities, min_seed=1, min_area=10).max() == 0
    assert decode(probabilities, min_seed=1, min_area=9).max() == 1


def test_any_size_is_predicted_and_weights_come_from_the_generator() -> None:
    first, second = (ProbeNet(8, generator=torch.Generator().manual_seed(4)) for _ in range(2))
    other = ProbeNet(8, generator=torch.Generator().manual_seed(5))
    image = np.random.default_rng(0).normal(size=(37, 50)).astype(np.float32)
    out = predict(first, image)
    assert out.shape == (2, 37, 50)
    assert ((out >= 0) & (out <= 1)).all()
    assert np.array_equal(out, predict(second, image))
    assert not np.array_equal(out, predict(other, image))

"""The probe's score against a brute-force matching."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from policy_search.cells import InstanceMap
from policy_search.cells.instances import Instance
from policy_search.study.matching import MatchCounts, match


def brute_force(predicted: np.ndarray, truth: InstanceMap) -> tuple[int, int, int]:
    """All pairs of full-frame masks, and the largest one-to-one assignment of pairs with IoU > 0.5."""
    ours = [predicted == label for label in np.unique(predicted) if label]
    theirs = [(truth.layers == label).any(0) for label in truth.ids]
    allowed = np.zeros((len(ours), len(theirs)))
    for i, a in enumerate(ours):
        for j, b in enumerate(theirs):
            allowed[i, j] = (a & b).sum() / (a | b).sum() > 0.5
    rows, columns = linear_sum_assignment(-allowed)
    matched = int(allowed[rows, columns].sum())
    return matched, len(ours) - matched, len(theirs) - matched


def random_truth(rng: np.random.Generator) -> InstanceMap:
    """Rectangles that may overlap a lot."""
    cells = []
    for label in range(1, 9):
        y, x = rng.integers(0, 20, 2)
        cells.append(Instance(label, int(x), int(y), np.ones(rng.integers(4, 12, 2), bool)))
    return InstanceMap.from_instances(cells, 32, 32)


@pytest.mark.parametrize("seed", range(40))
def test_counts_equal_the_largest_assignment(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = random_truth(rng)
    # A prediction near the truth: shifted, with pieces missing and labels that are not consecutive.
    predicted = np.roll(truth.label_image(), rng.integers(-2, 3, 2), (0, 1)).astype(np.int32) * 3
    predicted[rng.random(predicted.shape) < 0.1] = 0
    found = match(predicted, truth)
    assert tuple(found) == brute_force(predicted, truth)


def test_two_overlapping_cells_share_no_prediction() -> None:
    mask = np.ones((10, 10), bool)
    truth = InstanceMap.from_instances([Instance(1, 0, 0, mask), Instance(2, 1, 0, mask)], 16, 16)
    predicted = np.zeros((16, 16), np.int32)
    predicted[:10, :10] = 7
    assert match(predicted, truth) == MatchCounts(1, 0, 1)
    assert match(predicted, truth).score == 0.5


def test_exactly_one_half_is_no_match() -> None:
    truth = InstanceMap.from_labels(np.pad(np.ones((4, 4), int), 2))
    half = np.zeros((8, 8), np.int32)
    half[2:4, 2:6] = 1
    assert match(half, truth) == MatchCounts(0, 1, 1)
    half[4, 2] = 1
    assert match(half, truth) == MatchCounts(1, 0, 0)


def test_empty_frames() -> None:
    nothing = np.zeros((8, 8), np.int32)
    assert match(nothing, InstanceMap.empty(8, 8)).score == 1.0
    assert match(nothing + 1, InstanceMap.empty(8, 8)) == MatchCounts(0, 1, 0)
    with pytest.raises(ValueError, match=r"\(8, 8\)"):
        match(nothing, InstanceMap.empty(8, 9))


def test_counts_add_up() -> None:
    assert MatchCounts(1, 2, 3).plus(MatchCounts(4, 0, 0)) == MatchCounts(5, 2, 3)
    assert MatchCounts(5, 2, 3).score == 0.5

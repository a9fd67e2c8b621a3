"""Counting matched instances at IoU over one half, and the score made of the counts."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from policy_search.cells import InstanceMap


class MatchCounts(NamedTuple):
    """Instances of one or more images: matched, predicted without a partner, missed."""

    true_positive: int
    false_positive: int
    false_negative: int

    def plus(self, other: MatchCounts) -> MatchCounts:
        """Counts of both together."""
        return MatchCounts(*(a + b for a, b in zip(self, other, strict=True)))

    @property
    def score(self) -> float:
        """TP / (TP + FP + FN) in [0, 1]; 1 when there was nothing to find and nothing was found.

        StarDist calls it accuracy (and, loosely, AP50). It is *not* COCO's AP50: there is one operating point and no
        ranking by confidence.
        """
        total = sum(self)
        return self.true_positive / total if total else 1.0


def match(predicted: NDArray[np.integer[Any]], truth: InstanceMap) -> MatchCounts:
    """Counts of predicted instances that have IoU > 0.5 with an annotated one, each annotated one used once.

    Args:
        predicted: (H, W) label image, 0 background. Predictions cannot overlap.
        truth: annotated instances of the same frame; they may overlap.

    No assignment has to be solved: two disjoint predictions cannot both cover more than half of one cell, so every cell
    has at most one partner, and a prediction with two overlapping partners takes either. The matching is the largest
    possible one.
    """
    if predicted.shape != truth.shape:
        raise ValueError(f"prediction is {predicted.shape}, truth is {truth.shape}")
    sizes = np.bincount(predicted.ravel().astype(np.int64))
    n_predicted = int(np.count_nonzero(sizes[1:]))
    partners = set()
    for cell in truth:
        x0, y0, x1, y1 = cell.box
        under = predicted[y0:y1, x0:x1][cell.mask].astype(np.int64)
        overlaps = np.bincount(under)
        overlaps[0] = 0
        label = int(overlaps.argmax())
        both = int(overlaps[label])
        if both and both / (cell.area + int(sizes[label]) - both) > 0.5:
            partners.add(label)
    matched = len(partners)
    return MatchCounts(matched, n_predicted - matched, len(truth) - matched)

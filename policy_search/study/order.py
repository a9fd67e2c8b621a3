"""Which policy is better: by one score, or by Pareto fronts where an objective has several metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from policy_search.study.verdict import Direction


def best_first(values: Sequence[Sequence[float]], directions: Sequence[Direction]) -> list[int]:
    """Positions of the rows of `values` from best to worst; equal ones keep their order.

    Several metrics: front by front (the policies that no other one dominates, then those that only these dominate, …),
    within a front by the mean of the ranks over the metrics.

    Args:
        values: a row for each policy, a column for each metric.
        directions: which way is better, for each metric.
    """
    if not values:
        return []
    costs = _costs(values, directions)
    fronts = _fronts(costs)
    ranks = np.mean([rankdata(column) for column in costs.T], axis=0)
    return sorted(range(len(values)), key=lambda i: (fronts[i], ranks[i]))


def pareto_front(values: Sequence[Sequence[float]], directions: Sequence[Direction]) -> set[int]:
    """Positions of the rows that no other row dominates: as good in every metric and better in one."""
    return {i for i, front in enumerate(_fronts(_costs(values, directions))) if front == 0} if values else set()


def _costs(values: Sequence[Sequence[float]], directions: Sequence[Direction]) -> NDArray[np.float64]:
    """The values with smaller as better."""
    signs = np.array([-1.0 if direction == "maximize" else 1.0 for direction in directions])
    return np.asarray(values, np.float64).reshape(len(values), len(signs)) * signs


def _fronts(costs: NDArray[np.float64]) -> list[int]:
    """Number of the front of every row, 0 for the best."""
    if costs.shape[1] == 1:
        return (np.unique(costs[:, 0], return_inverse=True)[1]).tolist()  # type: ignore[no-any-return]
    no_worse: NDArray[Any] = (costs[:, None] <= costs[None]).all(-1)
    better = (costs[:, None] < costs[None]).any(-1)
    dominates = no_worse & better
    fronts, left = np.full(len(costs), -1), np.ones(len(costs), bool)
    number = 0
    while left.any():
        first = left & ~dominates[left].any(0)
        fronts[first] = number
        left &= ~first
        number += 1
    return fronts.tolist()  # type: ignore[no-any-return]

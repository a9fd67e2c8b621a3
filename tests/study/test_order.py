"""Order of policies: by a score, and by Pareto fronts against a brute-force definition of them."""

from __future__ import annotations

import numpy as np
import pytest

from policy_search.study.order import best_first, pareto_front
from policy_search.study.verdict import Direction


@pytest.mark.parametrize(("direction", "order"), [("maximize", [2, 0, 3, 1]), ("minimize", [1, 0, 3, 2])])
def test_one_metric_is_sorted_and_ties_keep_their_order(direction: Direction, order: list[int]) -> None:
    assert best_first([(0.5,), (0.1,), (0.9,), (0.5,)], [direction]) == order
    assert pareto_front([(0.5,), (0.1,), (0.9,), (0.9,)], ["maximize"]) == {2, 3}


def beaten(values: np.ndarray, signs: np.ndarray, i: int, among: set[int]) -> bool:
    """By definition: somebody is as good in everything and better in something."""
    own = signs * values[i]
    return any(
        all(signs * values[j] >= own) and any(signs * values[j] > own) for j in among if j != i
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(6))
def test_fronts_are_those_of_the_definition(seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, 6, (30, 2)).astype(float)
    directions: list[Direction] = ["maximize", "minimize"]
    signs = np.array([1.0, -1.0])
    left, fronts = set(range(30)), []
    while left:
        fronts.append({i for i in left if not beaten(values, signs, i, left)})
        left -= fronts[-1]
    assert pareto_front(values.tolist(), directions) == fronts[0]
    order = best_first(values.tolist(), directions)
    found = [next(n for n, front in enumerate(fronts) if i in front) for i in order]
    assert found == sorted(found)


def test_within_a_front_the_middle_comes_before_the_ends() -> None:
    """Ranks 1.5 and 1.5 beat 0 and 3: neither end is preferred to a policy that is good at both."""
    values = [(0.0, 1.0), (0.8, 0.8), (0.9, 0.7), (1.0, 0.0), (0.1, 0.1)]
    order = best_first(values, ["maximize", "maximize"])
    assert set(order[:4]) == {0, 1, 2, 3}
    assert order[-1] == 4


def test_nothing_to_order() -> None:
    assert best_first([], ["maximize"]) == []
    assert pareto_front([], ["maximize", "minimize"]) == set()

"""Magnitudes are fitted along a narrow bent valley, past rounding and within bounds, and never made worse."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from policy_search.relaxed.fit import fit

TRUE = np.array([0.3, 0.62, 0.45])
# Three nearly parallel columns: a change of one place is made up for by the others to a hundredth.
DIRECTIONS = np.array([[4.0, 3.9, 4.1], [4.0, 4.1, 3.9], [0.3, 0.0, 0.1], [0.0, 0.4, 0.2], [8.0, 8.0, 8.1]]) * 5


def gap_at(places: list[float]) -> Tensor:
    bent = np.exp(np.array(places)) - np.exp(TRUE)
    return torch.from_numpy(DIRECTIONS @ bent).float()


def loss(gap: np.ndarray, cap: float = 3.0) -> float:
    """Pseudo-Huber as it is written in the literature, times two."""
    return float(2 * (cap**2 * (np.sqrt(1 + (gap / cap) ** 2) - 1)).sum())


def test_the_bottom_of_a_narrow_valley_is_reached() -> None:
    start = [0.45, 0.45, 0.45]
    places, least = fit(gap_at, start)
    assert places == pytest.approx(TRUE, abs=0.01)
    assert least == pytest.approx(loss(gap_at(places).numpy()), abs=1e-4)
    assert least < 0.01 < loss(gap_at(start).numpy())


def test_a_minimum_beyond_the_bounds_is_met_at_the_bound() -> None:
    places, _ = fit(lambda p: torch.tensor([10 * (p[0] - 1.3), 4 * (p[1] - 0.5)]), [0.6, 0.2])
    assert places == pytest.approx([0.997, 0.5], abs=0.01)


def test_rounding_is_seen_past() -> None:
    """Slopes over less than a grey level would be 0 or endless."""
    places, _ = fit(lambda p: torch.tensor([20 * (round(p[0] * 200) / 200 - 0.75)]), [0.2])
    assert places == pytest.approx([0.75], abs=0.005)


@pytest.mark.parametrize("start", [[], [0.37]])
def test_nothing_is_made_worse(start: list[float]) -> None:
    seen: list[list[float]] = []

    def at(places: list[float]) -> Tensor:
        seen.append(places)
        return torch.tensor([1.0 + (places != pytest.approx(start)), 5.0])

    places, least = fit(at, start)
    assert places == pytest.approx(start)
    assert least == pytest.approx(loss(np.array([1.0, 5.0])), rel=1e-6)
    assert len(seen) == (1 if not start else 5)  # itself, its slope, and a step that is shortened twice

"""The controller: it settles a late and noisy distance at the aim, and gives up at its limit without winding up."""

from __future__ import annotations

import math
import random
from collections import deque

import pytest

from policy_search.relaxed.control import Control


@pytest.mark.parametrize("aim", [0.3, 6.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_late_and_noisy_distance_settles_at_the_aim(aim: float, seed: int) -> None:
    """A distance that follows the multiplier within 20 steps or so, with noise as large as itself."""
    noise, control = random.Random(seed), Control(aim, integral=0.1, proportion=1.0)
    distance, seen = 5.0, []
    for _ in range(400):
        distance += (4.0 / control.multiplier**0.5 - distance) / 20
        seen.append(distance)
        control(distance * (1 + noise.gauss(0, 1)))
    assert sum(seen[-100:]) / 100 == pytest.approx(aim, rel=0.35)


def test_what_cannot_be_had_ends_at_a_limit_from_which_it_comes_back_soon() -> None:
    control = Control(1.0, integral=0.1, proportion=1.0)
    for _ in range(500):
        control(10.0)
    assert control.multiplier < math.exp(7)
    for _ in range(100):
        control(-1.0)
    assert control.multiplier < 1


def test_the_error_is_as_large_above_as_below() -> None:
    above, below = (Control(1.0, integral=0.1, proportion=0.0) for _ in range(2))
    start = above.log_multiplier
    above.mean, below.mean = 2.0, 0.5
    above(2.0), below(0.5)
    assert above.log_multiplier - start == pytest.approx(start - below.log_multiplier)


def test_the_state_is_complete() -> None:
    first, second = (Control(1.0, integral=0.1, proportion=1.0) for _ in range(2))
    for distance in deque([3.0, -0.5, 1.2]):
        first(distance)
    second.load_state_dict(first.state_dict())
    first(0.4), second(0.4)
    assert first.multiplier == second.multiplier

"""Keeps a noisy, late quantity near what was asked for, by the weight that it is given: a PI controller."""

from __future__ import annotations

import math

_MEMORY = 0.9  # of the running mean: a batch's distance varies as much as it is large
_START = 1.0  # of the logarithm: policies begin stronger than most distances allow
_LIMIT = 6.0  # of the logarithm, either way: where the aim cannot be reached, the way back must stay short


class Control:
    """The multiplier of a constraint "this distance on average".

    Dual ascent alone (a multiplier that rises while the distance is too large) swings: the critic that measures the
    distance learns late what the policy has become. The part in proportion to the present error damps that.

    Args:
        aim: the distance asked for.
        integral, proportion: change of the log multiplier a step, and at once, per error of 1.
    """

    def __init__(self, aim: float, *, integral: float, proportion: float) -> None:
        self.aim, self.integral, self.proportion = aim, integral, proportion
        self.level, self.mean = _START, aim

    @property
    def log_multiplier(self) -> float:
        """Of the distance, against a weight of 1 for what is wanted."""
        return self.level + self.proportion * self._error()

    @property
    def multiplier(self) -> float:
        """See `log_multiplier`."""
        return math.exp(self.log_multiplier)

    def __call__(self, distance: float) -> None:
        """Take the distance of one more step."""
        self.mean += (1 - _MEMORY) * (distance - self.mean)
        self.level = max(-_LIMIT, min(_LIMIT, self.level + self.integral * self._error()))

    def _error(self) -> float:
        """From -1 to 1, 0 at the aim; 1/2 at twice the aim, -1/2 at half of it."""
        return max(-1.0, (self.mean - self.aim) / max(self.mean, self.aim))

    def state_dict(self) -> dict[str, float]:
        """All that changes."""
        return {"level": self.level, "mean": self.mean}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Continue where `state_dict` was taken."""
        self.level, self.mean = state["level"], state["mean"]

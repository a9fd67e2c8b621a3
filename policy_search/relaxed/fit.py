"""Magnitudes fitted together: damped Gauss-Newton steps to the least mismatch, on crops and draws that stay the same.

Size, contrast and blur make up for each other, so the mismatch has a long bent valley in them. Moved one at a time,
or by noisy gradients, they stop at its side; a step by the slopes of all statistics at once leads along it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from policy_search.relaxed.moments import mismatch

_STEP = 0.02  # of a range: far enough to see past the rounding of grey levels
_ROUNDS, _TRIALS = 3, 3  # most steps, and how often one is shortened until it leads down
_FURTHEST = 0.25  # of a range, in one step
_DAMPING, _LEAST, _MORE = 1e-3, 1e-5, 10.0  # Levenberg-Marquardt: at first, at least, and the factor of a change
_FLOOR = 1e-3  # absolute, where a magnitude changes nothing
_CAP = 3.0  # of the mismatch, as everywhere
_EDGE = 0.003  # as near to a bound as raw magnitudes go
_GAIN, _SHARE = 0.05, 0.05  # a step that brings less (mismatch, and share of it) is the last


@torch.no_grad()
def fit(gap_at: Callable[[list[float]], Tensor], start: list[float]) -> tuple[list[float], float]:
    """The places near `start` at which the mismatch is least, and that mismatch; never worse than the start.

    Args:
        gap_at: places (M) in [0, 1] -> whitened gap (D,); the same places give the same gap.
        start: M places of magnitudes between their bounds.
    """

    def seen(places: Tensor) -> Tensor:
        return gap_at(places.tolist()).cpu().double()

    places = torch.tensor(start, dtype=torch.float64).clamp(_EDGE, 1 - _EDGE)
    gap = seen(places)
    least, damping = mismatch(gap, _CAP).item(), _DAMPING
    for _ in range(_ROUNDS if start else 0):
        slopes = []
        for i, place in enumerate(places.tolist()):
            change = torch.zeros_like(places)
            change[i] = _STEP if place < 0.5 else -_STEP
            slopes.append((seen(places + change) - gap) / change[i])
        jacobian = torch.stack(slopes, 1)
        # Iteratively reweighted: the mismatch counts large gaps linearly.
        weighted = jacobian.T * (1 + (gap / _CAP).square()) ** -0.5
        matrix, slope = weighted @ jacobian, weighted @ gap
        before = least
        for _ in range(_TRIALS):
            damped = matrix + torch.diag(damping * matrix.diagonal() + _FLOOR)
            change = torch.linalg.solve(damped, slope).clamp(-_FURTHEST, _FURTHEST)
            tried = (places - change).clamp(_EDGE, 1 - _EDGE)
            found = seen(tried)
            now = mismatch(found, _CAP).item()
            if now < least:
                places, gap, least, damping = tried, found, now, max(damping / _MORE, _LEAST)
                break
            damping *= _MORE
        if before - least < max(_GAIN, _SHARE * before):
            break
    return places.tolist(), least

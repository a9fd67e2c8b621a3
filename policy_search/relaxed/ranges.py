"""The magnitudes of all operations at once: what `Range.ends` and `Range.draw` do for one, in few tensor operations."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from policy_search.relaxed.operations import Operation
from policy_search.relaxed.tone import straight_through


class Ranges(NamedTuple):
    """The bounds of K operations, each (K,); from 1 to 1 for those without a magnitude.

    Attributes:
        low, span: the lower bound and the distance of the upper one, in the unit in which the ends are learnt.
        wide: 1 where the ends may lie apart, else 0.
        logarithmic, whole: bool, see `Range`.
    """

    low: Tensor
    span: Tensor
    wide: Tensor
    logarithmic: Tensor
    whole: Tensor

    def ends(self, centre: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
        """Ordered ends within the bounds, from raw numbers (..., K)."""
        middle = torch.sigmoid(centre)
        half = torch.sigmoid(width) * torch.minimum(middle, 1 - middle) * self.wide
        return self._leave(self.low + self.span * (middle - half)), self._leave(self.low + self.span * (middle + half))

    def _leave(self, end: Tensor) -> Tensor:
        # The exponential of what is no logarithm may be infinite, and infinity times 0 is no gradient.
        return torch.where(self.logarithmic, torch.where(self.logarithmic, end, 0.0).exp(), end)

    def draw(self, low: Tensor, high: Tensor, uniform: Tensor) -> Tensor:
        """Magnitudes uniform between the ends (all (..., K)), reparameterised; `uniform` in [0, 1)."""
        smooth = low + uniform * (high - low)
        with torch.no_grad():
            first, last = low.round(), high.round()
            # Guards the one float below 1 that would round up to the number after `last`.
            steps = torch.minimum(torch.floor(uniform * (last - first + 1)), last - first)
            value = torch.where(self.whole, first + steps, smooth)
        return straight_through(value, smooth)


@lru_cache(maxsize=16)
def ranges(operations: tuple[Operation, ...], device: torch.device) -> Ranges:
    """The bounds of these operations."""
    spans = [operation.magnitude for operation in operations]
    ends = [(1.0, 1.0) if s is None else (s.forward(s.low), s.forward(s.high)) for s in spans]
    return Ranges(
        torch.tensor([low for low, _ in ends], device=device),
        torch.tensor([high - low for low, high in ends], device=device),
        torch.tensor([float(s is not None and not s.single) for s in spans], device=device),
        torch.tensor([s is not None and s.logarithmic for s in spans], device=device),
        torch.tensor([s is not None and s.whole for s in spans], device=device),
    )

"""Crops that are drawn once and kept: the source of a target-mode search, and what is measured of it unchanged.

Whatever compares a policy's images with the untouched ones would otherwise measure the untouched ones again each time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from policy_search.relaxed.crops import PairSampler
from policy_search.relaxed.tone import LEVELS
from policy_search.relaxed.warp import centre

_CHUNK = 64  # crops at a time, to draw and to measure


class Batch(NamedTuple):
    """Some crops of a pool.

    Attributes:
        image: (B, C, H, W) in [0, 1], with context around the middle that is measured.
        mask: (B, 1, H, W), empty: masks are not looked at.
        which: (B,) their places in the pool.
    """

    image: Tensor
    mask: Tensor
    which: Tensor


class CropPool:
    """Crops of a sampler, on the generator's device, as bytes.

    Args:
        sampler: its masks are left behind.
        count: of crops.
        size: side of the middle, which is measured.
        margin: context around it, which warps draw from.
        generator: draws the crops.
    """

    def __init__(self, sampler: PairSampler, count: int, *, size: int, margin: int, generator: torch.Generator) -> None:
        self.size = size
        drawn = [sampler.sample(_CHUNK, size + 2 * margin, generator)[0] for _ in range(-(-count // _CHUNK))]
        self._crops = torch.cat([(image * LEVELS).round().to(torch.uint8) for image in drawn])[:count]

    def __len__(self) -> int:
        return len(self._crops)

    def measured(self, measure: Callable[[Tensor], Tensor]) -> Tensor:
        """Statistics (N, D) of the untouched middle of every crop."""
        with torch.no_grad():
            return torch.cat([measure(_unit(centre(crops, self.size))) for crops in self._crops.split(_CHUNK)])

    def sample(self, count: int, generator: torch.Generator) -> Batch:
        """Crops drawn with replacement."""
        return self._batch(torch.randint(len(self), (count,), generator=generator, device=self._crops.device))

    def first(self, count: int, batch: int) -> list[Batch]:
        """The first crops, always the same, in batches; fewer where the pool has fewer."""
        places = torch.arange(min(count, len(self)), device=self._crops.device)
        return [self._batch(which) for which in places.split(batch)]

    def middles(self, count: int) -> Tensor:
        """The untouched middles (N, C, size, size) of the first crops."""
        return _unit(centre(self._crops[:count], self.size))

    def _batch(self, which: Tensor) -> Batch:
        image = _unit(self._crops[which])
        return Batch(image, torch.zeros_like(image[:, :1]), which)


def _unit(crops: Tensor) -> Tensor:
    return crops.float() / LEVELS

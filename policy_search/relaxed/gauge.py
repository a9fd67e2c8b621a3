"""How far a policy's images are from the target's: one number for any policy, always by the same crops and draws.

What gradients do not reach is decided by it: which operation a stage chooses, at which magnitude a warp begins.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from policy_search.relaxed.application import apply
from policy_search.relaxed.moments import Reference, mismatch
from policy_search.relaxed.policy import RelaxedPolicy
from policy_search.relaxed.pool import CropPool
from policy_search.relaxed.warp import translation

_BATCH = 64
# What freedom must bring (a warp for none, many operations for few): this share of the mismatch and this much of it.
# Freedom alone brings a little, and a warp smooths besides.
_SHARE, _GAIN = 0.05, 0.3
_SEED = 7


class Gauge:
    """Measures policies.

    Args:
        pool: crops of the source.
        before: (N, D), whitened statistics of the pool's untouched crops.
        measure: images (B, C, H, W) -> statistics (B, D).
        known: of source and target.
        fill: of warps, in [0, 1].
    """

    def __init__(
        self, pool: CropPool, before: Tensor, measure: Callable[[Tensor], Tensor], known: Reference, *, fill: float
    ) -> None:
        self._pool, self._before, self._measure, self._known, self._fill = pool, before, measure, known, fill

    def __call__(self, policy: RelaxedPolicy, count: int = 512, *, shifted: bool = False) -> float:
        """Mismatch of the mean statistics of `count` augmented crops.

        `shifted` moves the crops by part of a pixel as they are warped, so that "no warp" is smoothed by interpolation
        as any warp is: what is compared is then the warps, not whether there is one.
        """
        return mismatch(self.gap(policy, count, shifted=shifted)).item()

    @torch.no_grad()
    def gap(self, policy: RelaxedPolicy, count: int, *, shifted: bool = False) -> Tensor:
        """What the mismatch is of: by how much the whitened mean statistics (D,) are off the target's."""
        device = self._known.source.device
        generator, changes = torch.Generator(device).manual_seed(_SEED), []
        for image, mask, which in self._pool.first(count, _BATCH):
            shift = None
            if shifted:
                place = torch.rand(len(image), 2, generator=generator, device=device) - 0.5
                shift = translation(place[:, 0], place[:, 1])
            seen, _ = apply(policy, image, mask, generator, fill=self._fill, size=self._pool.size, shift=shift)
            changes.append(self._measure(seen) @ self._known.whiten - self._before[which])
        return self._known.source + torch.cat(changes).mean(0) - self._known.target


def is_clear(gap: float, before: float) -> bool:
    """Whether a mismatch is so much below another one that what it took is worth it."""
    return gap < before - max(_GAIN, _SHARE * before)

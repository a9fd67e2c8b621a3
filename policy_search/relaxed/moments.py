"""The statistics critic: the best linear critic of fixed statistics, in closed form instead of by training.

Matching means and variances in the whitened space of the statistics (McGAN; Mroueh et al. 2017, there with a learnt
feature map). The best critic of unit Mahalanobis norm is known at every step, so nothing oscillates, and no step is
spent on it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

# Least deviation of a statistic that counts as a difference. Crops of one culture can agree on their mean level to a
# hundredth of a deviation; whitening by that alone would drown all texture in the smallest error of brightness. About a
# grey level of LIVECell, by which Albumentations' contrast darkens: at half of it that level outweighed the contrast.
_RESOLUTION = 0.1
_SHRINKAGE = 0.1  # of the correlations, towards none: a few hundred crops do not settle the smallest eigenvalues
_LEAST_VARIANCE = 0.05  # in whitened units; logarithms of less would chase the noise of small samples


class Reference(NamedTuple):
    """What source and target look like, from many crops of both.

    Attributes:
        whiten: (D, D), statistics to whitened coordinates.
        source, target: (D,) whitened means.
        variance: (D,) of the target's whitened coordinates.
    """

    whiten: Tensor
    source: Tensor
    target: Tensor
    variance: Tensor


def reference(source: Tensor, target: Tensor) -> Reference:
    """From statistics (N, D) of source and target crops; N well above D."""
    spread = (torch.cov(source.T) + torch.cov(target.T)) / 2
    diagonal = torch.diag(spread.diagonal())
    spread = (
        (1 - _SHRINKAGE) * spread
        + _SHRINKAGE * diagonal
        + _RESOLUTION**2 * torch.eye(len(spread), device=spread.device, dtype=spread.dtype)
    )
    values, vectors = torch.linalg.eigh(spread.double())
    whiten = (vectors / values.sqrt()).to(spread.dtype)
    seen = target @ whiten
    return Reference(whiten, (source @ whiten).mean(0), seen.mean(0), seen.var(0) + _LEAST_VARIANCE)


class MomentCritic:
    """Scores augmented images by what moves their moments towards the target's.

    The augmented mean is that of all source crops plus the running mean of what the policy did to the crops it was
    given: which crops a batch happened to hold cancels out.

    Args:
        statistics: images (B, C, H, W) -> (B, D).
        known: of source and target.
        memory: decay of the running moments.
        variance_weight: of the variances' mismatch beside the means'.
        cap: whitened deviations beyond which a mismatch counts linearly (pseudo-Huber): a shift in brightness can be
            eighty deviations away and would drown everything else.
    """

    def __init__(
        self,
        statistics: Callable[[Tensor], Tensor],
        known: Reference,
        *,
        memory: float = 0.9,
        variance_weight: float = 0.3,
        cap: float = 3.0,
    ) -> None:
        self.statistics, self.known = statistics, known
        self.memory, self.variance_weight, self.cap = memory, variance_weight, cap
        self.change = torch.zeros_like(known.source)
        self.variance = torch.zeros_like(known.source)
        self.weight = torch.ones_like(known.source)
        self.count = 0

    def __call__(self, augmented: Tensor, before: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Costs (B,) of augmented images (lower is nearer to the target), the mismatch (), whitened statistics (B, D).

        `before` (B, D) are the whitened statistics of the crops that `augmented` were made of. Takes the batch into
        the running moments, and leaves in `weight` (D,) how much each whitened coordinate still counts (iteratively
        reweighted least squares). The mismatch is that of the batches before this one.
        """
        known = self.known
        seen = self.statistics(augmented) @ known.whiten
        with torch.no_grad():
            now = (seen - before).mean(0)
            # The batches before this one say where the moments are: judged by its own noise, a batch would learn to
            # be quiet, and the quietest change is none.
            change, centre = (self.change, known.source + self.change) if self.count else (now, known.source + now)
            spread = (seen - centre).square().mean(0) + _LEAST_VARIANCE
            variance = self.variance if self.count else spread
            self.count += 1
            rate = max(1 - self.memory, 1 / self.count)
            self.change = change + rate * (now - change)
            self.variance = variance + rate * (spread - variance)
            means = centre - known.target
            self.weight = (1 + (means / self.cap).square()) ** -0.5
            ratios = self.variance_weight * torch.log(variance / known.variance)
        squares = self.variance_weight * (seen - centre).square() / variance
        cost = (seen * self._damped(means)).sum(1) + (squares * self._damped(ratios)).sum(1)
        return cost, mismatch(means, self.cap) + mismatch(ratios, self.cap), seen

    def _damped(self, gap: Tensor) -> Tensor:
        return gap / torch.sqrt(1 + (gap / self.cap).square())

    def state_dict(self) -> dict[str, Tensor | int]:
        """The running moments."""
        return {"change": self.change, "variance": self.variance, "weight": self.weight, "count": self.count}

    def load_state_dict(self, state: dict[str, Tensor | int]) -> None:
        """Continue where `state_dict` was taken."""
        for name, value in state.items():
            setattr(self, name, value.to(self.known.source.device) if isinstance(value, Tensor) else value)


def mismatch(gap: Tensor, cap: float = 3.0) -> Tensor:
    """Sum () over whitened coordinates (D,) of the pseudo-Huber loss of a gap: its square near 0, linear beyond cap."""
    return 2 * cap**2 * (torch.sqrt(1 + (gap / cap).square()) - 1).sum()


def moments_mismatch(seen: Tensor, known: Reference, *, variance_weight: float = 0.3, cap: float = 3.0) -> Tensor:
    """Mismatch () of the means and variances of whitened statistics (N, D) and a target's; see `MomentCritic`."""
    ratios = variance_weight * torch.log((seen.var(0) + _LEAST_VARIANCE) / known.variance)
    return mismatch(seen.mean(0) - known.target, cap) + mismatch(ratios, cap)

"""Fixed statistics of an image: grey levels, and the energy and shape of its texture at several scales and directions.

What a shift between two cultures or two microscopes does to them is simple: brightness moves the levels, contrast moves
all log energies alike, blur tilts them over scale, a change of size moves them along scale, stretch and rotation trade
one direction for another, noise lifts the finest. A linear critic of these (moments.py) therefore tells the shifts
apart, where a small network that learns its features as it goes confuses contrast with blur.
"""

from __future__ import annotations

import torch
from torch import Tensor

from policy_search.relaxed.pyramid import texture
from policy_search.relaxed.tone import LEVELS, WHOLE

# Bands of the sorted pixels whose mean is a statistic: shares of all pixels, dark to light.
_BANDS = ((0.02, 0.1), (0.2, 0.3), (0.45, 0.55), (0.7, 0.8), (0.9, 0.98))


class ImageStatistics:
    """Maps images (B, C, H, W) in [0, 1] to statistics (B, D), differentiable once, on the images' device.

    Args:
        mean, deviation: of the data set's pixels, in [0, 1]: the unit of grey levels.
    """

    def __init__(self, mean: float, deviation: float) -> None:
        self.mean, self.deviation = mean, deviation

    def __call__(self, image: Tensor) -> Tensor:
        """Statistics (B, D); H and W at least 32. Levels are taken per channel, texture of the channels' mean."""
        grey = image[:, 0] if image.shape[1] == 1 else image.mean(1)
        return torch.cat([self.levels(image), texture((grey - self.mean) / self.deviation)], 1)

    @staticmethod
    def count_levels(channels: int) -> int:
        """How many of the statistics are grey levels; they come first."""
        return len(_BANDS) * channels

    def levels(self, image: Tensor) -> Tensor:
        """The statistics of grey levels alone, (B, 5 C)."""
        return (_levels(image) - self.mean) / self.deviation


def _levels(image: Tensor) -> Tensor:
    """(B, 5 C): means of the bands of the sorted pixels. Every second row and column is enough.

    Sorted by counting: pixels of one grey level share alike in the bands that reach into it, and in the gradient.
    """
    pixels = image[:, :, ::2, ::2].flatten(2)
    # Rounded up in the middle: pixels half a level off the grid would fall to either side, two levels in one.
    places = (pixels.detach() * LEVELS).add_(0.5 + WHOLE).floor_().clamp_(0, LEVELS).long()
    nothing = pixels.new_zeros(*pixels.shape[:2], int(LEVELS) + 1)
    counts = nothing.scatter_add(2, places, torch.ones_like(pixels))
    middles = nothing.scatter_add(2, places, pixels) / counts.clamp_min(1)
    until, found = counts.cumsum(2), []
    for a, b in _BANDS:
        first, last = int(a * pixels.shape[2]), int(b * pixels.shape[2])
        inside = until.clamp(first, last) - (until - counts).clamp(first, last)
        found.append((inside * middles).sum(2) / (last - first))
    return torch.cat(found, 1)

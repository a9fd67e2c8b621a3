"""Fixed statistics of an image: grey levels, and the energy and shape of its texture at several scales and directions.

What a shift between two cultures or two microscopes does to them is simple: brightness moves the levels, contrast moves
all log energies alike, blur tilts them over scale, a change of size moves them along scale, stretch and rotation trade
one direction for another, noise lifts the finest. A linear critic of these (moments.py) therefore tells the shifts
apart, where a small network that learns its features as it goes confuses contrast with blur.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

# Bands of the sorted pixels whose mean is a statistic: shares of all pixels, dark to light.
_BANDS = ((0.02, 0.1), (0.2, 0.3), (0.45, 0.55), (0.7, 0.8), (0.9, 0.98))
_OCTAVES = 5
# Of the squared deviation and of the deviation: keep logarithms finite on flat crops.
_EPSILON, _FLOOR = 1e-3, 1e-2


class ImageStatistics:
    """Maps images (B, C, H, W) in [0, 1] to statistics (B, D), differentiable.

    Args:
        mean, deviation: of the data set's pixels, in [0, 1]: the unit of grey levels.
    """

    def __init__(self, mean: float, deviation: float) -> None:
        self.mean, self.deviation = mean, deviation

    def __call__(self, image: Tensor) -> Tensor:
        """Statistics (B, D); H and W at least 32. Levels are taken per channel, texture of the channels' mean."""
        standard = (image - self.mean) / self.deviation
        return torch.cat([_levels(standard), _texture(standard.mean(1, keepdim=True))], 1)

    def levels(self, image: Tensor) -> Tensor:
        """The statistics of grey levels alone, (B, 5 C)."""
        return _levels((image - self.mean) / self.deviation)


def _levels(image: Tensor) -> Tensor:
    """(B, 5 C): means of the bands of the sorted pixels. Every second row and column is enough."""
    ordered = image[:, :, ::2, ::2].flatten(2).sort(2).values
    count = ordered.shape[2]
    return torch.cat([ordered[:, :, int(a * count) : int(b * count)].mean(2) for a, b in _BANDS], 1)


def _texture(image: Tensor) -> Tensor:
    """Per octave: half log energies of the differences in four directions, how peaked they are along rows and columns,
    and skewness and peakedness of the detail. Peakedness tells cells that are larger from cells that are blurred."""
    found = []
    for octave in range(_OCTAVES):
        last = octave == _OCTAVES - 1
        differences = [image[..., :, 1:] - image[..., :, :-1], image[..., 1:, :] - image[..., :-1, :]]
        if not last:
            differences += [image[..., 1:, 1:] - image[..., :-1, :-1], image[..., 1:, :-1] - image[..., :-1, 1:]]
        energies = [0.5 * torch.log(_mean(d.square()) + _EPSILON) for d in differences]
        peaks = [torch.log(_mean(d.abs()) + _FLOOR) - e for d, e in zip(differences[:2], energies[:2], strict=True)]
        found += energies + peaks
        if last:
            break
        half = functional.avg_pool2d(image, 2)
        detail = image[..., : 2 * half.shape[2], : 2 * half.shape[3]] - functional.interpolate(half, scale_factor=2)
        square = detail.square()
        energy = _mean(square) + _EPSILON
        found.append(_mean(square * detail) / energy**1.5)
        found.append(0.25 * torch.log(_mean(square.square()) + _EPSILON**2) - 0.5 * torch.log(energy))
        image = half
    return torch.stack(found, 1)


def _mean(values: Tensor) -> Tensor:
    return values.mean((1, 2, 3))

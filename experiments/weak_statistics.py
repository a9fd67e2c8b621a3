"""The weak foreground of cells/weak.py in torch, soft, so that a gradient passes; and statistics of it for a critic.

It is the *torch form*: the same gradient energy and the same threshold, but a sigmoid instead of a step and neither
hole filling nor speck removal, which have no gradient. The critic sees the torch form on both sides.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from policy_search.cells import weak
from policy_search.relaxed.statistics import ImageStatistics

WIDTH = 0.15  # of the sigmoid, in logarithms of the energy
_BINS = 64
_OCTAVES = (4, 8, 16, 32)  # px: sides of the blocks between which the mask's share is compared
_FLOOR = 0.02  # of a share of the image: keeps logarithms and ratios finite where there is no cell, or no background


def soft_foreground(image: Tensor) -> Tensor:
    """The torch form (B, 1, H, W) in (0, 1) of images (B, C, H, W) in [0, 1], differentiable. H and W at least 16.

    Every image has its own threshold, which moves with the image: contrast does not change the mask."""
    logs = torch.log(_energy(image))
    flat = logs.flatten(1)
    mask = torch.sigmoid((logs - _threshold(flat)[:, None, None, None]) / WIDTH)
    # A square of 5 instead of the disk of 7: without hole filling, an erosion takes more away.
    if torch.is_grad_enabled():
        return -functional.max_pool2d(-mask, 5, stride=1, padding=2)
    # Ten times as fast in this direction, and slower in the other.
    return _least_of_five(_least_of_five(mask).mT).mT


def _least_of_five(mask: Tensor) -> Tensor:
    """Least of five neighbours along the rows; the frame is no edge."""
    wide = functional.pad(mask, (2, 2), value=1.0)
    pairs = torch.minimum(wide[..., 1:], wide[..., :-1])
    fours = torch.minimum(pairs[..., 2:], pairs[..., :-2])
    return torch.minimum(fours[..., 1:], fours[..., :-1])


def _energy(image: Tensor) -> Tensor:
    """(B, 1, H, W): weak.gradient_energy, with its floor."""
    grey = 255 * image.mean(1, keepdim=True)
    height, width = grey.shape[2:]
    smooth, slope = ([_blur(n, weak.EDGE, order) for n in (height, width)] for order in (0, 1))
    across, down = smooth[0] @ grey @ slope[1].T, slope[0] @ grey @ smooth[1].T
    # The constant keeps the root differentiable where the image is flat.
    magnitude = torch.sqrt(across.square() + down.square() + 1e-6)
    return (_blur(height, weak.SPREAD, 0) @ magnitude @ _blur(width, weak.SPREAD, 0).T).clamp_min(weak.FLOOR)


@functools.cache
def _blur(size: int, sigma: float, order: int) -> Tensor:
    """(size, size): scipy's Gaussian filter along one axis as a matrix, far faster on a CPU than a convolution."""
    rows = ndimage.gaussian_filter1d(np.eye(size), sigma, axis=0, order=order)
    return torch.from_numpy(rows).float()


def _threshold(logs: Tensor) -> Tensor:
    """(B,) of (B, N): weak.threshold, in logarithms. Otsu's threshold lies half way between the means of both sides."""
    with torch.no_grad():
        low, high = logs.min(1, keepdim=True).values, logs.max(1, keepdim=True).values
        step = (high - low).clamp_min(1e-6) / _BINS
        places = ((logs - low) / step).long().clamp_max(_BINS - 1)
        counts = torch.zeros(len(logs), _BINS).scatter_add_(1, places, torch.ones_like(logs))
        levels = torch.arange(_BINS) + 0.5
        below, total = counts.cumsum(1), counts.sum(1, keepdim=True)
        first = (counts * levels).cumsum(1)
        mean = first[:, -1:] / total
        between = (mean * below - first).square() / (below * (total - below)).clamp_min(1)
        above = places > between.argmax(1, keepdim=True)
    share = above.float().mean(1).clamp(1e-6, 1 - 1e-6)
    upper, lower = (logs * above).mean(1) / share, (logs * ~above).mean(1) / (1 - share)
    rank = max(1, round(weak.BACKGROUND_SHARE * logs.shape[1]))
    background = math.log(weak.BACKGROUND_FACTOR) + logs.kthvalue(rank, 1).values
    return ((upper + lower) / 2 + background) / 2


def mask_statistics(image: Tensor, mask: Tensor) -> Tensor:
    """(B, D) of standardised grey images (B, 1, H, W) and their soft masks (B, 1, H, W).

    The foreground's share; grey level inside and outside; texture inside and outside; length of the outlines along
    rows and columns; and how much the share differs between neighbouring blocks of several sizes: small cells fill
    small blocks."""
    found, levels = [_mean(mask)], []
    for part in (mask, 1 - mask):
        share = _mean(part) + _FLOOR
        level = _mean(part * image) / share
        deviation = _mean(part * (image - level[:, None, None, None]).square()) / share
        levels += [level, 0.5 * torch.log(deviation + 1e-2)]
    found += levels
    found += [torch.log(_mean(d.abs()) + 1e-3) for d in (mask.diff(dim=2), mask.diff(dim=3))]
    for side in _OCTAVES:
        blocks = functional.avg_pool2d(mask, side)
        found += [0.5 * torch.log(_mean(d.square()) + 1e-3) for d in (blocks.diff(dim=2), blocks.diff(dim=3))]
    return torch.stack(found, 1)


def _mean(values: Tensor) -> Tensor:
    return values.mean((1, 2, 3))


class MaskedStatistics(ImageStatistics):
    """Image statistics, and behind them those of the weak mask of that very image."""

    def __call__(self, image: Tensor) -> Tensor:
        """Statistics (B, D) of images (B, C, H, W) in [0, 1]; H and W at least 64."""
        standard = (image.mean(1, keepdim=True) - self.mean) / self.deviation
        return torch.cat([super().__call__(image), mask_statistics(standard, soft_foreground(image))], 1)

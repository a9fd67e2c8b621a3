"""Differentiable occlusion: a hole of one grey level, and cells of another image on top."""

from __future__ import annotations

import torch
from torch import Tensor

from policy_search.relaxed.tone import straight_through


def hole(side: Tensor, height: int, width: int, generator: torch.Generator, softness: float = 2.0) -> Tensor:
    """Indicator (B, 1, H, W) of one square hole of `side` pixels (rounded) at a uniform place; 0 is empty.

    Binary going forward; going back, the edges are ramps `softness` pixels wide.
    """
    place = torch.rand(len(side), 2, generator=generator, device=side.device, dtype=side.dtype)
    whole = side.detach().round().clamp(0, min(height, width))
    axes = []
    for axis, size in enumerate((height, width)):
        start = torch.floor(place[:, axis] * (size - whole + 1))
        position = torch.arange(size, device=side.device, dtype=side.dtype)
        hard = (position >= start[:, None]) & (position < (start + whole)[:, None])
        middle = (start + (whole - 1) / 2)[:, None]
        soft = torch.sigmoid((side[:, None] / 2 - (position - middle).abs()) / softness)
        axes.append(straight_through(hard.to(side.dtype), soft))
    return axes[0][:, None, :, None] * axes[1][:, None, None, :]


def occlude(image: Tensor, indicator: Tensor, fill: float) -> Tensor:
    """The fill value (in [0, 1]) where `indicator` (B, 1, H, W) is 1."""
    return image + indicator * (fill - image)


def paste_neighbour(
    image: Tensor, labels: Tensor, generator: torch.Generator, share: float = 0.25
) -> tuple[Tensor, Tensor]:
    """For each image the next one of the batch as donor, each of its instances chosen with probability `share`.

    Args:
        image: (B, C, H, W), B at least 2.
        labels: (B, 1, H, W) float whole numbers, 0 for background, one number per instance within its image.
        generator: chooses, on the labels' device.

    Returns:
        the donors (B, C, H, W), and the indicator (B, 1, H, W), 1 where a chosen instance lies.

    Raises:
        ValueError: a single image, which has no neighbour.
    """
    if len(image) < 2:
        raise ValueError(
            f"copy_paste takes its cells from the next image of the batch: expected at least 2 images, got {len(image)}"
        )
    ids = labels.detach().long()
    chosen = torch.rand(len(ids), int(ids.max()) + 1, generator=generator, device=ids.device) < share
    chosen[:, 0] = False
    pasted = chosen.gather(1, ids.flatten(1)).reshape(ids.shape)
    return image.roll(-1, 0), pasted.to(image.dtype).roll(-1, 0)

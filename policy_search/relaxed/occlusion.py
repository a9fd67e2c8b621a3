"""Differentiable occlusion: a hole of one grey level, and cells of another image on top."""

from __future__ import annotations

import torch
from torch import Tensor

from policy_search.relaxed.tone import straight_through

_RAMP = 2.0  # pixels over which the gradient sees an edge of a hole


def hole(down: Tensor, across: Tensor, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Indicator (B, 1, H, W) of one hole of `down` by `across` pixels (both (B,), rounded); 0 is empty.

    It lies at a uniform place of images of `size` (H, W). Binary going forward; going back, the edges are ramps.
    """
    place = torch.rand(len(down), 2, generator=generator, device=down.device, dtype=down.dtype)
    axes = []
    for axis, (side, length) in enumerate(zip((down, across), size, strict=True)):
        whole = side.detach().round().clamp(0, length)
        start = torch.floor(place[:, axis] * (length - whole + 1))
        position = torch.arange(length, device=side.device, dtype=side.dtype)
        hard = (position >= start[:, None]) & (position < (start + whole)[:, None])
        middle = (start + (whole - 1) / 2)[:, None]
        soft = torch.sigmoid((side[:, None] / 2 - (position - middle).abs()) / _RAMP)
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

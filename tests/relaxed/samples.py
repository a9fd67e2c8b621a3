"""What the tests of the catalogue share: images with labelled cells, magnitudes to try, and one call for any entry."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from policy_search.relaxed.catalogue import CATALOGUE
from policy_search.relaxed.operations import Operation
from tests.relaxed.textures import culture

FILL = 101
SIZES = [(64, 80), (96, 56)]
ALL = [pytest.param(operation, id=operation.name) for operation in CATALOGUE]
RANGED = [param for param in ALL if param.values[0].magnitude is not None]


def batch(channels: int, size: tuple[int, int] = SIZES[0], *, count: int = 2, stretch: float = 5) -> tuple[Tensor, ...]:
    """`count` images (B, channels, H, W), their masks and their labels (both (B, 1, H, W)).

    With the usual `stretch` of contrast all 256 levels occur; with 1, none is near black or white.
    """
    height, width = size
    images, masks, labels = [], [], []
    for seed in range(count):
        image, mask = culture(seed, size=96)
        image = np.clip((image[:height, :width].astype(int) - 128) * stretch + 128, 0, 255).astype(np.uint8)
        mask = mask[:height, :width].astype(np.uint8)
        layers = [image, image[::-1], image[:, ::-1]][:channels]
        images.append(torch.from_numpy(np.stack(layers).copy()))
        masks.append(torch.from_numpy(mask[None].copy()))
        labels.append(torch.from_numpy(cv2.connectedComponents(mask)[1][None]))
    return torch.stack(images).float() / 255, torch.stack(masks).float(), torch.stack(labels).float()


def magnitudes(operation: Operation, count: int = 6) -> list[float]:
    """Both bounds and points between, as they are drawn."""
    if operation.magnitude is None:
        return [1.0]
    values = np.linspace(operation.magnitude.low, operation.magnitude.high, count).tolist()
    return [float(round(v)) for v in values] if operation.magnitude.whole else values


def apply(
    operation: Operation,
    data: tuple[Tensor, ...],
    magnitude: float | Tensor,
    gate: float | Tensor = 1.0,
    seed: int = 0,
    fill: float = FILL / 255,
) -> tuple[Tensor, Tensor]:
    """The operation on images, masks and labels, at one magnitude and gate for the whole batch."""
    image, mask, labels = data
    ones = torch.ones(len(image))
    generator = torch.Generator().manual_seed(seed)
    # Geometry about the middle; what tone draws besides is drawn.
    noise = torch.full((len(image), operation.noise), 0.5) if operation.matrix is not None else None
    return operation.apply(image, mask, ones * magnitude, ones * gate, generator, fill, labels=labels, noise=noise)


def levels(image: Tensor) -> NDArray[np.uint8]:
    """(H, W) or (H, W, 3) uint8 of (C, H, W): what Albumentations takes. A copy, as AutoContrast writes into it."""
    array = (image * 255).round().byte().permute(1, 2, 0).numpy().copy()
    return array[..., 0] if array.shape[2] == 1 else array

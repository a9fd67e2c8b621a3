"""The probe's network: a small U-Net that sees foreground and depth, and what turns its output into instances."""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from policy_search.cells import InstanceMap

STRIDE = 8  # inputs are padded to a multiple of it
SEED_LEVELS = (0.6, 0.4, 0.2)  # how deep inside a cell (0 border, 1 centre) a seed may begin


def targets(instances: InstanceMap) -> NDArray[np.float32]:
    """(2, H, W) float32 in [0, 1]: foreground, and depth inside the cell (0 at its border, 1 at its deepest pixel).

    Depth separates touching cells where a thin boundary class does not: one missed boundary pixel joins two cells,
    while a predicted depth has to be wrong over a whole neck.
    """
    labels = instances.label_image()
    foreground = labels > 0
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    inside = foreground & (cv2.dilate(labels, cross) == cv2.erode(labels, cross))
    distance = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, 3)
    deepest = np.zeros(int(labels.max()) + 1, np.float32)
    np.maximum.at(deepest, labels[inside], distance[inside])
    depth = np.where(inside, distance / np.maximum(deepest[labels], 1.0), 0.0)
    return np.stack([foreground, depth]).astype(np.float32)


def decode(probabilities: NDArray[np.float32], *, min_seed: int = 20, min_area: int = 20) -> NDArray[np.int32]:
    """Label image (H, W) int32 from foreground and depth (2, H, W) in [0, 1].

    Seeds are the connected parts of the foreground that are deep; the deepest level comes first, and a shallower level
    adds the parts that hold no seed yet, so that a cell predicted less deep than its neighbours is not lost and
    touching cells are separated at whatever level separates them. Every foreground pixel goes to the nearest seed.

    Args:
        probabilities: (2, H, W) in [0, 1].
        min_seed, min_area: seeds and instances under so many pixels are dropped.
    """
    foreground = probabilities[0] > 0.5
    depth = cv2.GaussianBlur(probabilities[1], (0, 0), 1.0)
    seeds = np.zeros(foreground.shape, np.int32)
    found = 0
    for level in SEED_LEVELS:
        parts = (foreground & (depth > level)).astype(np.uint8)
        count, labels, stats, _ = cv2.connectedComponentsWithStats(parts, connectivity=4)
        new = stats[:, cv2.CC_STAT_AREA] >= min_seed
        new[0] = False
        new[labels[seeds > 0]] = False
        numbers = np.zeros(count, np.int32)
        numbers[new] = np.arange(found + 1, found + 1 + int(new.sum()))
        found += int(new.sum())
        seeds = np.where(seeds > 0, seeds, numbers[labels])
    if found == 0:
        return seeds
    _, nearest = cv2.distanceTransformWithLabels(
        (seeds == 0).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    # `nearest` numbers seed pixels; look up which seed each number stands in.
    seed_of_number = np.zeros(int(nearest.max()) + 1, np.int32)
    seed_of_number[nearest[seeds > 0]] = seeds[seeds > 0]
    grown = np.where(foreground, seed_of_number[nearest], 0)
    keep = np.bincount(grown.ravel(), minlength=found + 1) >= min_area
    keep[0] = False
    return np.where(keep[grown], grown, 0).astype(np.int32)


def confidences(probabilities: NDArray[np.float32], labels: NDArray[np.int32]) -> NDArray[np.float64]:
    """How sure the network is of each decoded instance, (M,) in [0, 1], ascending by label: the deepest depth inside.

    A real cell has one clear middle, a torn or wrongly joined piece has not. Means over the instance rank worse.

    Args:
        probabilities: (2, H, W) in [0, 1], foreground and depth.
        labels: (H, W), what `decode` made of them.
    """
    deepest = np.full(int(labels.max()) + 1, -1.0)
    np.maximum.at(deepest, labels, probabilities[1])
    return np.asarray(deepest[1:][deepest[1:] >= 0])


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.GroupNorm(4, outputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.GroupNorm(4, outputs),
        nn.ReLU(inplace=True),
    )


class ProbeNet(nn.Module):
    """Image (B, 1, H, W) float, standardised -> logits (B, 2, H, W) of foreground and depth; H, W multiples of 8.

    Works at half resolution inside (space-to-depth in, depth-to-space out), which makes a step four times cheaper.
    """

    def __init__(self, width: int = 16, *, generator: torch.Generator) -> None:
        super().__init__()
        self.down1 = _block(4, width)
        self.down2 = _block(width, 2 * width)
        self.bottom = _block(2 * width, 4 * width)
        self.up2 = _block(6 * width, 2 * width)
        self.up1 = _block(3 * width, width)
        self.head = nn.Conv2d(width, 8, 1)
        # Explicit, because the default initialisation draws from the global generator.
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.head.weight, std=0.05, generator=generator)

    def forward(self, image: Tensor) -> Tensor:
        first = self.down1(F.pixel_unshuffle(image, 2))
        second = self.down2(F.max_pool2d(first, 2))
        bottom = self.bottom(F.max_pool2d(second, 2))
        second = self.up2(torch.cat([F.interpolate(bottom, scale_factor=2.0), second], 1))
        first = self.up1(torch.cat([F.interpolate(second, scale_factor=2.0), first], 1))
        return F.pixel_shuffle(self.head(first), 2)


@torch.no_grad()
def predict(net: ProbeNet, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities (2, H, W) float32 of a standardised image (H, W) of any size (reflected to a multiple of 8)."""
    height, width = image.shape
    padded = np.pad(image, ((0, -height % STRIDE), (0, -width % STRIDE)), mode="reflect")
    logits = net(torch.from_numpy(padded)[None, None])
    return torch.sigmoid(logits)[0, :, :height, :width].numpy()

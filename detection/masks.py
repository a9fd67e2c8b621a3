"""Instance masks between layered label maps and a network's regions, never as an (N, H, W) block of full frames."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import roi_align

from policy_search.cells.instances import Instance, InstanceMap

# Instances turned into full-frame bitmaps at a time while mask targets are cut out.
CHUNK = 32


class LayeredMasks:
    """The masks of one image's training targets; stands where detectron2 expects its `BitMasks`.

    Indexing copies two numbers an instance instead of a frame: detectron2 indexes the masks of all sampled regions, but
    needs the pixels of the few that hold a cell.

    Attributes:
        layers: (L, H, W) int32 label layers, shared by all selections.
        layer: (N,) int64, in which layer each instance stands.
        ids: (N,) int32, under which label.
    """

    def __init__(self, layers: torch.Tensor, layer: torch.Tensor, ids: torch.Tensor) -> None:
        self.layers, self.layer, self.ids = layers, layer, ids

    @classmethod
    def of(cls, instances: InstanceMap) -> LayeredMasks:
        """All instances of a map, in the order of its ids."""
        layer = np.zeros(len(instances), np.int64)
        for index, plane in enumerate(instances.layers):
            layer[np.isin(instances.ids, np.unique(plane))] = index
        return cls(
            torch.from_numpy(instances.layers.astype(np.int32)),
            torch.from_numpy(layer),
            torch.from_numpy(instances.ids.astype(np.int32)),
        )

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, item: int | slice | torch.Tensor) -> LayeredMasks:
        if isinstance(item, int):
            item = slice(item, item + 1) if item != -1 else slice(-1, None)
        return LayeredMasks(self.layers, self.layer[item], self.ids[item])

    def to(self, device: torch.device | str) -> LayeredMasks:
        """The same masks on another device."""
        return LayeredMasks(self.layers.to(device), self.layer.to(device), self.ids.to(device))

    def bitmaps(self) -> torch.Tensor:
        """(N, H, W) bool. For a handful of instances."""
        return self.layers[self.layer] == self.ids[:, None, None]

    def crop_and_resize(self, boxes: torch.Tensor, mask_size: int) -> torch.Tensor:
        """(N, mask_size, mask_size) bool: instance i inside box i (N, 4 XYXY), exactly as detectron2's `BitMasks`."""
        pieces = [torch.zeros((0, mask_size, mask_size), dtype=torch.bool, device=boxes.device)]
        for start in range(0, len(self), CHUNK):
            part = self[start : start + CHUNK]
            numbers = torch.arange(len(part), device=boxes.device, dtype=boxes.dtype)[:, None]
            rois = torch.cat([numbers, boxes[start : start + CHUNK]], dim=1)
            bits = part.bitmaps()[:, None].to(boxes.dtype)
            pieces.append(roi_align(bits, rois, (mask_size, mask_size), 1.0, 0, True).squeeze(1) >= 0.5)
        return torch.cat(pieces)


def paste(
    mask: NDArray[np.float32], box: tuple[float, float, float, float], height: int, width: int, label: int
) -> Instance | None:
    """A region's mask (M, M), probabilities, laid into the frame: bilinear, cut at 0.5; None if no pixel is left.

    Equal to detectron2's `paste_masks_in_image`, but bilinear interpolation is separable, so the pixels of the box
    alone come from two small matrix products.
    """
    x0, y0, x1, y1 = box
    left, right = max(int(np.floor(x0)) - 1, 0), min(int(np.ceil(x1)) + 1, width)
    top, bottom = max(int(np.floor(y0)) - 1, 0), min(int(np.ceil(y1)) + 1, height)
    if right <= left or bottom <= top or x1 <= x0 or y1 <= y0:
        return None
    rows = _interpolation(top, bottom, y0, y1, mask.shape[0])
    columns = _interpolation(left, right, x0, x1, mask.shape[1])
    inside = rows @ mask @ columns.T >= 0.5
    ys, xs = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if len(ys) == 0:
        return None
    tight = inside[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]
    return Instance(label, left + int(xs[0]), top + int(ys[0]), tight)


def _interpolation(first: int, last: int, low: float, high: float, size: int) -> NDArray[np.float32]:
    """(last - first, size): how much each mask cell counts at the centre of each pixel; nothing beyond its border."""
    centres = (np.arange(first, last, dtype=np.float32) + 0.5 - low) / (high - low) * size - 0.5
    return np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(size, dtype=np.float32))).astype(np.float32)

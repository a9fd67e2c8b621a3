"""A crop as detectron2's training input: boxes and mask targets straight from the layered label map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.structures import Boxes, Instances
from torch.utils.data import DataLoader, Dataset

from detection.dataset import Crops, Pixels
from detection.masks import LayeredMasks
from policy_search.cells import InstanceMap

Sample = dict[str, Any]
# ITU-R BT.601, as everybody turns colour to grey.
_LUMINANCE = np.array([0.299, 0.587, 0.114])


def to_channels(image: Pixels, channels: int) -> torch.Tensor:
    """(H, W) or (H, W, 3) uint8 RGB → (channels, H, W) uint8: grey for 1, repeated grey or colour for 3."""
    if image.ndim == 3 and channels == 1:
        image = np.rint(image @ _LUMINANCE).astype(np.uint8)
    planes = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
    tensor = torch.from_numpy(planes.copy())  # caches hand out read-only arrays
    return tensor.expand(channels, -1, -1) if len(tensor) == 1 else tensor


def training_input(image: Pixels, instances: InstanceMap, channels: int) -> Sample:
    """What `GeneralizedRCNN` takes in training: `image` (channels, H, W) uint8 and `instances` with boxes, classes
    (all 0, "cell") and masks. Boxes are the masks' own, XYXY, right and bottom exclusive."""
    height, width = instances.shape
    targets = Instances((height, width))
    targets.gt_boxes = Boxes(torch.from_numpy(instances.boxes()))
    targets.gt_classes = torch.zeros(len(instances), dtype=torch.int64)
    targets.gt_masks = LayeredMasks.of(instances)
    return {"image": to_channels(image, channels), "instances": targets, "height": height, "width": width}


class _Inputs(Dataset[Sample]):
    def __init__(self, crops: Crops, channels: int) -> None:
        self.crops, self.channels = crops, channels

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, position: int) -> Sample:
        return training_input(*self.crops[position], self.channels)


def batches(crops: Crops, channels: int, batch: int, workers: int = 0) -> DataLoader[Sequence[Sample]]:
    """The crops in their order, `batch` at a time: the same batches with any number of workers."""
    return DataLoader(_Inputs(crops, channels), batch_size=batch, shuffle=False, num_workers=workers, collate_fn=list)

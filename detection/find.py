"""Cells in one image: the network's detections as instances, each inside its own box."""

from __future__ import annotations

import numpy as np
import torch
from detectron2.modeling import GeneralizedRCNN
from numpy.typing import NDArray

from detection.mapper import to_channels
from detection.masks import paste
from detection.statistics.comparison import Detected


def find_cells(model: GeneralizedRCNN, image: NDArray[np.uint8]) -> Detected:
    """Cells in one (H, W) or (H, W, 3) uint8 image, best first, with their scores. Ids count from 1.

    No mask ever covers more than its own box.
    """
    height, width = image.shape[:2]
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            (found,) = model.inference([{"image": to_channels(image, len(model.pixel_mean))}], do_postprocess=False)
    finally:
        model.train(was_training)
    boxes = found.pred_boxes.tensor.cpu().double().tolist()
    masks = found.pred_masks[:, 0].float().cpu().numpy()
    cells, scores = [], []
    for box, mask, value in zip(boxes, masks, found.scores.tolist(), strict=True):
        cell = paste(mask, tuple(box), height, width, len(cells) + 1)
        if cell is not None:
            cells.append(cell)
            scores.append(value)
    return cells, scores

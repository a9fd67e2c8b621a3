"""Average precision at IoU 0.5 (COCO's AP50): predicted instances ranked by confidence, over the images of a domain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from policy_search.cells import InstanceMap

RECALLS = np.linspace(0.0, 1.0, 101)  # where COCO reads the curve


class Ranked(NamedTuple):
    """The predictions of one image, judged.

    Attributes:
        confidence: (M,) float, one for every predicted instance, in the order of their labels.
        hit: (M,) bool, whether it has an annotated partner.
        truths: annotated instances in the image.
    """

    confidence: NDArray[np.float64]
    hit: NDArray[np.bool_]
    truths: int


def judge_ranked(
    predicted: NDArray[np.integer[Any]], confidence: NDArray[np.floating[Any]], truth: InstanceMap
) -> Ranked:
    """COCO's matching at IoU 0.5: the most confident first, each takes the best annotated instance still free.

    Args:
        predicted: (H, W) label image, 0 background. Predictions cannot overlap.
        confidence: (M,), of the labels present, ascending by label.
        truth: annotated instances of the same frame; they may overlap.
    """
    if predicted.shape != truth.shape:
        raise ValueError(f"prediction is {predicted.shape}, truth is {truth.shape}")
    sizes = np.bincount(predicted.ravel().astype(np.int64))
    labels = np.flatnonzero(sizes[1:]) + 1
    if len(labels) != len(confidence):
        raise ValueError(f"{len(labels)} instances are predicted, {len(confidence)} confidences given")
    partners = _partners(predicted, sizes, truth)
    hit = np.zeros(len(labels), bool)
    taken: set[int] = set()
    for row in np.argsort(-np.asarray(confidence), kind="stable").tolist():
        free = [(iou, index) for iou, index in partners.get(int(labels[row]), ()) if index not in taken]
        if free:
            taken.add(max(free)[1])
            hit[row] = True
    return Ranked(np.asarray(confidence, np.float64), hit, len(truth))


def _partners(
    predicted: NDArray[np.integer[Any]], sizes: NDArray[np.int64], truth: InstanceMap
) -> dict[int, list[tuple[float, int]]]:
    """Predicted label → (IoU, number of the annotated instance), where the IoU is one half or more."""
    partners: dict[int, list[tuple[float, int]]] = {}
    for index, cell in enumerate(truth):
        x0, y0, x1, y1 = cell.box
        overlaps = np.bincount(predicted[y0:y1, x0:x1][cell.mask].astype(np.int64))
        overlaps[0] = 0
        for label in np.flatnonzero(overlaps).tolist():
            both = int(overlaps[label])
            iou = both / (cell.area + int(sizes[label]) - both)
            if iou >= 0.5:
                partners.setdefault(label, []).append((iou, index))
    return partners


def average_precision(images: Sequence[Ranked]) -> float:
    """AP50 in [0, 1] over all images together, read at 101 recalls from the curve's envelope, as COCO does.

    No limit on detections an image and no limit on areas. 1 when there was nothing to find and nothing was found.
    """
    truths = sum(image.truths for image in images)
    confidence = np.concatenate([image.confidence for image in images]) if images else np.zeros(0)
    if truths == 0:
        return 0.0 if len(confidence) else 1.0
    hit = np.concatenate([image.hit for image in images])[np.argsort(-confidence, kind="stable")]
    found = np.cumsum(hit)
    precision = found / np.arange(1, len(hit) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(found / truths, RECALLS, side="left")
    return float(np.where(at < len(envelope), np.append(envelope, 0.0)[at], 0.0).mean())

"""Detections of single images marked right or wrong at IoU 0.5, and AP50 over any selection of images with repeats.

What a bootstrap over wells needs: the score of a resample without matching masks again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from detection.livecell import MAX_DETECTIONS

IOU = 0.5
_RECALLS = np.linspace(0, 1, 101)  # COCO's levels


@dataclass(frozen=True)
class ImageMatches:
    """One test image under one model.

    Attributes:
        image: its file name. well: what it is a crop of (`ImageRecord.well`).
        cells: labelled cells.
        scores: (D,) float32, best first, D at most 2,000. hits: (D,) bool, whether each found a cell of its own.
    """

    image: str
    well: str
    cells: int
    scores: NDArray[np.float32]
    hits: NDArray[np.bool_]


def match_images(
    truth: Mapping[str, Any], detections: Sequence[Mapping[str, Any]], wells: Mapping[int, str]
) -> list[ImageMatches]:
    """Detections matched to cells image by image as COCO does it: best score first, each takes the best cell left.

    Args:
        truth: COCO ground truth with RLE masks, none of them a crowd; its images' `file_name` names them.
        detections: COCO results with RLE masks.
        wells: image id → well.
    """
    masks: dict[int, list[Any]] = {image["id"]: [] for image in truth["images"]}
    for entry in truth["annotations"]:
        masks[entry["image_id"]].append(entry["segmentation"])
    found: dict[int, list[Mapping[str, Any]]] = {number: [] for number in masks}
    for entry in detections:
        found[entry["image_id"]].append(entry)
    result = []
    for image in truth["images"]:
        own = found[image["id"]]
        order = np.argsort([-entry["score"] for entry in own], kind="stable")[: MAX_DETECTIONS[-1]]
        best = [own[i] for i in order]
        hits = _hits([entry["segmentation"] for entry in best], masks[image["id"]])
        scores = np.array([entry["score"] for entry in best], np.float32)
        name = str(image["file_name"])
        result.append(ImageMatches(name, wells[image["id"]], len(masks[image["id"]]), scores, hits))
    return result


def _hits(found: Sequence[Any], cells: Sequence[Any]) -> NDArray[np.bool_]:
    """Whether each detection, best first, has a cell of its own. COCO takes the later of two equally good cells."""
    hits = np.zeros(len(found), bool)
    if not found or not cells:
        return hits
    overlap = np.asarray(coco_mask.iou(list(found), list(cells), [0] * len(cells)))  # (D, N)
    free = np.ones(len(cells), bool)
    for i, row in enumerate(overlap):
        open_ = np.where(free, row, -1.0)
        best = len(open_) - 1 - int(np.argmax(open_[::-1]))
        # COCO's threshold is min(t, 1 - 1e-10), and reaching it is enough.
        if open_[best] >= IOU:
            hits[i], free[best] = True, False
    return hits


def average_precision(images: Sequence[ImageMatches], counts: Sequence[int] | None = None) -> float | None:
    """AP50 in 0 … 1 over images, each counted `counts` times (default once); None where there is no cell.

    Equal to COCO's: precision made monotone and read at 101 recalls. Detections of one score come in the order of the
    images.
    """
    repeats = np.ones(len(images), int) if counts is None else np.asarray(counts)
    cells = int(sum(int(n) * image.cells for n, image in zip(repeats, images, strict=True)))
    if cells == 0:
        return None
    scores = np.concatenate([image.scores for image in images])
    hits = np.concatenate([image.hits for image in images])
    weights = np.repeat(repeats, [len(image.scores) for image in images])
    order = np.argsort(-scores, kind="stable")
    hits, weights = hits[order], weights[order]
    right, wrong = np.cumsum(weights * hits), np.cumsum(weights * ~hits)
    with np.errstate(invalid="ignore"):
        precision = right / np.maximum(right + wrong, 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(right / cells, _RECALLS, side="left")
    return float(np.concatenate([precision, [0.0]])[np.minimum(at, len(precision))].mean())

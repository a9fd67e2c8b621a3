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


class PooledMatches:
    """All detections of a set of images in one order, for the AP50 of many selections from them.

    Made once for a bootstrap: sorting is over then, and a selection of 40 images with 300 detections each takes
    0.2 ms (0.5 ms where one image has hits and misses at one score).
    """

    def __init__(self, images: Sequence[ImageMatches]) -> None:
        self._cells = np.array([image.cells for image in images], np.int64)
        scores = np.concatenate([np.zeros(0, np.float32), *(image.scores for image in images)])
        hits = np.concatenate([np.zeros(0, bool), *(image.hits for image in images)])
        owners = np.repeat(np.arange(len(images)), [len(image.scores) for image in images])
        order = np.argsort(-scores, kind="stable")
        scores, self._hits, self._owners = scores[order], hits[order], owners[order]
        # A block is what one image has at one score.
        first = np.ones(len(scores), bool)
        first[1:] = (scores[1:] != scores[:-1]) | (self._owners[1:] != self._owners[:-1])
        self._starts = np.flatnonzero(first)
        self._lengths = np.diff(self._starts, append=len(scores))
        right = np.add.reduceat(self._hits.astype(np.int64), self._starts) if len(scores) else self._lengths
        self._alike = bool(np.all((right == 0) | (right == self._lengths)))

    def ap50(self, counts: Sequence[int] | NDArray[np.int_] | None = None) -> float | None:
        """AP50 in 0 … 1 over the images, each counted `counts` times (default once); None where there is no cell.

        Equal to COCO's for a data set that holds each image so often, its copies beside each other: precision made
        monotone and read at 101 recalls. Detections of one score come in the order of the images.
        """
        repeats = np.ones(len(self._cells), np.int64) if counts is None else np.asarray(counts, np.int64)
        if repeats.shape != self._cells.shape:
            raise ValueError(f"expected {len(self._cells)} counts, one an image, got shape {repeats.shape}")
        cells = int(repeats @ self._cells)
        if cells == 0:
            return None
        hits, weights = self._hits, repeats[self._owners]
        if not self._alike and repeats.max() > 1:
            # Hits and misses of one image at one score: their order is repeated, not each of them.
            hits = hits[self._copies(repeats)]
            weights = np.ones(len(hits), np.int64)
        # Precision only falls between two hits, so that its monotone form is known from the hits.
        found = np.flatnonzero(hits)
        right, all_ = np.cumsum(weights[found]), np.cumsum(weights)[found]
        precision = np.maximum.accumulate((right / np.maximum(all_, 1))[::-1])[::-1]
        at = np.searchsorted(right / cells, _RECALLS, side="left")
        return float(np.append(precision, 0.0)[at].mean())

    def _copies(self, repeats: NDArray[np.int64]) -> NDArray[np.int64]:
        """Positions of the detections with every block as often in a row as its image counts."""
        sizes = repeats[self._owners[self._starts]] * self._lengths
        blocks = np.repeat(np.arange(len(sizes)), sizes)
        within = np.arange(len(blocks)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return self._starts[blocks] + within % self._lengths[blocks]


def average_precision(images: Sequence[ImageMatches], counts: Sequence[int] | None = None) -> float | None:
    """`PooledMatches(images).ap50(counts)`, for one selection."""
    return PooledMatches(images).ap50(counts)

"""COCO mask scores under LIVECell's limits (design 7.3), by faster-coco-eval."""

from __future__ import annotations

from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from detection.livecell import AREA_RANGES, MAX_DETECTIONS
from detection.store import Scores


def coco_arrays(ground_truth: dict[str, Any], detections: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """COCO's raw arrays: `precision` (T, R, K, A, M) and `recall` (T, K, A, M); -1 where undefined.

    T 10 IoU thresholds, R 101 recall levels, K one category, A the four areas of LIVECell, M its three limits.

    Args:
        ground_truth: COCO dictionary with RLE masks (`policy_search.cells.dataset.coco_ground_truth`).
        detections: COCO results: image_id, category_id, segmentation (RLE), score. No `bbox`: with one, COCO takes the
            box's area for the mask's.
    """
    with_boxes = [d for d in detections if "bbox" in d]
    if with_boxes:
        raise ValueError(f"{len(with_boxes)} detections carry a bbox: COCO would sort them by the area of their boxes")
    # The evaluator adds to the entries that it is given: it gets its own.
    truth = COCO({**ground_truth, "annotations": _own(ground_truth["annotations"])})
    # An empty list of detections is a result, too: everything was missed.
    found = truth.loadRes(_own(detections))
    evaluation = COCOeval_faster(truth, found, iouType="segm", print_function=lambda *_: None)
    evaluation.params.maxDets = list(MAX_DETECTIONS)
    evaluation.params.areaRng = [list(limits) for limits in AREA_RANGES.values()]
    evaluation.params.areaRngLbl = list(AREA_RANGES)
    evaluation.evaluate()
    evaluation.accumulate()
    return {name: np.asarray(evaluation.eval[name]) for name in ("precision", "recall")}


def score(ground_truth: dict[str, Any], detections: list[dict[str, Any]]) -> Scores:
    """Scores of `detections` against `ground_truth` (see `coco_arrays` for both)."""
    arrays = coco_arrays(ground_truth, detections)
    precision, recall = arrays["precision"][..., -1], arrays["recall"]  # (T, R, K, A), (T, K, A, M)
    areas = list(AREA_RANGES)
    return Scores(
        ap=_mean(precision[:, :, :, areas.index("all")]),
        ap50=_mean(precision[0, :, :, areas.index("all")]),
        ap75=_mean(precision[5, :, :, areas.index("all")]),
        aps=_mean(precision[:, :, :, areas.index("small")]),
        apm=_mean(precision[:, :, :, areas.index("medium")]),
        apl=_mean(precision[:, :, :, areas.index("large")]),
        ar100=_mean(recall[:, :, areas.index("all"), 0]),
        ar500=_mean(recall[:, :, areas.index("all"), 1]),
        ar=_mean(recall[:, :, areas.index("all"), 2]),
        images=len(ground_truth["images"]),
        cells=len(ground_truth["annotations"]),
        detections=len(detections),
    )


def _own(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**entry, "segmentation": dict(entry["segmentation"])} for entry in entries]


def _mean(values: np.ndarray) -> float | None:
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else None

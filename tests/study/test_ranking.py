"""AP50 of ranked instances against pycocotools on random masks."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from policy_search.cells import InstanceMap
from policy_search.cells.instances import Instance
from policy_search.study.network import confidences, decode
from policy_search.study.ranking import Ranked, average_precision, judge_ranked
from tests.study.test_matching import random_truth

Image = tuple[np.ndarray, np.ndarray, InstanceMap]  # label image, confidences, truth


def by_pycocotools(images: list[Image]) -> float:
    """Precision at IoU 0.5, all areas, no limit on detections that matters, mean over 101 recalls."""
    truth: dict[str, list[dict[str, object]]] = {"images": [], "annotations": [], "categories": [{"id": 1}]}
    found = []
    for number, (labels, confidence, instances) in enumerate(images, 1):
        truth["images"].append({"id": number, "height": labels.shape[0], "width": labels.shape[1]})
        for rle, area in zip(instances.rles(), instances.areas().tolist(), strict=True):
            truth["annotations"].append(
                {"id": len(truth["annotations"]) + 1, "image_id": number, "category_id": 1, "iscrowd": 0, "area": area,
                 "segmentation": rle, "bbox": coco_mask.toBbox(rle).tolist()}
            )  # fmt: skip
        for label, sure in zip((v for v in np.unique(labels) if v), confidence.tolist(), strict=True):
            rle = coco_mask.encode(np.asfortranarray((labels == label).astype(np.uint8)))
            found.append({"image_id": number, "category_id": 1, "score": sure, "segmentation": rle})
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        judge = COCOeval(coco, coco.loadRes(found), "segm")
        judge.params.iouThrs, judge.params.maxDets = np.array([0.5]), [1000]
        judge.params.areaRng, judge.params.areaRngLbl = [[0, 1e10]], ["all"]
        judge.evaluate()
        judge.accumulate()
    return float(judge.eval["precision"][0, :, 0, 0, 0].mean())


def random_image(rng: np.random.Generator) -> Image:
    """Predictions near the truth, some far from it, with confidences that are often equal."""
    truth = random_truth(rng)
    predicted = np.roll(truth.label_image(), rng.integers(-1, 2, 2), (0, 1)).astype(np.int32) * 3
    predicted[rng.random(predicted.shape) < 0.1] = 0
    predicted[:4, :4] = 40
    count = len(np.unique(predicted)) - 1
    return predicted, rng.integers(1, 8, count) / 8, truth


@pytest.mark.parametrize("seed", range(30))
def test_equals_pycocotools(seed: int) -> None:
    rng = np.random.default_rng(seed)
    images = [random_image(rng) for _ in range(4)]
    ours = average_precision([judge_ranked(*image) for image in images])
    assert ours == pytest.approx(by_pycocotools(images), abs=1e-9)
    assert 0.0 < ours < 1.0


def test_exactly_one_half_is_a_hit() -> None:
    truth = InstanceMap.from_labels(np.pad(np.ones((4, 4), int), 2))
    half = np.zeros((8, 8), np.int32)
    half[2:4, 2:6] = 1
    assert average_precision([judge_ranked(half, np.ones(1), truth)]) == 1.0


def test_the_order_decides() -> None:
    """One hit, one false alarm: the false alarm costs half where it comes first and nothing where it comes last."""
    truth = InstanceMap.from_labels(np.pad(np.ones((4, 4), int), 2))
    labels = np.zeros((8, 8), np.int32)
    labels[2:6, 2:6], labels[0] = 1, 2
    assert average_precision([judge_ranked(labels, np.array([0.9, 0.1]), truth)]) == 1.0
    assert average_precision([judge_ranked(labels, np.array([0.1, 0.9]), truth)]) == 0.5


def test_the_best_partner_is_taken_and_used_once() -> None:
    mask = np.ones((10, 10), bool)
    truth = InstanceMap.from_instances([Instance(1, 0, 0, mask), Instance(2, 1, 0, mask)], 16, 16)
    labels = np.zeros((16, 16), np.int32)
    labels[:10, :10] = 7
    ranked = judge_ranked(labels, np.ones(1), truth)
    assert ranked.hit.tolist() == [True]
    assert average_precision([ranked]) == pytest.approx(51 / 101)  # recall reaches one half


def test_empty() -> None:
    nothing = np.zeros((8, 8), np.int32)
    assert average_precision([judge_ranked(nothing, np.zeros(0), InstanceMap.empty(8, 8))]) == 1.0
    assert average_precision([judge_ranked(nothing + 1, np.ones(1), InstanceMap.empty(8, 8))]) == 0.0
    assert average_precision([Ranked(np.zeros(0), np.zeros(0, bool), 3)]) == 0.0
    with pytest.raises(ValueError, match=r"\(8, 8\)"):
        judge_ranked(nothing, np.zeros(0), InstanceMap.empty(8, 9))
    with pytest.raises(ValueError, match="0 confidences"):
        judge_ranked(nothing + 1, np.zeros(0), InstanceMap.empty(8, 8))


def test_confidence_is_the_deepest_depth_of_every_label() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.random((2, 64, 64)).astype(np.float32)
    labels = decode(np.stack([np.ones((64, 64), np.float32), probabilities[1]]), min_seed=3, min_area=5)
    present = [label for label in np.unique(labels) if label]
    assert len(present) > 3
    expected = [probabilities[1][labels == label].max() for label in present]
    assert confidences(probabilities, labels) == pytest.approx(np.array(expected))
    gaps = np.where(labels == present[1], 0, labels)
    assert len(confidences(probabilities, gaps)) == len(present) - 1

"""Matches of single images against pycocotools' own, and AP50 of selections against faster-coco-eval."""

from __future__ import annotations

import contextlib
import copy
import io
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

pytest.importorskip("faster_coco_eval", reason="the detection extra is not installed: make setup")

from detection.matches import ImageMatches, PooledMatches, average_precision, match_images
from detection.scores import score

Case = tuple[dict[str, Any], list[dict[str, Any]], dict[int, str]]
SIDE = 40


def rectangle(rng: np.random.Generator, side: int = SIDE) -> dict[str, Any]:
    y, x, height, width = (*rng.integers(0, side - 12, 2), *rng.integers(4, 12, 2))
    plane = np.zeros((side, side), np.uint8, order="F")
    plane[y : y + height, x : x + width] = 1
    return encoded(plane)


def encoded(plane: np.ndarray) -> dict[str, Any]:
    rle = coco_mask.encode(np.asfortranarray(plane))
    return {"size": list(rle["size"]), "counts": rle["counts"].decode()}


def worn(rng: np.random.Generator, cell: dict[str, Any]) -> dict[str, Any]:
    """The cell without some of its rows: often its half, which is exactly at the threshold."""
    plane = coco_mask.decode(cell)
    rows = np.flatnonzero(plane.any(1))
    plane[rows[: int(len(rows) * rng.choice([0, 0.25, 0.5, 0.7]))]] = 0
    return encoded(plane)


def case(seed: int, *, images: int = 4, levels: int = 1000) -> Case:
    """Up to `images` images with rectangles as cells; scores have `levels` values, so that few levels make ties."""
    rng = np.random.default_rng(seed)
    truth: dict[str, Any] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "cell"}]}
    found, wells = [], {}
    for number in range(1, int(rng.integers(1, images + 1)) + 1):
        truth["images"].append({"id": number, "file_name": f"{number}.tif", "height": SIDE, "width": SIDE})
        wells[number] = f"W{number % 2}"
        cells = [rectangle(rng) for _ in range(rng.integers(0, 9))]
        if cells and rng.random() < 0.3:
            cells.append(dict(cells[0]))  # two equally good cells
        for cell in cells:
            area = float(coco_mask.area(cell))
            truth["annotations"].append({
                "id": len(truth["annotations"]) + 1, "image_id": number, "category_id": 1, "iscrowd": 0, "area": area,
                "bbox": coco_mask.toBbox(cell).tolist(), "segmentation": cell,
            })  # fmt: skip
        masks = [worn(rng, cell) for cell in cells for _ in range(rng.integers(0, 3))]
        masks += [rectangle(rng) for _ in range(rng.integers(0, 4))]
        rng.shuffle(masks)
        for mask in masks:
            value = float(np.float32(rng.integers(1, levels + 1) / (levels + 1)))
            found.append({"image_id": number, "category_id": 1, "segmentation": mask, "score": value})
    return truth, found, wells


def repeated(truth: dict[str, Any], found: list[dict[str, Any]], counts: list[int]) -> tuple[dict, list]:
    """A data set that holds each image so often, its copies beside each other."""
    more: dict[str, Any] = {"images": [], "annotations": [], "categories": truth["categories"]}
    detections = []
    for image, count in zip(truth["images"], counts, strict=True):
        for _ in range(count):
            number = len(more["images"]) + 1
            more["images"].append({**image, "id": number})
            for entry in truth["annotations"]:
                if entry["image_id"] == image["id"]:
                    more["annotations"].append({**entry, "id": len(more["annotations"]) + 1, "image_id": number})
            detections += [{**d, "image_id": number} for d in found if d["image_id"] == image["id"]]
    return more, detections


def theirs(truth: dict[str, Any], found: list[dict[str, Any]]) -> dict[int, tuple[list[float], list[bool]]]:
    """pycocotools' raw matches at IoU 0.5: image id → scores, and whether each found a cell."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = copy.deepcopy(truth)
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(copy.deepcopy(found)), "segm")
        evaluation.params.maxDets = [2000]
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.params.iouThrs = np.array([0.5])
        evaluation.evaluate()
    # An image with neither cells nor detections has no entry.
    return {e["image_id"]: (e["dtScores"], [m > 0 for m in e["dtMatches"][0]]) for e in evaluation.evalImgs if e}


@pytest.mark.parametrize("levels", [1000, 3])
def test_matches_are_pycocotools_own(levels):
    right = wrong = 0
    for seed in range(150):
        truth, found, wells = case(seed, levels=levels)
        if not found:
            continue
        expected = theirs(truth, found)
        for image, got in zip(truth["images"], match_images(truth, found, wells), strict=True):
            scores, hits = expected.get(image["id"], ([], []))
            assert got.scores.tolist() == pytest.approx(scores), seed
            assert got.hits.tolist() == hits, seed
            assert (got.scores.dtype, got.hits.dtype) == (np.float32, np.bool_)
            assert (got.image, got.well) == (image["file_name"], wells[image["id"]])
            assert got.cells == sum(e["image_id"] == image["id"] for e in truth["annotations"])
            right, wrong = right + sum(hits), wrong + len(hits) - sum(hits)
    assert min(right, wrong) > 500


@pytest.mark.parametrize("levels", [1000, 3])
def test_ap50_is_faster_coco_evals(levels):
    seen = set()
    for seed in range(1000, 1200):
        truth, found, wells = case(seed, levels=levels)
        expected = score(truth, found).ap50
        got = average_precision(match_images(truth, found, wells))
        assert got == (None if expected is None else pytest.approx(expected, abs=1e-9)), seed
        seen.add(expected)
    assert None in seen
    assert len(seen) > 120


@pytest.mark.parametrize("levels", [1000, 3, 1])
def test_an_image_counted_twice_is_a_data_set_that_holds_it_twice(levels):
    different = 0
    for seed in range(2000, 2120):
        truth, found, wells = case(seed, levels=levels)
        images = match_images(truth, found, wells)
        counts = np.random.default_rng(seed).integers(0, 4, len(images)).tolist()
        expected = score(*repeated(truth, found, counts)).ap50 if sum(counts) else None
        got = PooledMatches(images).ap50(counts)
        assert got == (None if expected is None else pytest.approx(expected, abs=1e-9)), seed
        different += got != average_precision(images)
    assert different > 50


def test_more_than_2000_detections_of_an_image_are_cut_as_coco_cuts_them():
    rng = np.random.default_rng(0)
    truth, _, wells = case(7, images=1)
    cells = [entry["segmentation"] for entry in truth["annotations"]]
    found = [
        {"image_id": 1, "category_id": 1, "segmentation": rectangle(rng), "score": float(np.float32(rng.random()))}
        for _ in range(2300)
    ]
    # The best masks have the lowest scores: they do not count.
    found += [{"image_id": 1, "category_id": 1, "segmentation": cell, "score": 1e-6} for cell in cells]
    (image,) = match_images(truth, found, wells)
    assert len(image.scores) == len(image.hits) == 2000
    assert average_precision([image]) == pytest.approx(score(truth, found).ap50, abs=1e-9)
    assert theirs(truth, found)[1][1] == image.hits.tolist()
    assert image.hits.sum() > 0


def of(cells: int, scores: list[float], hits: list[bool]) -> ImageMatches:
    return ImageMatches("x.tif", "W", cells, np.array(scores, np.float32), np.array(hits, bool))


def test_values_by_hand():
    assert average_precision([of(2, [0.9, 0.8], [True, True])]) == 1.0
    # Half of the cells, found first: precision 1 at recalls 0 … 0.5, nothing after.
    assert average_precision([of(2, [0.9, 0.8], [True, False])]) == pytest.approx(51 / 101)
    assert average_precision([of(2, [0.9, 0.8], [False, True])]) == pytest.approx(51 / 101 / 2)
    assert average_precision([of(3, [], [])]) == 0.0
    assert average_precision([of(0, [0.9], [False])]) is None
    assert average_precision([]) is None
    both = [of(2, [0.9, 0.8], [True, True]), of(4, [0.95], [False])]
    assert average_precision(both, [1, 0]) == 1.0
    assert average_precision(both, [0, 1]) == 0.0
    assert average_precision(both, [0, 0]) is None
    with pytest.raises(ValueError, match="expected 2 counts"):
        average_precision(both, [1])


def test_resamples_differ_and_the_plain_one_is_the_ap50_itself():
    rng = np.random.default_rng(0)
    images = [of(250, np.sort(rng.random(300))[::-1].tolist(), (rng.random(300) < 0.6).tolist()) for _ in range(40)]
    pooled = PooledMatches(images)
    draws = rng.multinomial(40, np.full(40, 1 / 40), 200)
    values = [pooled.ap50(counts) for counts in draws]
    assert len(set(values)) == len(draws)
    assert values[0] == pytest.approx(
        average_precision([i for i, n in zip(images, draws[0], strict=True) for _ in range(n)])
    )

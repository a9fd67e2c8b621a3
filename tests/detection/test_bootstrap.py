"""AP50 of resamples against COCO itself, run on data sets that hold their images as often as they are drawn."""

from __future__ import annotations

import numpy as np
import pytest

from detection.matches import ImageMatches, average_precision, match_images
from detection.statistics.bootstrap import draw_units, resampled_ap50
from policy_search.cells import Instance
from policy_search.cells.instances import encode_instance


def image(rng: np.random.Generator, name: str, well: str = "", cells: int = 20, found: int = 30) -> ImageMatches:
    scores = np.sort(rng.random(found).astype(np.float32))[::-1]
    hits = rng.random(found) < scores
    hits[np.cumsum(hits) > cells] = False
    return ImageMatches(name, well or name, cells, scores, hits)


def test_one_unit_less_than_there_are_is_drawn_each_as_likely():
    counts = draw_units(4, 20_000, np.random.default_rng(0))
    assert counts.shape == (20_000, 4)
    assert (counts.sum(axis=1) == 3).all()
    np.testing.assert_allclose(counts.mean(axis=0), 0.75, atol=0.02)


def test_the_spread_of_a_mean_is_what_its_sample_says():
    values = np.random.default_rng(1).normal(size=5)
    means = draw_units(5, 200_000, np.random.default_rng(2)) @ values / 4
    assert means.var() == pytest.approx(values.var(ddof=1) / 5, rel=0.02)


def test_a_single_unit_cannot_be_drawn_from():
    with pytest.raises(ValueError, match="at least 2 units"):
        draw_units(1, 10, np.random.default_rng(0))


def square(x: int, y: int, side: int) -> dict:
    rle = encode_instance(Instance(1, x, y, np.ones((side, side), bool)), 64, 64)
    return {"size": list(rle["size"]), "counts": rle["counts"].decode()}


def random_data(rng: np.random.Generator, images: int) -> tuple[dict, list[dict]]:
    """Squares on a grid and detections that are shifted by up to half a side; all scores differ."""
    truth: dict = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "cell"}]}
    detections = []
    for number in range(1, images + 1):
        truth["images"].append({"id": number, "file_name": f"{number}.tif", "width": 64, "height": 64})
        for place in range(16):
            x, y = 16 * (place % 4), 16 * (place // 4)
            if rng.random() < 0.7:
                entry = {"id": len(truth["annotations"]) + 1, "image_id": number, "category_id": 1, "iscrowd": 0}
                truth["annotations"].append(
                    {**entry, "area": 64, "segmentation": square(x, y, 8), "bbox": [x, y, 8, 8]}
                )
            if rng.random() < 0.8:
                mask = square(x + int(rng.integers(0, 5)), y, 8)
                entry = {"image_id": number, "category_id": 1, "score": float(np.float32(rng.random()))}
                detections.append({**entry, "segmentation": mask})
    return truth, detections


def repeated(truth: dict, detections: list[dict], counts: np.ndarray) -> tuple[dict, list[dict]]:
    """The data set that holds image i `counts[i]` times."""
    result: dict = {"images": [], "annotations": [], "categories": truth["categories"]}
    found = []
    for entry, count in zip(truth["images"], counts, strict=True):
        for _ in range(count):
            number = len(result["images"]) + 1
            result["images"].append({**entry, "id": number})
            for cell in truth["annotations"]:
                if cell["image_id"] == entry["id"]:
                    own = {**cell, "id": len(result["annotations"]) + 1, "image_id": number}
                    result["annotations"].append(own)
            found += [{**d, "image_id": number} for d in detections if d["image_id"] == entry["id"]]
    return result, found


def test_resamples_score_as_coco_scores_the_data_sets_that_they_stand_for():
    pytest.importorskip("faster_coco_eval", reason="the detection extra is not installed: make setup")
    from detection.scores import score

    rng = np.random.default_rng(3)
    for wells in ([0, 1, 2, 3, 4], [0, 0, 1, 2, 1]):
        truth, detections = random_data(rng, 5)
        images = match_images(truth, detections, {n: str(n) for n in range(1, 6)})
        counts = draw_units(max(wells) + 1, 25, rng)
        ours = resampled_ap50(images, wells, counts)
        coco = [score(*repeated(truth, detections, row[wells])).ap50 for row in counts]
        assert len({round(value, 6) for value in ours}) >= 4
        np.testing.assert_allclose(ours, coco, rtol=0, atol=1e-12)


@pytest.mark.parametrize("units", [2, 6, 12])
def test_resamples_score_as_one_by_one(units):
    """Many units, so that draws come in several chunks; detections that nothing finds; ties between images."""
    rng = np.random.default_rng(units)
    images = [image(rng, str(n), cells=40 + n, found=200) for n in range(units)]
    images[0] = ImageMatches("0", "0", 30, np.round(images[0].scores, 1), np.round(images[0].scores, 1) > 0.4)
    images[1] = ImageMatches("1", "1", 30, np.round(images[1].scores, 1), np.round(images[1].scores, 1) > 0.6)
    counts = draw_units(units, 400, rng)
    slow = [average_precision(images, row) for row in counts]
    np.testing.assert_allclose(resampled_ap50(images, range(units), counts), slow, rtol=0, atol=1e-12)


def test_recalls_reached_exactly_count_as_coco_counts_them():
    """k / n against COCO's floating-point levels, for every n to 200 and every k."""
    for cells in range(1, 201):
        hits = np.ones(cells, bool)
        scores = np.linspace(1, 0.5, cells, dtype=np.float32)
        for found in {cells, cells // 2, cells // 10 * 7, cells // 100 * 29}:
            one = [ImageMatches("a", "a", cells, scores[:found], hits[:found])]
            expected = np.mean(found / cells >= np.linspace(0, 1, 101))
            got = resampled_ap50(one, [0], np.array([[1], [3]]))
            np.testing.assert_allclose(got, expected if found else 0.0, atol=1e-12)


def test_nothing_found_is_zero_and_no_cell_is_undefined():
    none = np.zeros(0, np.float32), np.zeros(0, bool)
    images = [ImageMatches("a", "a", 5, *none), ImageMatches("b", "b", 0, *none)]
    ap50 = resampled_ap50(images, [0, 1], np.array([[1, 0], [0, 1], [1, 1]]))
    np.testing.assert_array_equal(ap50, [0.0, np.nan, 0.0])


def test_copies_of_an_image_with_ties_move_the_score_a_little_only():
    """Hits and misses of one image at one score: the order of copies is a convention, here another than COCO's."""
    rng = np.random.default_rng(5)
    images = []
    for n in range(6):
        plain = image(rng, str(n), cells=60, found=100)
        images.append(ImageMatches(str(n), str(n), 60, np.round(plain.scores, 2), plain.hits))
    counts = draw_units(6, 200, rng)
    slow = np.array([average_precision(images, row) for row in counts], float)
    ours = resampled_ap50(images, range(6), counts)
    assert np.abs(ours - slow).max() < 0.01
    assert ours.std() == pytest.approx(slow.std(), rel=0.02)

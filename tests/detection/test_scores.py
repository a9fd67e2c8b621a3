"""Scores against pycocotools' raw arrays, past 100 cells an image."""

from __future__ import annotations

import contextlib
import copy
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

pytest.importorskip("faster_coco_eval", reason="the detection extra is not installed: make setup")

from detection.livecell import AREA_RANGES, MAX_DETECTIONS
from detection.scores import coco_arrays, score
from detection.statistics.comparison import Comparison, file_stem
from policy_search.cells import CellDataset, Instance, InstanceMap
from policy_search.cells.dataset import Sample, coco_ground_truth
from policy_search.cells.instances import encode_instance
from tests.detection.culture import culture


def samples_of(data: CellDataset) -> list[Sample]:
    return [data.sample(record) for record in data.records]


def results_of(samples: list[Sample], change, seed: int = 0) -> list[dict]:
    """Every cell as a detection after `change(rng, instance)`; scores are random and distinct."""
    rng = np.random.default_rng(seed)
    results = []
    for number, sample in enumerate(samples, start=1):
        for instance in sample.instances:
            changed = change(rng, instance)
            if changed is None:
                continue
            rle = encode_instance(changed, *sample.instances.shape)
            segmentation = {"size": list(rle["size"]), "counts": rle["counts"].decode()}
            results.append({"image_id": number, "category_id": 1, "segmentation": segmentation, "score": rng.random()})
    return results


def worn(rng: np.random.Generator, instance: Instance) -> Instance | None:
    """The cell without some of its rows, or not at all."""
    if rng.random() < 0.2:
        return None
    kept = max(1, int(len(instance.mask) * rng.uniform(0.4, 1)))
    mask = instance.mask[:kept]
    if not mask.any():
        return None
    return Instance(instance.id, instance.x0, instance.y0, mask)


def reference(truth: dict, detections: list[dict]) -> dict[str, np.ndarray]:
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = copy.deepcopy(truth)
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(copy.deepcopy(detections)), "segm")
        evaluation.params.maxDets = [100, 500, 2000]
        evaluation.params.areaRng = [list(limits) for limits in AREA_RANGES.values()]
        evaluation.params.areaRngLbl = list(AREA_RANGES)
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval


@pytest.fixture(scope="module")
def crowd() -> list[Sample]:
    return samples_of(culture(images=2, height=320, width=400, cells=160))


def test_the_limits_are_livecells():
    assert MAX_DETECTIONS == (100, 500, 2000)
    limits = {"all": (0, 1e10), "small": (0, 324), "medium": (324, 961), "large": (961, 1e10)}
    assert limits == AREA_RANGES


def test_arrays_equal_pycocotools(crowd):
    truth, found = coco_ground_truth(crowd), results_of(crowd, worn)
    assert len(found) > 200
    ours, theirs = coco_arrays(truth, found), reference(truth, found)
    assert ours["precision"].shape == (10, 101, 1, 4, 3)
    for name in ("precision", "recall"):
        assert np.abs(ours[name] - theirs[name]).max() <= 1e-12
    assert (ours["precision"][0, :, 0, 0, 2] != ours["precision"][0, :, 0, 0, 0]).any()  # 100 are too few


def test_scores_are_means_of_the_right_slices(crowd):
    truth, found = coco_ground_truth(crowd), results_of(crowd, worn)
    precision, recall = (reference(truth, found)[name] for name in ("precision", "recall"))
    got = score(truth, found)
    assert got.ap == pytest.approx(precision[:, :, 0, 0, 2].mean(), abs=1e-12)
    assert got.ap50 == pytest.approx(precision[0, :, 0, 0, 2].mean(), abs=1e-12)
    assert got.ap75 == pytest.approx(precision[5, :, 0, 0, 2].mean(), abs=1e-12)
    assert got.aps == pytest.approx(precision[:, :, 0, 1, 2].mean(), abs=1e-12)
    assert got.apm == pytest.approx(precision[:, :, 0, 2, 2].mean(), abs=1e-12)
    assert got.apl is None  # no ellipse is that large
    recalls = [recall[:, 0, 0, limit].mean() for limit in range(3)]
    assert [got.ar100, got.ar500, got.ar] == pytest.approx(recalls, abs=1e-12)
    assert recalls[0] < recalls[1] == recalls[2]  # 100 are too few, 500 are enough here
    assert (got.images, got.cells, got.detections) == (2, 320, len(found))
    assert 0.1 < got.ap < got.ap50 < 1


def test_perfect_prediction_of_600_cells_scores_one():
    layer = np.zeros((300, 400), np.uint16)
    for label in range(600):
        y, x = 12 * (label // 30), 13 * (label % 30)
        layer[y : y + 9, x : x + 10] = label + 1
    record = culture(images=1, height=300, width=400, cells=1).records[0]
    samples = [Sample(record, np.zeros((300, 400), np.uint8), InstanceMap(layer[None]))]
    found = results_of(samples, lambda _, instance: instance)
    got = score(coco_ground_truth(samples), found)
    assert (got.ap, got.ap50, got.ap75, got.aps, got.ar) == (1.0, 1.0, 1.0, 1.0, 1.0)
    assert got.apm is None


def test_nothing_found_is_zero_and_arguments_stay_as_they_were(crowd):
    truth, found = coco_ground_truth(crowd), results_of(crowd, worn)
    before = copy.deepcopy((truth, found))
    assert score(truth, []).ap50 == 0.0
    score(truth, found)
    assert (truth, found) == before


def test_boxes_are_refused(crowd):
    found = [{**d, "bbox": [0, 0, 5, 5]} for d in results_of(crowd, worn)]
    with pytest.raises(ValueError, match="area of their boxes"):
        score(coco_ground_truth(crowd), found)


def test_scores_are_those_of_faster_coco_eval_called_directly(crowd):
    truth, found = coco_ground_truth(crowd), results_of(crowd, worn)
    import faster_coco_eval

    direct = faster_coco_eval.COCO(copy.deepcopy(truth))
    evaluation = faster_coco_eval.COCOeval_faster(
        direct, direct.loadRes(copy.deepcopy(found)), "segm", print_function=lambda *_: None
    )
    evaluation.params.maxDets = [100, 500, 2000]
    evaluation.params.areaRng = [[0, 1e10], [0, 324], [324, 961], [961, 1e10]]
    evaluation.params.areaRngLbl = ["all", "small", "medium", "large"]
    evaluation.run()
    got = score(truth, found)
    ours = [got.ap, got.ap50, got.ap75, got.aps, got.apm, got.apl, got.ar100, got.ar500, got.ar]
    assert [-1 if v is None else v for v in ours] == pytest.approx(list(evaluation.stats[:9]), abs=1e-12)


def of_wells(samples: list[Sample], wells: list[str]) -> list[Sample]:
    return [s._replace(record=replace(s.record, well=well)) for s, well in zip(samples, wells, strict=True)]


def test_a_well_is_scored_as_if_its_images_were_alone():
    samples = of_wells(samples_of(culture(images=3, cells=20)), ["B", "A", "B"])
    comparison, found = Comparison(), []
    for seed, sample in enumerate(samples):
        rng = np.random.default_rng(seed)
        cells = [worn(rng, cell) for cell in sample.instances]
        kept = [cell for cell in cells if cell is not None]
        found.append((kept, rng.random(len(kept)).tolist()))
        comparison.add(sample, found[-1], f"{seed}.tif")
    by_well = comparison.scores_by_well()
    assert list(by_well) == ["B", "A"]
    for well, members in {"B": [0, 2], "A": [1]}.items():
        alone = Comparison()
        for member in members:
            alone.add(samples[member], found[member], "x")
        assert by_well[well] == alone.scores()
    assert comparison.scores() not in by_well.values()
    assert by_well["A"].images == 1


def test_written_files_give_the_same_numbers_to_pycocotools(crowd, tmp_path):
    comparison = Comparison()
    for number, sample in enumerate(crowd):
        rng = np.random.default_rng(number)
        kept = [cell for cell in (worn(rng, cell) for cell in sample.instances) if cell is not None]
        comparison.add(sample, (kept, rng.random(len(kept)).tolist()), f"image{number}.tif")
    comparison.write(tmp_path, "A172")
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(tmp_path / "ground_truth/A172.json"))
        detections = json.loads((tmp_path / "detections/A172.json").read_text())
        evaluation = COCOeval(coco, coco.loadRes(str(tmp_path / "detections/A172.json")), "segm")
        evaluation.params.maxDets = [100, 500, 2000]
        evaluation.params.areaRng = [list(limits) for limits in AREA_RANGES.values()]
        evaluation.params.areaRngLbl = list(AREA_RANGES)
        evaluation.evaluate()
        evaluation.accumulate()
    assert comparison.scores().ap == pytest.approx(evaluation.eval["precision"][:, :, 0, 0, 2].mean(), abs=1e-12)
    assert [image["file_name"] for image in coco.dataset["images"]] == ["image0.tif", "image1.tif"]
    assert {d["image_id"] for d in detections} == {1, 2}
    # As one call of coco_ground_truth would give it, file names aside.
    written = json.loads((tmp_path / "ground_truth/A172.json").read_text())
    assert written["annotations"] == coco_ground_truth(crowd)["annotations"]


def test_cell_types_become_file_names_that_differ():
    assert file_stem("A172") == "A172"
    assert file_stem("my cells/day 2") == "my_cells_day_2"
    assert file_stem("../..") == "_"
    assert file_stem("a172", ["A172", "a172_2"]) == "a172_3"

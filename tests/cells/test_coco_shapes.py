"""Annotations that pycocotools must not see: each gives a sentence; those beside them are drawn as ever."""

from __future__ import annotations

import json
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from policy_search.cells.checks import check_dataset
from policy_search.cells.coco import instances_of, read_coco
from policy_search.cells.coco_shapes import MAX_OUTLINE, annotation_rle
from policy_search.cells.errors import DataError
from policy_search.cells.sources import resolve
from policy_search.cli_check import _line

SIZE = [20, 24]
SQUARE = [[2.0, 2.0, 9.0, 2.0, 9.0, 9.0, 2.0, 9.0]]

UNDRAWABLE: dict[str, tuple[Any, str]] = {
    "a ring without brackets": (SQUARE[0], "list of rings .* found a list of numbers"),
    "a text": ("2 2 9 2", "list of rings .* found str"),
    "a number": (7, "found int"),
    "text for a number": ([[2.0, 2.0, "9", 2.0, 9.0, 9.0]], "coordinate should be a number, found '9'"),
    "null for a number": ([[2.0, 2.0, None, 2.0, 9.0, 9.0]], "coordinate should be a number, found None"),
    "true for a number": ([[2.0, 2.0, True, 2.0, 9.0, 9.0]], "coordinate should be a number, found True"),
    "NaN": ([[2.0, 2.0, float("nan"), 2.0, 9.0, 9.0]], "coordinates up to nan"),
    "infinity": ([[2.0, 2.0, float("inf"), 2.0, 9.0, 9.0]], "coordinates up to inf"),
    "1e300": ([[2.0, 2.0, 1e300, 2.0, 9.0, 9.0]], r"1e\+300"),
    "beyond 32 bits": ([[5e9, 5e9, 5e9 + 5, 5e9, 5e9 + 5, 5e9 + 5]], r"up to 5e\+09"),
    "400 digits": ([[2, 2, 10**400, 2, 9, 9]], "coordinates up to inf"),
    "a code without counts": ({"size": SIZE}, "should have size and counts"),
    "a code of another frame": ({"size": [24, 20], "counts": "37:Ol="}, r"for a \[24, 20\] frame"),
    "a frame in words": ({"size": "20x24", "counts": [480]}, "for a '20x24' frame"),
    "counts below zero": ({"size": SIZE, "counts": [500, -20]}, "add up to 480 pixels"),
    "counts of too many pixels": ({"size": SIZE, "counts": [481]}, "add up to 480 pixels"),
    "counts beyond 64 bits": ({"size": SIZE, "counts": [2**64 + 480]}, "add up to 480 pixels"),
    "counts that wrap round": ({"size": SIZE, "counts": [2**32, 480]}, "add up to 480 pixels"),
    "counts with a half": ({"size": SIZE, "counts": [0.5, 479.5]}, "add up to 480 pixels"),
    "counts in words": ({"size": SIZE, "counts": ["480"]}, "add up to 480 pixels"),
    "no counts": ({"size": SIZE, "counts": None}, "text or numbers, found NoneType"),
    "garbage": ({"size": SIZE, "counts": "\x00\xff"}, "characters that no count is written with"),
    "cut off": ({"size": SIZE, "counts": "37:Ol"}, "damaged"),
}


def write(folder: Path, shapes: list[Any], **image: Any) -> Path:
    entry = {"id": 1, "file_name": "a.png", "height": SIZE[0], "width": SIZE[1], **image}
    annotations = [{"id": 10 + i, "image_id": 1, "segmentation": shape} for i, shape in enumerate(shapes)]
    (folder / "cells.json").write_text(json.dumps({"images": [entry], "annotations": annotations}))
    Image.fromarray(np.random.default_rng(0).integers(0, 200, SIZE, np.uint8)).save(folder / "a.png")
    return folder / "cells.json"


@pytest.mark.parametrize("name", UNDRAWABLE)
def test_a_shape_that_cannot_be_drawn_is_named_and_found_by_the_check(tmp_path: Path, name: str) -> None:
    shape, message = UNDRAWABLE[name]
    path = write(tmp_path, [SQUARE, shape, SQUARE])
    dataset = resolve(str(path), "train")
    with pytest.raises(DataError, match=message) as caught:
        dataset.instances(dataset.records[0])
    assert str(path) in str(caught.value)
    assert "annotation 2" in str(caught.value)
    findings = {f.code: f.text for f in check_dataset(dataset)}
    assert findings["shapes-damaged"] == str(caught.value)


def test_null_is_a_cell_without_a_shape_and_is_counted(tmp_path: Path) -> None:
    dataset = resolve(str(write(tmp_path, [None, SQUARE, []])), "train")
    assert dataset.instances(dataset.records[0]).ids.tolist() == [2]
    assert {f.code: f.count for f in check_dataset(dataset)}["cell-empty"] == 2


def test_the_shape_of_a_crowd_may_be_anything(tmp_path: Path) -> None:
    path = write(tmp_path, [SQUARE, 7])
    content = json.loads(path.read_text())
    content["annotations"][1]["iscrowd"] = 1
    path.write_text(json.dumps(content))
    assert {f.code: f.count for f in check_dataset(resolve(str(path), "train"))}["crowd-region"] == 1


def test_numbers_of_any_size_beside_a_shape_differ_and_that_is_all(tmp_path: Path) -> None:
    path = write(tmp_path, [SQUARE])
    content = json.loads(path.read_text())
    content["annotations"][0] |= {"area": 10**400, "bbox": [10**400, 0, 1, "x"]}
    path.write_text(json.dumps(content))
    found = {f.code for f in check_dataset(resolve(str(path), "train"))}
    assert {"area-differs", "bbox-differs"} <= found


def test_outlines_up_to_the_limit_are_drawn_as_pycocotools_draws_them() -> None:
    far = MAX_OUTLINE / 8
    ring = [-far, -far, far, -far, far, 10.0, -far, 10.0]
    found = annotation_rle({"segmentation": [ring]}, *SIZE)
    assert coco_mask.decode(found)[:10].all()
    assert not coco_mask.decode(found)[10:].any()
    with pytest.raises(DataError, match="pixels long"):
        annotation_rle({"segmentation": [[v * 2 for v in ring]]}, *SIZE)


def test_one_outline_thousands_of_times_is_an_error_and_not_thousands_of_layers(tmp_path: Path) -> None:
    path = write(tmp_path, [SQUARE] * 10_000)
    began = time.process_time()
    with pytest.raises(DataError, match=r"cells\.json.*more than 256 cells lie on top of one another"):
        instances_of(read_coco(path), 1)
    assert time.process_time() - began < 5
    assert len(instances_of(read_coco(write(tmp_path, [SQUARE] * 256)), 1)) == 256


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ({"height": 10**9, "width": 10**9}, "1000000000×1000000000, expected up to 256 million pixels"),
        ({"height": 0}, "height of an image should be a whole number of pixels, 1 or more, found 0"),
        ({"height": -5}, "1 or more, found -5"),
        ({"width": 24.5}, r"found 24\.5"),
        ({"width": "24"}, "found '24'"),
        ({"width": 10**400}, "million pixels"),
        ({"width": True}, "found True"),
        ({"id": None}, "id of an image should be a whole number or text, found None"),
        ({"id": float("nan")}, "found nan"),
        ({"file_name": ""}, "file_name of an image should be the name of a file"),
        ({"file_name": 3}, "name of a file, found 3"),
        ({"file_name": "a\ud800.png"}, "name of a file"),
        ({"file_name": "a\x00.png"}, "name of a file"),
        ({"cell_type": ["A172"]}, "cell_type of an image should be text"),
        ({"position": "first"}, "position of an image should be a whole number"),
    ],
)
def test_an_image_entry_that_cannot_be_right_is_refused(tmp_path: Path, image: dict[str, Any], message: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match=message):
        resolve(str(write(tmp_path, [SQUARE], **image)), "train")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 18  # KiB


def test_a_name_longer_than_any_file_is_a_missing_image(tmp_path: Path) -> None:
    dataset = resolve(str(write(tmp_path, [SQUARE], file_name="a" * 300)), "train")
    assert "image-missing" in {f.code for f in check_dataset(dataset)}


def test_whole_fractions_are_sizes(tmp_path: Path) -> None:
    dataset = resolve(str(write(tmp_path, [SQUARE], height=20.0, width=24.0)), "train")
    assert dataset.instances(dataset.records[0]).areas().tolist() == [49]


def test_orphans_of_a_file_without_labelled_images_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path, [SQUARE, SQUARE, SQUARE], annotated=False)
    content = json.loads(path.read_text())
    content["annotations"][0]["image_id"] = 77
    path.write_text(json.dumps(content))
    found = {f.code: f.count for f in check_dataset(resolve(str(path), "unlabeled"))}
    assert found["annotation-hidden"] == 2
    assert found["annotation-orphaned"] == 1


def test_ids_cannot_drive_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    _line("image \x1b[2J\ud800 twice", "")
    assert capsys.readouterr().out == "image �[2J� twice\n"

"""Damaged files are findings, and everything else is still looked at."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from policy_search.cells import DataError
from policy_search.cells.checks import Opened, open_splits
from policy_search.cells.fetched import Fetched
from tests.cells.test_checks import check, found
from tests.cells.tidy_coco import TidyCoco


def test_a_truncated_annotation_file_does_not_hide_the_other_types(livecell_root):
    victim = livecell_root / "annotations" / "LIVECell_single_cells" / "a172" / "train.json"
    victim.write_bytes(victim.read_bytes()[:-400])
    report = check("all", livecell_root)
    (finding,) = report.by_code()["annotations-damaged"]
    assert (finding.record, finding.split) == (str(victim), "train")
    assert "truncated" in finding.text
    assert report.images == {"train": 1, "val": 2, "test": 3, "unlabeled": 1}, "train of BV2 and all else"
    assert not report.usable
    assert found(check("A172,BV2", livecell_root))["annotations-damaged"] == 1
    assert found(check("a172", livecell_root))["annotations-damaged"] == 1
    assert "annotations-damaged" not in found(check("BV2", livecell_root))


def test_a_damaged_union_file_is_named_once(livecell_root):
    folder = livecell_root / "annotations" / "LIVECell"
    folder.mkdir()
    (folder / "livecell_coco_train.json").write_text('{"images": [')
    for data in ("all", "A172", "A172,BV2"):
        report = check(data, livecell_root)
        assert found(report) == {"annotations-damaged": 1}
        assert report.findings[0].record.endswith("livecell_coco_train.json")


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_damaged_coco_file_is_named_by_its_split(tmp_path, split):
    tidy = TidyCoco(tmp_path)
    data = tidy.write()
    (tmp_path / f"cells_{split}.json").write_text("[]")
    report = check(data)
    assert [(f.code, f.split) for f in report.findings] == [("annotations-damaged", split)]
    assert sum(report.images.values()) == 4


@pytest.mark.parametrize("keep", [0, 100, 0.5, 0.97])
def test_a_truncated_image_is_found_whatever_is_left_of_it(tmp_path, keep):
    tidy = TidyCoco(tmp_path)
    data = tidy.write()
    victim = tmp_path / "images" / tidy.image("val")["file_name"]
    whole = victim.read_bytes()
    victim.write_bytes(whole[: keep if keep > 1 or keep == 0 else int(len(whole) * keep)])
    report = check(data)
    (finding,) = report.findings
    assert (finding.code, finding.split, finding.level) == ("image-damaged", "val", "error")
    assert victim.name in finding.text
    assert report.cells == 90, "its annotations are looked at all the same"


def test_damaged_unlabelled_images_are_all_named(livecell_root):
    folder = livecell_root / "unlabeled" / "SkBr3"
    for name in ("SkBr3_Phase_D2_1_00d00h00m_1.tif", "SkBr3_Phase_D3_1_00d00h00m_1.tif"):
        (folder / name).write_bytes(b"II*\x00")
    report = check("all", livecell_root)
    assert found(report)["image-damaged"] == 2
    assert {f.split for f in report.by_code()["image-damaged"]} == {"unlabeled"}
    assert report.images == {"train": 4, "val": 2, "test": 3}


def test_bad_names_are_no_findings(livecell_root, tmp_path):
    for data, root in (("A127", livecell_root), ("A172", tmp_path), (str(tmp_path / "no.json"), None)):
        with pytest.raises(DataError):
            check(data, root)


def test_one_file_for_training_and_testing_is_looked_at_once(tmp_path):
    tidy = TidyCoco(tmp_path)
    tidy.write()
    single = tmp_path / "cells.json"
    single.write_text(json.dumps(tidy.splits["train"]))
    opened = list(open_splits(str(single)))
    assert [(len(o.dataset), o.same) for o in opened] == [(2, False), (0, False), (2, True), (0, False)]
    assert isinstance(opened[0], Opened)
    report = check(str(single))
    assert report.findings == ()
    assert report.images == {"train": 2}


def test_types_out_of_one_union_file_are_each_looked_at(tmp_path):
    """Two types of one file are not one file looked at twice."""
    tidy = TidyCoco(tmp_path)
    for index, entry in enumerate(tidy.splits["train"]["images"]):
        old = entry["file_name"]
        entry["file_name"] = old.replace("A172", ("A172", "BV2")[index])
        tidy.pixels[entry["file_name"]] = tidy.pixels.pop(old)
    tidy.write()
    folder = tmp_path / "annotations" / "LIVECell"
    folder.mkdir(parents=True)
    (folder / "livecell_coco_train.json").write_text(json.dumps(tidy.splits["train"]))
    report = check("all", tmp_path)
    assert (report.images, report.findings) == ({"train": 2}, ())
    assert check("BV2", tmp_path).cells == 15
    own = tmp_path / "annotations" / "LIVECell_single_cells" / "huh7"
    own.mkdir(parents=True)
    (own / "train.json").write_text("{")
    report = check("all", tmp_path)
    assert (report.images, found(report)) == ({"train": 2}, {"annotations-damaged": 1}), "opened type by type"


def test_categories_that_are_no_list_are_taken_as_none(tmp_path):
    tidy = TidyCoco(tmp_path)
    tidy.splits["train"]["categories"] = {"1": "cell"}
    tidy.splits["val"]["categories"] = [3, None, {"name": "cell"}, {"id": [1]}]
    del tidy.splits["test"]["categories"]
    assert check(tidy.write()).findings == ()


def test_colour_and_deep_images_are_compared_by_what_is_read(tmp_path):
    """The same picture as PNG and as TIFF is one picture."""
    tidy = TidyCoco(tmp_path)
    name = tidy.image("train")["file_name"]
    entry = dict(tidy.image("train", 1), file_name="A172_Phase_A2_1_00d00h00m_1.tif")
    tidy.splits["train"]["images"][1] = entry
    tidy.pixels.pop("A172_Phase_A2_1_00d00h00m_1.png")
    data = tidy.write()
    Image.fromarray(np.repeat(tidy.pixels[name][..., None], 3, 2)).save(tmp_path / "images" / entry["file_name"])
    assert found(check(data)) == {"image-repeated": 2}


def test_what_was_fetched_and_changed_since_is_named(livecell_root):
    record = Fetched(livecell_root)
    names = sorted(p.relative_to(livecell_root).as_posix() for p in (livecell_root / "images").rglob("*.tif"))
    for name in names[:2]:
        record.add(name, "", "http://example.org/" + name)
    record.save()
    assert "file-changed" not in check("all", livecell_root).by_code()
    path = livecell_root / names[1]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    (finding,) = check("all", livecell_root).by_code()["file-changed"]
    assert finding.record.endswith("fetched.json")
    assert names[1] in finding.text
    assert not check("all", livecell_root).usable

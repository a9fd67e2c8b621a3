"""What `--eval` means: cell types, every type, and COCO files added to them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import detection.testing_on
from detection.testing_on import to_test_on
from policy_search.cells import resolve
from policy_search.cells.errors import InputError
from tests.conftest import ROOT, write_livecell
from tests.detection.culture import culture


@pytest.fixture
def ours(tmp_path) -> Path:
    return write_livecell(tmp_path / "ours", {"UsA": {"train": 1, "val": 0, "test": 2}, "UsB": {"train": 0, "test": 1}})


@pytest.fixture
def theirs(tmp_path) -> str:
    """Two types in one COCO file of another folder."""
    root = write_livecell(tmp_path / "theirs", {"A172": {"test": 1}, "Huh7": {"test": 2}}, seed=3)
    content = {"images": [], "annotations": [], "categories": [{"id": 1}]}
    for place, name in enumerate(("a172", "huh7")):
        own = json.loads((root / "annotations/LIVECell_single_cells" / name / "test.json").read_text())
        for entry in (*own["images"], *own["annotations"]):
            for key in ("id", "image_id"):
                if key in entry:
                    entry[key] += 100_000 * place
        content["images"] += own["images"]
        content["annotations"] += own["annotations"]
    (root / "cells_test.json").write_text(json.dumps(content))
    return f"{root / 'cells_test.json'}:{root / 'images'}"


def test_types_alone_are_as_before(ours):
    both = to_test_on("UsA", "all", ours)
    assert both.cell_types == ("UsA", "UsB")
    assert both.name == "UsA,UsB"
    assert to_test_on("UsA", "UsB", ours).cell_types == ("UsB",)
    assert both.fingerprint() == resolve("all", "test", ours).fingerprint()
    demo = to_test_on("demo/A172", "BT474,BV2", None)
    assert to_test_on("demo/A172", "demo/BT474,BV2", None).records == demo.records
    assert (demo.cell_types, demo.synthetic, demo.name) == (("BT474", "BV2"), True, "demo/BT474,BV2")


def test_coco_files_are_added_and_read_from_where_they_are(ours, theirs):
    test = to_test_on("UsA", f"all, {theirs}", ours)
    assert test.cell_types == ("UsA", "UsB", "A172", "HUH7")
    assert [len(test.of_type(t)) for t in test.cell_types] == [2, 1, 1, 2]
    assert not test.synthetic
    alone = resolve(theirs, "test")
    for record in alone:
        assert np.array_equal(test.image(record), alone.image(record))
        assert np.array_equal(test.instances(record).layers, alone.instances(record).layers)
    own = resolve("UsB", "test", ours)
    assert np.array_equal(test.image(own.records[0]), own.image(own.records[0]))
    for t in test.cell_types:
        part = own if t == "UsB" else alone if t in alone.cell_types else resolve(t, "test", ours)
        assert test.of_type(t).fingerprint() == part.of_type(t).fingerprint()
    assert test.name == f"UsA,UsB,{theirs}"
    again = to_test_on("some/other.json", test.name, ours)
    assert again.records == test.records
    assert again.name == test.name


def test_a_coco_source_means_its_own_test_split_by_all(ours, theirs):
    source = theirs.replace("cells_test", "cells_train")
    Path(source.split(":")[0]).write_text('{"images": [], "annotations": []}')
    own = to_test_on(source, "all", None)
    assert own.cell_types == ("A172", "HUH7")
    assert own.name == source
    more = to_test_on(source, "all,UsB", ours)
    assert set(more.cell_types) == {"A172", "HUH7", "UsB"}
    assert to_test_on(source, "UsB", ours).cell_types == ("UsB",)
    Path(source.split(":")[0].replace("_train", "_test")).unlink()
    assert to_test_on(source, "all,UsB", ours).cell_types == ("UsB",)  # no split, none asked for


def test_a_file_comes_without_the_demo_cultures_name(ours, theirs):
    own = resolve(theirs, "test")
    assert to_test_on("demo/A172", theirs, None).records == own.records  # no demo/ before a file


def test_what_cannot_be_tested_is_said(ours, theirs, tmp_path):
    again = Path(theirs.split(":")[0]).parent / "again_test.json"
    again.write_bytes(Path(theirs.split(":")[0]).read_bytes())
    with pytest.raises(InputError, match=r"cell type A172 is in .*cells_test.* and in .*again.*; every type"):
        to_test_on("UsA", f"{theirs},{again}:{theirs.split(':')[1]}", ours)
    with pytest.raises(InputError, match="demo culture and a file: test on them in two commands"):
        to_test_on("demo/A172", f"BV2,{theirs}", None)
    with pytest.raises(InputError, match="no such COCO file"):
        to_test_on("UsA", "all,missing_test.json", ours)
    with pytest.raises(InputError, match="unknown cell type 'SKOV9'"):
        to_test_on("demo/A172", "SKOV9", None)
    empty = write_livecell(tmp_path / "empty", {"A172": {"train": 1}})
    with pytest.raises(InputError, match="there is no labelled test image for all: choose types"):
        to_test_on("A172", "all", empty)
    assert to_test_on("A172", f"all,{theirs}", empty).cell_types == ("A172", "HUH7")
    named = tmp_path / "empty_test.json"
    named.write_text('{"images": [], "annotations": []}')
    with pytest.raises(InputError, match="has no test images"):
        to_test_on("UsA", f"all,{named}", ours)


def test_nobody_is_tested_on_unlabelled_images(monkeypatch):
    data = culture(("A172", "BT474"), images=2)
    half = replace(data, records=tuple(replace(r, annotated=r.id.endswith("0")) for r in data.records))
    monkeypatch.setattr(detection.testing_on, "resolve", lambda *_, **__: half)
    assert [r.id for r in to_test_on("A172", "all", None)] == ["train/A172_0", "train/BT474_0"]


def test_two_files_of_one_name_are_refused(ours, tmp_path):
    """Their records would have the same ids, and one would be read for both."""
    for name, cell_type in (("one", "A172"), ("two", "BV2")):
        root = write_livecell(tmp_path / name, {"A172": {"test": 1}})
        content = json.loads((root / "annotations/LIVECell_single_cells/a172/test.json").read_text())
        content["images"][0]["cell_type"] = cell_type
        (root / "images" / "cells_test.json").write_text(json.dumps(content))
    files = [f"{tmp_path / name}/images/cells_test.json" for name in ("one", "two")]
    with pytest.raises(InputError, match="two test images are called cells_test/A172_Phase_C1_1_00d00h00m_1"):
        to_test_on("UsA", ",".join(files), ours)


def test_real_images_usiigaci_with_livecell_added(real_root):
    root = ROOT.parent / "shared/data/usiigaci-mini"
    if not root.is_dir():
        pytest.skip(f"no real images in {root}")
    file = f"{real_root}/annotations/LIVECell/livecell_coco_test.json"
    test = to_test_on("UsiigaciA", f"all,{file}:{real_root}/images", root)
    types = ("A172", "BT474", "HUH7", "MCF7", "SHSY5Y", "SKOV3", "SKBR3")
    assert set(test.cell_types) == {"UsiigaciA", "UsiigaciB", *types}
    alone = resolve("all", "test", real_root)
    for record in alone:
        (same,) = test.of_type(record.cell_type).records
        assert same.well == record.well
        assert np.array_equal(test.image(same), alone.image(record))
        assert len(test.instances(same)) == len(alone.instances(record))
    assert len(test.of_type("UsiigaciA")) == 4

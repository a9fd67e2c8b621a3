"""The made-up annotation file of LIVECell's form, and the bench that reads it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
from data_report import faster, table, verdict
from livecell_like import LOOKS, write

from policy_search.cells.coco import LIVECELL_NAME, entry_type
from tests.conftest import ROOT


def test_the_file_has_livecells_form(tmp_path):
    write(tmp_path / "a.json", 40, 2000, seed=3)
    write(tmp_path / "b.json", 40, 2000, seed=3, mapping=True)
    write(tmp_path / "c.json", 40, 2000, seed=4)
    found = json.loads((tmp_path / "a.json").read_text())
    mapping = json.loads((tmp_path / "b.json").read_text())
    assert mapping["annotations"] == {str(a["id"]): a for a in found["annotations"]}
    assert mapping["images"] == found["images"]
    assert json.loads((tmp_path / "c.json").read_text())["annotations"] != found["annotations"]
    write(tmp_path / "again.json", 40, 2000, seed=3)
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "a.json").read_bytes()
    assert len(found["annotations"]) == 2000
    ids = [entry["id"] for part in ("images", "annotations") for entry in found[part]]
    assert len(set(ids)) == 2040
    names = [entry["file_name"] for entry in found["images"]]
    assert len(set(names)) == 40
    assert all(LIVECELL_NAME.match(name) and re.search(r"_\d_\d\dd\d\dh00m_[1-4]\.tif$", name) for name in names)
    assert {entry_type(entry) for entry in found["images"]} == {look.folder.upper() for look in LOOKS}
    for annotation in found["annotations"]:
        (ring,) = annotation["segmentation"]
        assert len(ring) >= 10
        points = np.array(ring).reshape(-1, 2)
        assert (points == points.round(2)).all()
        assert (points >= 0).all()
        assert (points <= (704, 520)).all()
        x0, y0, width, height = annotation["bbox"]
        assert (x0, y0) == tuple(points.min(0))
        assert (x0 + width, y0 + height) == pytest.approx(tuple(points.max(0)))
        x, y = points.T
        assert annotation["area"] == pytest.approx(abs(sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2)


def test_numbers_of_cells_and_vertices_follow_the_types(tmp_path):
    write(tmp_path / "a.json", 80, 10_000)
    found = json.loads((tmp_path / "a.json").read_text())
    kinds = {entry["id"]: entry["file_name"].partition("_")[0] for entry in found["images"]}
    vertices: dict[str, list[int]] = {look.folder: [] for look in LOOKS}
    for annotation in found["annotations"]:
        vertices[kinds[annotation["image_id"]]].append(len(annotation["segmentation"][0]) // 2)
    total = sum(look.cells for look in LOOKS)
    for look in LOOKS:
        assert len(vertices[look.folder]) / 10_000 == pytest.approx(look.cells / total, rel=0.5)
        assert np.mean(vertices[look.folder]) == pytest.approx(look.vertices[0], rel=0.1)


def test_the_bench_runs_both_sides(tmp_path):
    words = [sys.executable, "scripts/bench_data.py", "--images", "8", "--instances", "600", "--repeats", "1"]
    words += ["--folder", str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "`pycocotools.coco.COCO`" in done.stdout
    assert list(tmp_path.iterdir()) == [], "the made-up file is removed"


def test_the_report_compares_the_right_rows():
    names = ("json", "pycocotools", "first read", "every annotation", "digests", "records of A172", "maps of A172")
    rows = {name: {"seconds": 1.0, "cpu": 1.0, "peak_mb": 9000.0} for name in names}
    rows["pycocotools"]["seconds"] = 30.0
    rows["masks of A172, pycocotools"] = {"seconds": 40.0, "cpu": 1.0, "peak_mb": 1.0}
    rows["second read"] = {"seconds": 0.5, "cpu": 0.1, "peak_mb": 400.0}
    lines = table({"rows": rows})
    assert next(line for line in lines if line.startswith("| second read: opens")).endswith("| 0.5 | 0.1 | 400 | 60 |")
    assert next(line for line in lines if "the instance maps" in line).endswith("| 40 |")
    assert ": met (60 times, 400 MB)." in verdict({"rows": rows})
    rows["second read"]["peak_mb"] = 401.0
    assert ": not met" in verdict({"rows": rows})
    rows["second read"] = {"seconds": 0.7, "peak_mb": 100.0}
    assert ": not met" in verdict({"rows": rows})
    assert (faster(1234.5), faster(1.234)) == ("1,234", "1.2")

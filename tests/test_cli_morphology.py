"""The command `policy-search data morphology`: its tables at 80 columns, its files, its refusals."""

from __future__ import annotations

import csv
import json
from functools import partial

import numpy as np
import pytest
from PIL import Image

from policy_search import cli_morphology
from policy_search.cells import resolve
from tests.conftest import write_livecell


@pytest.fixture
def morphology(call_policy_search, monkeypatch):
    """Call the command on a terminal of 80 columns; return (exit code, standard output, standard error)."""
    monkeypatch.setattr(cli_morphology.console, "_width", 80)
    return partial(call_policy_search, "data", "morphology")


def table(text: str, heading: str) -> dict[str, list[str]]:
    """Rows of the table whose heading starts so, by the first column."""
    lines = text.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith(heading))
    rows = lines[first + 1 : lines.index("", first)]
    return {row.split()[0]: row.split()[1:] for row in rows}


def areas(root, name: str, *splits: str) -> np.ndarray:
    found = [resolve(name, split, root) for split in splits]
    return np.concatenate([d.instances(r).areas() for d in found for r in d])


def test_all_splits_that_are_there_and_the_files_beside(morphology, livecell_root, tmp_path):
    out = tmp_path / "deep" / "fig.png"
    code, text, err = morphology("--data", "A172,BV2", "--root", livecell_root, "--source", "a-172", "--out", out)
    assert (code, err) == (0, "")
    *lines, wrote = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "A172,BV2: 108 cells in 9 images (train 4, val 2, test 3)"
    assert table(text, "cell type")["A172"][:3] == ["7", "4", "84"]
    a172 = areas(livecell_root, "A172", "train", "val", "test")
    bv2 = areas(livecell_root, "BV2", "train", "test")
    sizes = table(text, "size, px²")
    expected = [f"{q:,.0f}" for q in np.percentile(a172, (5, 25, 50, 75, 95))]
    assert sizes["A172"] == [*expected, "1.00", "1.00", "50%"]
    ratio = np.median(bv2) / np.median(a172)
    larger = np.mean(np.sign(bv2[:, None] - a172[None]) / 2 + 0.5)
    assert sizes["BV2"][5:] == [f"{ratio:.2f}", f"{ratio**0.5:.2f}", f"{larger:.0%}"]
    assert f"Farthest: BV2 cells are {ratio:.2f}× the area of A172's." in lines
    assert set(table(text, "convexity")) == {"A172", "BV2"}
    assert "vertices" not in text

    files = {"fig.png", "fig.csv", "fig.summary.json"}
    assert {p.name for p in out.parent.iterdir()} == files
    assert all(name in wrote for name in files)
    with Image.open(out) as picture:
        assert picture.width > 800
    with out.with_suffix(".csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 108
    summary = json.loads(out.with_suffix(".summary.json").read_text())
    assert (summary["config"]["data"], summary["config"]["split"]) == (["A172,BV2"], None)
    found = {row["label"]: row for row in summary["types"]}
    assert found["BV2"]["area_ratio"] == pytest.approx(ratio)
    assert found["A172"]["area"]["p95"] == pytest.approx(np.percentile(a172, 95))


def test_one_split_whole_cells_and_vertices(morphology, livecell_root):
    arguments = ("--data", "A172", "--root", livecell_root, "--split", "test", "--vertices")
    _, text, _ = morphology(*arguments)
    (images, _, cells, cut) = table(text, "cell type")["A172"]
    assert (images, cells) == ("2", "24")
    assert 0 < int(cut) < 24
    assert f"Cut by the image's border: {cut} cells, counted" in text
    assert table(text, "vertices")["A172"] == ["20"] * 5  # the culture's ellipses have twenty corners
    code, text, _ = morphology(*arguments, "--whole")
    assert (code, table(text, "cell type")["A172"][2:]) == (0, [str(24 - int(cut)), "0"])
    assert "Cells cut by the image's border are left out." in text


def test_data_sets_side_by_side_and_what_is_not_there(morphology, livecell_root, tmp_path):
    out = tmp_path / "fig.svg"
    code, text, _ = morphology(
        "--data", "all", "--data", "demo/BV2", "--root", livecell_root, "--split", "val", "--out", out
    )
    assert code == 0
    assert list(table(text, "size, px²")) == ["A172", "demo/BV2"]
    assert "demo/BV2 (synthetic): " in text
    assert "No annotated image of BT474, BV2, HUH7, MCF7, SHSY5Y, SKBR3, SKOV3 in val." in text.splitlines()
    assert out.read_bytes().startswith(b"<?xml")
    summary = json.loads((tmp_path / "fig.summary.json").read_text())
    assert [row["synthetic"] for row in summary["types"]] == [False, True]


def test_a_type_asked_for_by_name_is_missed_and_a_complete_demo_is_not(morphology, livecell_root):
    _, text, _ = morphology("--data", "A172, Bv-2", "--root", livecell_root, "--split", "val")
    assert "No annotated image of BV2 in val." in text
    _, text, _ = morphology("--data", "demo/BV2", "--split", "val")
    assert "No annotated" not in text


def test_a_folder_of_other_cells_lacks_none_of_the_eight(morphology, tmp_path):
    root = write_livecell(tmp_path / "other", {"HeLa": {"train": 1}})
    code, text, _ = morphology("--data", "all", "--root", root)
    assert (code, list(table(text, "size, px²"))) == (0, ["HeLa"])
    assert "No annotated" not in text


def test_the_farthest_type_may_be_smaller_and_the_figure_shows_the_source(morphology, tmp_path):
    out = tmp_path / "fig.svg"
    arguments = ("--data", "demo/BV2,MCF7,SHSY5Y", "--split", "val", "--out", out)
    _, text, _ = morphology(*arguments, "--source", "SHSY5Y")
    ratio = {name: float(row[5]) for name, row in table(text, "size, px²").items()}
    assert ratio["demo/BV2"] < ratio["demo/MCF7"] <= 1
    assert "Farthest: demo/BV2 cells are" in text
    compared = out.read_bytes()
    morphology(*arguments)
    assert compared != out.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "demo/A127"], "Did you mean A172"),
        (["--data", "demo/A172", "--data", "demo/A172"], "--data demo/A172 is given twice"),
        (["--data", "demo/A172", "--split", "unlabeled"], "--split: expected one of"),
        (["--data", "demo/A172", "--source", ""], "--source: expected a text"),
        (["--data", "demo/A172", "--split", "val", "--source", "BV2"], "--source BV2 is not among"),
        (["--data", "demo/A172", "--split", "val", "--vertices"], "no cell of demo/A172 was annotated by a polygon"),
        (["--data", "demo/A172", "--out", "f.jpg"], "--out f.jpg: expected a name"),
        (["--data", "demo/A172", "--out", "/proc/no/f.png"], "cannot write into /proc/no"),
        (["--data", "A172", "--data", "all"], "both hold A172/"),
        (["--data", "SKBR3"], "SKBR3 has no annotated image in any split"),
        (["--data", "missing.json"], "no such COCO file"),
    ],
)
def test_bad_input_gets_one_sentence_and_leaves_no_file(
    morphology, livecell_root, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.setenv("LIVECELL_ROOT", str(livecell_root))
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.rglob("*"))
    code, text, err = morphology(*arguments)
    assert (code, text, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ")
    assert message in err
    assert set(tmp_path.rglob("*")) == before


def test_a_coco_file_beside_the_figure_is_not_overwritten(morphology, tmp_path):
    square = [[2.0, 2.0, 8.0, 2.0, 8.0, 8.0, 2.0, 8.0]]
    image = {"id": 1, "file_name": "a.png", "height": 20, "width": 20, "cell_type": "HeLa"}
    content = json.dumps({"images": [image], "annotations": [{"id": 1, "image_id": 1, "segmentation": square}]})
    mine = tmp_path / "cells.json"
    mine.write_text(content)
    code, text, _ = morphology("--data", mine, "--out", tmp_path / "cells.png", "--vertices")
    assert (code, mine.read_text()) == (0, content)
    assert table(text, "size, px²")["HeLa"] == ["36"] * 5
    assert table(text, "vertices")["HeLa"] == ["4"] * 5
    assert "(train 1)" in text


def test_help_fits_and_has_an_example(morphology, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, text, _ = morphology("--help")
    assert code == 0
    assert max(map(len, text.splitlines())) <= 80
    assert "Example: policy-search data morphology --data" in text

"""The command `policy-search data import`: what comes out is what went in, to the pixel, and every loss is counted."""

from __future__ import annotations

import json
import re
import sys

import numpy as np
import pytest
import tifffile
from PIL import Image
from pycocotools import mask as coco_mask

from policy_search import cli, cli_import
from policy_search.cells.sources import resolve

rng = np.random.default_rng(0)


@pytest.fixture
def run(monkeypatch, capsys):
    """Call the command on a terminal of 80 columns; return (exit code, standard output as one line, error)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["policy-search", "data", "import", *map(str, arguments)])
        monkeypatch.setattr(cli_import.console, "width", 80)
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        out, err = capsys.readouterr()
        return code, " ".join(out.split()), err

    return call


def some_labels(factor: int = 1, shape: tuple[int, int] = (40, 50)) -> np.ndarray:
    """Blocks that touch, one label in two parts, one pixel alone."""
    labels = np.zeros(shape, np.int64)
    labels[2:8, 3:9], labels[8:12, 3:9], labels[2:8, 9:14] = 1, 2, 3
    labels[20:24, 5:9] = labels[30:33, 20:28] = 4
    labels[39, 49] = 9
    return labels * factor


def write_pair(folder, stem, labels, *, ending="_masks.tif", kind=np.uint32):
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 255, labels.shape, np.uint8)).save(folder / f"{stem}.png")
    tifffile.imwrite(folder / f"{stem}{ending}", labels.astype(kind))


def masks_of(path) -> dict[str, list[np.ndarray]]:
    """Per file name the masks, decoded by pycocotools."""
    content = json.loads(path.read_text())
    names = {e["id"]: e["file_name"] for e in content["images"]}
    found: dict[str, list[np.ndarray]] = {name: [] for name in names.values()}
    for cell in content["annotations"]:
        found[names[cell["image_id"]]].append(coco_mask.decode(cell["segmentation"]).astype(bool))
        assert coco_mask.area(cell["segmentation"]) == cell["area"]
        assert coco_mask.toBbox(cell["segmentation"]).tolist() == cell["bbox"]
    return found


def assert_same(masks: list[np.ndarray], labels: np.ndarray) -> None:
    values = [v for v in np.unique(labels) if v]
    assert len(masks) == len(values)
    for mask, value in zip(masks, values, strict=True):
        assert np.array_equal(mask, labels == value)


def test_every_label_is_the_same_mask(run, tmp_path):
    folder = tmp_path / "my images"
    kinds = {"a": (1, np.uint8), "ä": (7000, np.int32), "big": (70_001, np.uint32), "f": (300, np.float32)}
    for stem, (factor, kind) in kinds.items():
        write_pair(folder, stem, some_labels(factor), kind=kind)
    code, out, err = run(folder, "--out", tmp_path / "my.json")
    assert (code, err) == (0, "")
    assert "in: 4 images, 20 cells out: 4 images, 20 cells note: 4 cells in several parts" in out
    assert "left out" not in out
    found = masks_of(tmp_path / "my.json")
    for stem, (factor, _) in kinds.items():
        assert_same(found[f"my images/{stem}.png"], some_labels(factor))
    dataset = resolve(str(tmp_path / "my.json"))
    assert dataset.cell_types == ("my",)
    for record in dataset:
        stem = record.id.split("/")[1]
        assert np.array_equal(dataset.image(record), np.asarray(Image.open(folder / f"{stem}.png")))
        back = dataset.instances(record).label_image()
        assert np.array_equal(back, np.searchsorted(np.unique(some_labels()), some_labels()))


def test_what_is_left_out_is_counted(run, tmp_path):
    folder = tmp_path / "in"
    write_pair(folder, "good", some_labels())
    write_pair(folder, "binary", (some_labels() > 0).astype(int) * 255)
    write_pair(folder, "small", some_labels()[:30])
    Image.fromarray(np.zeros((40, 50), np.uint8)).save(folder / "small.png")
    write_pair(folder, "twice", some_labels())
    tifffile.imwrite(folder / "twice_labels.tif", some_labels().astype(np.uint8) // 2)
    Image.fromarray(np.zeros((40, 50), np.uint8)).save(folder / "bare.png")
    write_pair(folder, "empty", some_labels() * 0)
    code, out, _ = run(folder, "--out", tmp_path / "my.json")
    assert code == 0
    assert "in: 6 images, 10 cells out: 2 images, 5 cells left out: 4 images, 5 cells" in out
    for words in ("1 image, 1 cell: the label image is a mask", "1 image, 4 cells: image and label image differ",
                  "1 image, 0 cells: several label images fit", "1 image, 0 cells: no label image",
                  "1 images without a cell"):  # fmt: skip
        assert words in out
    code, out, _ = run(folder, "--out", tmp_path / "my.json", "--split-components", "--keep-unlabelled", "--force")
    assert "in: 6 images, 13 cells out: 4 images, 9 cells left out: 2 images, 4 cells" in out
    assert [r.id for r in resolve(str(tmp_path / "my.json"), "unlabeled")] == ["my/bare"]
    parts = masks_of(tmp_path / "my.json")["in/binary.png"]
    assert sorted(int(part.sum()) for part in parts) == [1, 16, 24, 90]
    assert np.array_equal(np.any(parts, axis=0), some_labels() > 0)


def test_parts_that_meet_at_a_corner_are_one_cell(run, tmp_path):
    mask = np.zeros((40, 50), np.uint8)
    mask[2:5, 2:5] = mask[5:8, 5:8] = mask[20:23, 20:23] = 1
    write_pair(tmp_path / "in", "a", mask)
    assert run(tmp_path / "in", "--out", tmp_path / "my.json", "--split-components")[0] == 0
    assert sorted(int(part.sum()) for part in masks_of(tmp_path / "my.json")["in/a.png"]) == [9, 18]


def test_a_label_image_for_two_images_is_not_guessed(run, tmp_path):
    write_pair(tmp_path / "in", "a", some_labels())
    write_pair(tmp_path / "in", "b", some_labels())
    Image.fromarray(np.zeros((40, 50), np.uint8)).save(tmp_path / "in" / "a_img.png")
    code, out, _ = run(tmp_path / "in", "--out", tmp_path / "my.json")
    assert code == 0
    assert "2 images, 0 cells: the label image fits several images" in out
    assert list(masks_of(tmp_path / "my.json")) == ["in/b.png"]


def test_more_cells_than_can_be_numbered(run, tmp_path):
    write_pair(tmp_path / "in", "a", np.arange(65_537).reshape(1, -1))
    code, _, err = run(tmp_path / "in", "--out", tmp_path / "my.json")
    assert code == 2
    assert "a_masks.tif" in err
    assert "holds 65536" in err


def test_labels_that_agree_are_no_ambiguity(run, tmp_path):
    write_pair(tmp_path / "in", "a", some_labels())
    np.save(tmp_path / "in" / "a_seg.npy", {"masks": some_labels()}, allow_pickle=True)
    assert run(tmp_path / "in", "--out", tmp_path / "my.json")[0] == 0
    assert_same(masks_of(tmp_path / "my.json")["in/a.png"], some_labels())


def test_types_and_wells(run, tmp_path):
    for name in ("skov3/images/p1_s1", "skov3/images/p1_s2", "Mine/images/p2_s1"):
        folder, stem = name.rsplit("/", 1)
        write_pair(tmp_path / folder, stem, some_labels())
    out = tmp_path / "out" / "my.json"
    assert run(tmp_path, "--out", out)[0] == 0
    assert {(r.cell_type, r.well) for r in resolve(str(out))} == {
        ("Mine", "Mine/Mine/images/p2_s1"),
        ("SKOV3", "SKOV3/skov3/images/p1_s1"),
        ("SKOV3", "SKOV3/skov3/images/p1_s2"),
    }
    assert run(tmp_path, "--out", out, "--force", "--type", "sk-ov-3", "--well", r"^(p\d)")[0] == 0
    assert {(r.cell_type, r.well) for r in resolve(str(out))} == {("SKOV3", "SKOV3/p1"), ("SKOV3", "SKOV3/p2")}
    code, _, err = run(tmp_path, "--out", out, "--force", "--well", "(q)")
    assert code == 2
    assert "--well (q) does not fit the file name" in err


def test_wells_are_never_in_two_splits(run, tmp_path):
    for well in range(8):
        for site in range(1 + well % 3):
            write_pair(tmp_path / "in", f"w{well}_s{site}", some_labels())
    options = ("--well", r"^(w\d)", "--split", "0.6,0.2,0.2")
    code, out, _ = run(tmp_path / "in", "--out", tmp_path / "my.json", *options)
    assert code == 0
    assert f"Next: policy-search data check --data {tmp_path}/my_train.json" in out
    splits = {s: resolve(str(tmp_path / "my_train.json"), s) for s in ("train", "val", "test")}
    wells = [{r.well for r in d} for d in splits.values()]
    assert sum(map(len, wells)) == len(set.union(*wells)) == 8
    sizes = [len(d) for d in splits.values()]
    assert sum(sizes) == 15
    assert abs(sizes[0] - 9) <= 2
    before = {p: p.read_bytes() for p in tmp_path.glob("my_*.json")}
    assert len(before) == 3
    run(tmp_path / "in", "--out", tmp_path / "my.json", *options, "--force")
    assert all(p.read_bytes() == content for p, content in before.items())
    code, _, err = run(tmp_path / "in", "--out", tmp_path / "my.json", "--split", "0.5,0.5,0", "--force")
    assert code == 2
    assert "my_test.json would be read as a split" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--split", "0.5,0.6,0"), "sum up to 1"), (("--split", "a"), "three shares"), (("--well", "("), "no regular"),
        (("--well", "a"), "one group"), (("--page", "0"), "--page"), (("--split", "0.5,0.25,0.25"), "too few wells"),
        (("--labels", "x*"), "no image file"), (("--page", "2"), "no page 2"),
    ],
)  # fmt: skip
def test_bad_input_writes_nothing(run, tmp_path, options, message):
    write_pair(tmp_path / "in", "a", some_labels())
    write_pair(tmp_path / "in", "b", some_labels())
    code, out, err = run(tmp_path / "in", "--out", tmp_path / "my.json", *options)
    assert (code, out) == (2, "")
    assert message in err
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_names_and_files_that_are_there_are_kept(run, tmp_path):
    write_pair(tmp_path / "in", "a", some_labels())
    for name, message in (("latest.json", "holds 'test'"), ("my.txt", "a .json file")):
        assert message in run(tmp_path / "in", "--out", tmp_path / name)[2]
    (tmp_path / "my.json").write_text("mine")
    code, _, err = run(tmp_path / "in", "--out", tmp_path / "my.json")
    assert code == 2
    assert "--force" in err
    assert (tmp_path / "my.json").read_text() == "mine"
    (tmp_path / "none").mkdir()
    code, _, err = run(tmp_path / "none", "--out", tmp_path / "other.json")
    assert code == 2
    assert re.search("no labelled image", err)


def test_a_channel_of_a_stack_is_what_is_read_later(run, tmp_path):
    stack = rng.integers(0, 255, (3, 2, 40, 50), np.uint8)
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in" / "s.ome.tif", stack, ome=True, metadata={"axes": "ZCYX"})
    tifffile.imwrite(tmp_path / "in" / "s.ome_masks.tif", some_labels().astype(np.uint16))
    code, _, err = run(tmp_path / "in", "--out", tmp_path / "my.json")
    assert code == 2
    assert "3 z positions, 2 channels" in err
    assert run(tmp_path / "in", "--out", tmp_path / "my.json", "--page", 3, "--channel", 2)[0] == 0
    dataset = resolve(str(tmp_path / "my.json"))
    assert np.array_equal(dataset.image(dataset.records[0]), stack[2, 1])
    assert_same(masks_of(tmp_path / "my.json")["in/s.ome.tif"], some_labels())

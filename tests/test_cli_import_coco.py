"""COCO files of other tools through `policy-search data import`, and real cells there and back."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
from PIL import Image
from pycocotools import mask as coco_mask

from policy_search.cells.sources import resolve
from tests.test_cli_import import assert_same, masks_of, run  # noqa: F401 (a fixture)

RING = [2.3, 2, 9.7, 3, 8, 11.5, 3, 9]
SIZE = (20, 30)


def entry(number: int, name: str, **more: object) -> dict:
    return {"id": number, "file_name": name, "height": SIZE[0], "width": SIZE[1], **more}


def cell(image: int, shape: object, **more: object) -> dict:
    return {"id": 7, "image_id": image, "segmentation": shape, **more}


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "in"
    (folder / "images").mkdir(parents=True)
    for value, name in enumerate("abc"):
        Image.fromarray(np.full(SIZE, 9 + value, np.uint8)).save(folder / "images" / f"{name}.png")
    return folder


def test_several_files_become_one(run, folder):  # noqa: F811
    mask = np.zeros(SIZE, np.uint8)
    mask[4:9, 20:28] = 1
    compressed = coco_mask.encode(np.asfortranarray(mask))
    packed = {"size": list(SIZE), "counts": compressed["counts"].decode()}
    runs = np.flatnonzero(np.diff(mask.T.ravel(), prepend=0, append=0)).tolist()
    loose = {"size": list(SIZE), "counts": np.diff([0, *runs, mask.size]).tolist()}
    first = {
        "images": [entry(5, "a.png", well="W1", cell_type="a-172"), entry(6, "gone.png"), entry(8, "c.png", width=31)],
        "annotations": [
            cell(5, [RING]), cell(5, packed), cell(5, loose, iscrowd=1), cell(5, [[1, 1]]), cell(6, [RING]),
            cell(8, [RING]), cell(99, [RING]), cell(99, [RING]),
        ],
    }  # fmt: skip
    second = {"images": [entry(5, "b.png"), entry(6, "a.png")], "annotations": [cell(5, loose), cell(6, [RING])]}
    for name, content in (("one.json", first), ("two.json", second)):
        (folder / name).write_text(json.dumps(content))
    (folder / "other.json").write_text('{"not": "coco"}')
    code, out, err = run(folder, "--out", folder / "my.json")
    assert (code, err) == (0, "")
    assert "in: 5 images, 10 cells out: 2 images, 3 cells left out: 3 images, 7 cells" in out
    found = masks_of(folder / "my.json")
    ring = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects([RING], *SIZE))).astype(bool)
    assert [np.array_equal(a, b) for a, b in zip(found["images/a.png"], (ring, mask), strict=True)] == [True, True]
    assert np.array_equal(found["images/b.png"][0], mask)
    assert {(r.cell_type, r.well) for r in resolve(str(folder / "my.json"))} == {("A172", "W1"), ("my", "my/images/b")}
    ids = [a["id"] for a in json.loads((folder / "my.json").read_text())["annotations"]]
    assert ids == [1, 2, 3]
    before = (folder / "my.json").read_bytes()
    assert run(folder, "--out", folder / "my.json", "--force")[0] == 0  # what was written is not read as a source
    assert (folder / "my.json").read_bytes() == before


def test_images_far_from_their_annotations(run, folder):  # noqa: F811
    (folder / "annotations" / "deep").mkdir(parents=True)
    content = {"images": [entry(1, "b.png")], "annotations": [cell(1, [RING])]}
    (folder / "annotations" / "deep" / "one.json").write_text(json.dumps(content))
    assert run(folder, "--out", folder / "annotations" / "my.json")[0] == 0
    dataset = resolve(str(folder / "annotations" / "my.json"))
    assert (dataset.image(dataset.records[0]) == 10).all()


def test_a_damaged_code_is_a_sentence(run, folder):  # noqa: F811
    shape = {"size": list(SIZE), "counts": "0"}
    (folder / "one.json").write_text(json.dumps({"images": [entry(1, "a.png")], "annotations": [cell(1, shape)]}))
    code, _, err = run(folder, "--out", folder / "my.json")
    assert code == 2
    assert "one.json: cells of a.png cannot be read" in err
    assert not (folder / "my.json").exists()


def test_coco_beside_label_images_is_not_guessed(run, folder):  # noqa: F811
    (folder / "one.json").write_text(json.dumps({"images": [entry(1, "a.png")], "annotations": [cell(1, [RING])]}))
    labels = np.zeros(SIZE, np.uint8)
    labels[3:6, 3:6] = 1
    Image.fromarray(labels).save(folder / "images" / "b_masks.png")
    code, _, err = run(folder, "--out", folder / "my.json")
    assert code == 2
    assert "one.json" in err
    assert run(folder / "one.json", "--out", folder / "my.json")[0] == 0
    assert list(masks_of(folder / "my.json")) == ["images/a.png"]
    assert run(folder, "--out", folder / "my.json", "--force", "--labels", "**/*_masks.png")[0] == 0
    assert_same(masks_of(folder / "my.json")["images/b.png"], labels)


def test_real_cells_as_label_images_come_back(run, real_root, tmp_path):  # noqa: F811
    wanted = {}
    for name in ("BT474", "SKOV3"):
        dataset = resolve(name, "test", real_root)
        record = dataset.records[0]
        labels = dataset.instances(record).label_image().astype(np.uint32) * 100
        folder, stem = tmp_path / "in" / name, record.id.split("/")[-1]
        folder.mkdir(parents=True)
        tifffile.imwrite(folder / f"{stem}.tif", dataset.image(record))
        tifffile.imwrite(folder / f"{stem}_masks.tif", labels)
        wanted[f"in/{name}/{stem}.tif"] = labels
    assert run(tmp_path / "in", "--out", tmp_path / "my.json")[0] == 0
    found = masks_of(tmp_path / "my.json")
    assert found.keys() == wanted.keys()
    for name, labels in wanted.items():
        assert len(found[name]) > 20
        assert_same(found[name], labels)
    assert {r.cell_type for r in resolve(str(tmp_path / "my.json"))} == {"BT474", "SKOV3"}

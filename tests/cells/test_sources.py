"""What `--data` accepts, and what it says to what it cannot take."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from policy_search.cells import DataError, cell_type, resolve
from policy_search.cells.checks import check_dataset, duplicate_pairs
from policy_search.cells.coco import read_coco
from policy_search.cells.dataset import coco_ground_truth
from policy_search.cells.instances import InstanceMap
from policy_search.cells.livecell import types_in
from tests.conftest import write_livecell


@pytest.mark.parametrize(
    ("spelt", "name"),
    [
        ("sk-ov-3", "SKOV3"),
        ("SkBr3", "SKBR3"),
        ("SH-SHY5Y", "SHSY5Y"),
        ("huh-7", "HUH7"),
        ("a172", "A172"),
        ("BV-2", "BV2"),
    ],
)
def test_every_spelling_finds_its_type(spelt, name):
    assert cell_type(spelt).name == name


def test_unknown_type_names_the_nearest():
    with pytest.raises(DataError, match="Did you mean SKOV3"):
        cell_type("SKOV")


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("mapping", [False, True])
def test_both_layouts_and_both_annotation_forms_read_the_same(tmp_path, flat, mapping):
    plan = {"A172": {"train": 2, "test": 1}}
    plain = resolve("A172", "train", write_livecell(tmp_path / "plain", plan))
    other = resolve("A172", "train", write_livecell(tmp_path / "other", plan, flat=flat, mapping=mapping))
    assert plain.fingerprint() == other.fingerprint()
    assert [r.well for r in other] == ["A172/A1", "A172/A1"]


def test_missing_splits_and_unlabelled_images(livecell_root):
    assert types_in(livecell_root) == ("A172", "BV2", "SKBR3")
    assert len(resolve("all", "train", livecell_root)) == 4
    assert resolve("all", "test", livecell_root).cell_types == ("A172", "BV2")
    with pytest.raises(DataError, match="BV2 has no val images"):
        resolve("BV2", "val", livecell_root)
    unlabeled = resolve("SKBR3", "unlabeled", livecell_root)
    assert len(unlabeled) == 1
    assert not unlabeled.records[0].annotated
    with pytest.raises(DataError, match="unlabelled"):
        unlabeled.instances(unlabeled.records[0])
    assert len(resolve("SKBR3", "train", livecell_root, missing_ok=True)) == 0
    with pytest.raises(ValueError, match="unlabelled"):
        coco_ground_truth([(unlabeled.records[0], np.zeros((2, 2), np.uint8), InstanceMap.empty(2, 2))])


def test_instances_are_all_read(livecell_root):
    dataset = resolve("A172", "train", livecell_root)
    for record in dataset:
        coco, image_id = dataset.reader.sources[record.id]
        direct = InstanceMap.from_polygons(
            [a["segmentation"] for a in coco.annotations[image_id]], record.height, record.width
        )
        np.testing.assert_array_equal(dataset.instances(record).layers, direct.layers)


def test_damaged_and_missing_files_are_named(livecell_root):
    train = livecell_root / "annotations" / "LIVECell_single_cells" / "a172" / "train.json"
    good = train.read_bytes()
    dataset = resolve("A172", "train", livecell_root)
    picture = dataset.reader.files[dataset.records[0].id]
    whole = picture.read_bytes()
    picture.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"damaged.*A172_Phase_A1_1_00d00h00m_1\.tif"):
        dataset.image(dataset.records[0])
    findings = list(check_dataset(dataset))
    assert [f.level for f in findings] == ["error"]
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(picture)
    with pytest.raises(DataError, match="do not belong together"):
        dataset.image(dataset.records[0])
    picture.unlink()
    with pytest.raises(DataError, match="missing"):
        dataset.image(dataset.records[0])
    train.write_bytes(good[: len(good) // 2])
    with pytest.raises(DataError, match=r"train\.json is not JSON"):
        resolve("A172", "train", livecell_root)


def test_where_livecell_is_looked_for(monkeypatch, tmp_path, livecell_root):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "nothing"))
    monkeypatch.delenv("LIVECELL_ROOT", raising=False)
    with pytest.raises(DataError, match="demo/A172"):
        resolve("A172")
    monkeypatch.setenv("LIVECELL_ROOT", str(livecell_root))
    assert len(resolve("A172")) == 3
    with pytest.raises(DataError, match="not a folder"):
        resolve("A172", root=tmp_path / "nowhere")


def test_a_coco_file_with_rle_and_splits_beside_it(livecell_root, tmp_path):
    source = read_coco(livecell_root / "annotations" / "LIVECell_single_cells" / "a172" / "train.json")
    images = list(source.images.values())[:1]
    polygons = [a["segmentation"] for a in source.annotations[100]]
    instances = InstanceMap.from_polygons(polygons, 96, 112)
    annotations = [
        {
            "id": i,
            "image_id": 100,
            "category_id": 1,
            "segmentation": {"size": r["size"], "counts": r["counts"].decode()},
        }
        for i, r in enumerate(instances.rles())
    ]
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "cells_train.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    name = f"{folder}/cells_train.json:{livecell_root}/images"
    dataset = resolve(name)
    assert dataset.instances(dataset.records[0]).areas().tolist() == instances.areas().tolist()
    assert dataset.image(dataset.records[0]).shape == (96, 112)
    assert len(resolve(name, "test", missing_ok=True)) == 0, "a training file never serves as test"
    (folder / "cells_test.json").write_text(json.dumps({"images": images, "annotations": []}))
    assert len(resolve(name, "test")) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1,2]", "not a COCO file"),
        ('{"images": [{"id": 1}]}', "lacks"),
        ('{"images": 3}', "list or a mapping"),
        ("{", "JSON"),
    ],
)
def test_broken_coco_files(tmp_path, text, message):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        resolve(str(path))


def test_deep_and_colour_images_come_as_8_bit(tmp_path):
    from policy_search.cells.images import read_image

    ramp = np.linspace(1000, 3000, 100 * 100).reshape(100, 100).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "deep.tif")
    deep = read_image(tmp_path / "deep.tif")
    assert deep.dtype == np.uint8
    assert deep.min() == 0
    assert deep.max() == 255
    np.testing.assert_allclose(deep.astype(float), np.clip((ramp - 1002.0) / 1996 * 255, 0, 255), atol=1.0)
    grey = np.random.default_rng(0).integers(0, 255, (8, 9), np.uint8)
    Image.fromarray(np.repeat(grey[..., None], 3, 2)).save(tmp_path / "rgb.png")
    np.testing.assert_array_equal(read_image(tmp_path / "rgb.png"), grey)
    colour = np.random.default_rng(0).integers(0, 255, (8, 9, 3), np.uint8)
    Image.fromarray(colour).save(tmp_path / "colour.png")
    np.testing.assert_array_equal(read_image(tmp_path / "colour.png"), colour)


def test_duplicates_are_found():
    square = [[0.0, 0.0, 10.0, 0.0, 10.0, 10.0, 0.0, 10.0]]
    shifted = [[5.0, 5.0, 15.0, 5.0, 15.0, 15.0, 5.0, 15.0]]
    assert duplicate_pairs(InstanceMap.from_polygons([square, shifted, square], 30, 30)) == [(1, 3)]


def test_real_livecell_counts(real_root):
    """Counts of the provenance note of the small real subset."""
    if "mini" not in real_root.name:
        pytest.skip("counts are those of the small subset")
    counts = {}
    for split in ("train", "val", "test"):
        for record in (data := resolve("all", split, real_root)):
            counts[record.cell_type, split] = counts.get((record.cell_type, split), 0) + len(data.instances(record))
    assert counts["A172", "train"] == 147
    assert counts["MCF7", "test"] == 768
    assert counts["SKOV3", "train"] == 356
    assert sum(counts.values()) == 3557
    assert len(resolve("all", "unlabeled", real_root)) == 47


def test_types_that_are_not_livecell_in_its_layout(real_root):
    """A second real data set: its own type names, no wells in the file names."""
    root = real_root.parent / "usiigaci-mini"
    if not root.is_dir():
        pytest.skip(f"no {root.name} beside {real_root.name}")
    assert types_in(root) == ("UsiigaciA", "UsiigaciB")
    train = resolve("usiigacia", "train", root)
    assert len(train) == 8
    assert sum(len(train.instances(record)) for record in train) == 454
    assert train.image(train.records[0]).shape == (1022, 1024)
    assert len({record.well for record in train}) == 8
    with pytest.raises(DataError, match=r"Did you mean Usiigaci[AB]"):
        resolve("UsiigaciC", "train", root)

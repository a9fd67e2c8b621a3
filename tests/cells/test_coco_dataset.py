"""COCO files whose entries name planes, share a file name, or are unlabelled."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
from PIL import Image

from policy_search.cells.errors import DataError
from policy_search.cells.sources import resolve


def entry(number: int, name: str, **more: object) -> dict:
    return {"id": number, "file_name": name, "height": 20, "width": 30, **more}


def square(number: int, image: int, x: int) -> dict:
    return {"id": number, "image_id": image, "segmentation": [[x, 2, x + 5, 2, x + 5, 8, x, 8]]}


def write(folder, images, annotations=(), name="my.json"):
    (folder / name).write_text(json.dumps({"images": images, "annotations": list(annotations)}))
    return str(folder / name)


def grey(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((20, 30), value, np.uint8)).save(path)


def test_equal_names_in_two_folders_are_two_images(tmp_path):
    names = ["plate a/x.png", "Plätte/x.png", "y.png"]
    for value, name in enumerate(names):
        grey(tmp_path / name, value)
    data = write(tmp_path, [entry(i, n) for i, n in enumerate(names)], [square(i, i, 3 + 7 * i) for i in range(3)])
    dataset = resolve(data)
    assert [r.id for r in dataset] == ["my/Plätte/x", "my/plate a/x", "my/y"]
    for record, value in zip(dataset, (1, 0, 2), strict=True):
        assert (dataset.image(record) == value).all()
        assert dataset.instances(record).boxes().tolist() == [[3 + 7 * value, 2, 8 + 7 * value, 8]]


def test_a_name_in_two_folders_is_never_looked_for_elsewhere(tmp_path):
    grey(tmp_path / "a" / "x.png", 1)
    dataset = resolve(write(tmp_path, [entry(1, "a/x.png"), entry(2, "b/x.png")]))
    with pytest.raises(DataError, match="my/b/x is missing"):
        dataset.image(dataset.records[1])
    lone = resolve(write(tmp_path, [entry(1, "elsewhere/x.png")]))
    assert (lone.image(lone.records[0]) == 1).all()


def test_pages_of_one_file_are_images_of_their_own(tmp_path):
    stack = np.arange(2 * 20 * 30, dtype=np.uint16).reshape(2, 20, 30).astype(np.uint8)
    stack[1] //= 2
    tifffile.imwrite(tmp_path / "s.tif", stack, photometric="minisblack")
    dataset = resolve(write(tmp_path, [entry(1, "s.tif", page=1), entry(2, "s.tif", page=2)]))
    assert [r.id for r in dataset] == ["my/s.tif@page1", "my/s.tif@page2"]
    for record, plane in zip(dataset, stack, strict=True):
        assert np.array_equal(dataset.image(record), plane)
    keys = [dataset.reader.content_key(r) for r in dataset]
    assert keys[0] != keys[1]
    with pytest.raises(DataError, match=r"page of image s\.tif should count from 1, found 0"):
        resolve(write(tmp_path, [entry(1, "s.tif", page=0)]))


def test_unlabelled_images_are_a_split_of_their_own(tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        grey(tmp_path / name, 5)
    images = [entry(1, "a.png"), entry(2, "b.png", annotated=False)]
    for name in ("my.json", "my_train.json"):
        data = write(tmp_path, images, [square(1, 1, 4)], name)
        assert [r.id.split("/")[1] for r in resolve(data)] == ["a"]
        (record,) = resolve(data, "unlabeled")
        assert record.id.endswith("/b")
        assert not record.annotated
        assert not record.complete
    write(tmp_path, [entry(3, "c.png", annotated=False)], name="my_unlabeled.json")
    assert [r.id for r in resolve(data, "unlabeled")] == ["my_unlabeled/c"]

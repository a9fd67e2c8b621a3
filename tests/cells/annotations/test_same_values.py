"""A large annotation file gives, value for value, what `json.loads` gives."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy_search.cells import DataError, resolve
from policy_search.cells.annotations import fragment, pack, source, stream
from policy_search.cells.coco import annotations_key, instances_of, read_coco
from policy_search.cells.instances import InstanceMap
from policy_search.cells.morphology import annotated_vertices
from tests.cells.annotations.odd import DRAWABLE, ODD, by_json, content, digest, text
from tests.conftest import write_livecell


@pytest.fixture
def large(monkeypatch, tmp_path):
    """Every file counts as large; reads and portions so small that all is cut up."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(source, "SMALL", 0)
    monkeypatch.setattr(stream, "CHUNK", 37)
    monkeypatch.setattr(pack, "PENDING", 4)


def assert_same(path):
    images, annotations = by_json(path)
    coco = read_coco(path)
    assert text(coco.images) == text(images)
    assert list(coco.annotations) == list(annotations)
    assert len(coco.annotations) == len(annotations)
    for image_id in [*annotations, *images]:
        expected = annotations.get(image_id, [])
        assert text(coco.annotations.get(image_id, [])) == text(expected)
        assert (image_id in coco.annotations) == (image_id in annotations)
        assert annotations_key(coco, image_id) == digest(expected)
    return coco


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("mapping", [False, True])
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32-le"])
def test_every_oddity(tmp_path, mapping, indent, encoding):
    path = tmp_path / "odd.json"
    found = content(mapping=mapping, images_mapping=mapping)
    path.write_bytes(json.dumps(found, indent=indent, ensure_ascii=False).encode(encoding, "surrogatepass"))
    coco = assert_same(path)
    assert isinstance(coco.annotations, source.PackedAnnotations)
    rest = {key: found[key] for key in ("info", "version", "categories", "licenses")}
    assert source.read(path, *source.key_of(path))[0].rest == rest
    assert coco.categories == {1, "b"}
    assert coco.replaced == (found["images"]["1"] if mapping else found["images"][1],)


@pytest.mark.parametrize("numbers", [
    range(300), range(262_100, 262_144), range(262_120, 262_160), range(-20, 20), range(2**31 - 9, 2**31 + 9),
    range(9_999, 1_000_000, 997),
])  # fmt: skip
def test_the_text_of_polygons_is_jsons(numbers):
    """Of images that hold polygons of hundredths only, in one ring or several."""
    values = [number / 100 for number in numbers]
    entries = [
        {"image_id": 1, "segmentation": shape}
        for shape in ([values[:6], values[6:9], values[9:10]], [values[10:]], [values[3:5], values])
    ]
    data, digested = fragment.pack(entries)
    assert digested.decode() == json.dumps([entry["segmentation"] for entry in entries])[1:-1]
    assert text(fragment.unpack(data)) == text(entries)


@pytest.mark.usefixtures("large")
def test_annotations_of_an_image_stay_together(tmp_path):
    """As far as they are together in the file, however many there are."""
    path = tmp_path / "cells.json"
    entries = [{"image_id": i, "segmentation": [[float(n)]]} for i in range(5) for n in range(3)]
    path.write_text(json.dumps({"images": [], "annotations": entries}))
    assert len(assert_same(path).annotations._pack._table) == 5


@pytest.mark.usefixtures("large")
def test_instance_maps_and_vertices(tmp_path, monkeypatch):
    path = tmp_path / "cells.json"
    entries = [{"image_id": 1, **ODD[name]} for name in DRAWABLE]
    image = {"id": 1, "file_name": "a.tif", "height": 20, "width": 24}
    path.write_text(json.dumps({"images": [image], "annotations": entries}))
    packed = resolve(str(path))
    monkeypatch.setattr(source, "SMALL", 1 << 20)
    other = tmp_path / "same.json"
    other.write_bytes(path.read_bytes())
    plain = resolve(str(other))
    assert isinstance(read_coco(other).annotations, dict)
    layers = packed.instances(packed.records[0]).layers
    np.testing.assert_array_equal(layers, plain.instances(plain.records[0]).layers)
    drawn = InstanceMap.from_polygons([ODD["two rings"]["segmentation"]], 20, 24)
    assert (layers == 1 + DRAWABLE.index("two rings")).sum() == drawn.areas()[0]
    vertices = annotated_vertices(packed, packed.records[0]).tolist()
    assert vertices == annotated_vertices(plain, plain.records[0]).tolist()
    assert vertices[:4] == [4, 4, 7, 4]
    assert instances_of(read_coco(path), 1).ids.tolist() == plain.instances(plain.records[0]).ids.tolist()


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("body", [
    '{"images": [], "annotations": [{"image_id": 1.5, "segmentation": []}, {"image_id": true, "segmentation": 0}]}',
    '{"images": [], "annotations": [{"image_id": NaN, "segmentation": 2}, {"image_id": NaN, "segmentation": [1]}]}',
    '{"images": [], "annotations": [{"image_id": null, "segmentation": [[1.0, 2.0, 3.0]], "image_id": 3}]}',
    '{"images": [{"id": 3, "file_name": "a", "height": 1, "width": 2, "id": 4}], "annotations": []}  \n',
])  # fmt: skip
def test_repeated_keys_and_strange_ids(tmp_path, body):
    path = tmp_path / "odd.json"
    path.write_text(body)
    assert_same(path)


_numbers = st.one_of(
    st.integers(-(2**66), 2**66), st.floats(), st.integers(-(10**7), 10**7).map(lambda k: k / 100)
)  # fmt: skip
_rings = st.lists(st.lists(st.one_of(st.integers(0, 80_000).map(lambda k: k / 100), _numbers), max_size=9), max_size=3)
_values = st.recursive(
    st.one_of(st.none(), st.booleans(), _numbers, st.text(st.characters(), max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=6,
)
_entries = st.builds(
    lambda extra, image_id, shape: {**extra, "image_id": image_id, "segmentation": shape},
    st.dictionaries(st.sampled_from(["id", "bbox", "area", "iscrowd", "ü", "segmentation"]), _values, max_size=4),
    st.one_of(st.integers(0, 3), st.sampled_from(["a", 2**70])),
    st.one_of(_rings, _values),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(_entries, max_size=12), st.booleans(), st.sampled_from([None, 0, 1]), st.integers(1, 5))
def test_round_trip(annotations, mapping, indent, pending):
    body = {str(i): a for i, a in enumerate(annotations)} if mapping else annotations
    data = json.dumps({"annotations": body, "images": []}, indent=indent).encode()
    memory, file = io.BytesIO(), io.BytesIO(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pack, "PENDING", pending)
        patch.setattr(stream, "CHUNK", 16)
        pack.write(memory, stream.pieces(file.read, Path("x.json")), Path("x.json"))
    opened = pack.Pack.held(memory)
    grouped: dict = {}
    for entry in json.loads(data)["annotations"].values() if mapping else json.loads(data)["annotations"]:
        grouped.setdefault(entry["image_id"], []).append(entry)
    assert list(opened.places) == list(grouped)
    for image_id, entries in grouped.items():
        assert text(opened.annotations(image_id)) == text(entries)
        assert opened.digest(image_id) == digest(entries)


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[1, 2]", "is not a COCO file"),
        ('{"annotations": []}', "is not a COCO file"),
        ('{"images": 3, "annotations": []}', "'images' should be a list or a mapping of objects, found int"),
        ('{"images": [], "annotations": [4]}', "'annotations' should be a list or a mapping of objects, found list"),
        ('{"images": [{"id": 1}]}', "lacks file_name, height, width"),
        ('{"images": [], "annotations": [{"image_id": 1}]}', "lacks image_id or segmentation"),
        ('{"images": [], "annotations": [{"image_id": [], "segmentation": 1}]}', "image_id should be a number or text"),
        ('{"images": [], "annotations": [{"image_id": 1, "segmentation": [[1.0, 2', "truncated: fetch it again"),
        ('{"images": [], "x": ' + "[" * 100_000, "is not JSON"),
        ('{"annotations": [], "images": [], "annotations": []}', "the key 'annotations' stands twice"),
        ('{"images": [], "annotations": {"a": {"image_id": 1, "segmentation": 0}, "a": {}}}', "key 'a' stands twice"),
    ],
)
def test_broken_files_are_named_and_leave_nothing(tmp_path, body, message):
    path = tmp_path / "broken.json"
    path.write_text(body)
    for _ in range(2):
        with pytest.raises(DataError, match=message) as caught:
            read_coco(path)
        assert str(path) in str(caught.value)
    assert [p.name for p in (tmp_path / "cache").rglob("*") if p.is_file()] in ([], [".lock"])


@pytest.mark.usefixtures("large")
def test_types_of_a_union_file(tmp_path):
    """Of a file over all types, an image's annotations are read when its type is asked for, and only then."""
    root = write_livecell(tmp_path / "own", {"A172": {"train": 3}, "SkBr3": {"train": 2}})
    images, annotations = [], []
    for number, kind in enumerate(("a172", "skbr3")):
        part = json.loads((root / "annotations" / "LIVECell_single_cells" / kind / "train.json").read_text())
        images += [{**e, "id": e["id"] + 1000 * number} for e in part["images"]]
        annotations += [{**a, "image_id": a["image_id"] + 1000 * number} for a in part["annotations"]]
    images.append({"id": 1, "file_name": "unnamed.tif", "height": 96, "width": 112})
    target = tmp_path / "union" / "annotations" / "LIVECell" / "livecell_coco_train.json"
    target.parent.mkdir(parents=True)
    target.write_text(json.dumps({"images": images, "annotations": annotations}))
    coco = read_coco(target)
    assert coco.types == ("A172", "SKBR3", "")
    asked = []
    real = coco.annotations._pack.annotations
    coco.annotations._pack.annotations = lambda image_id: asked.append(image_id) or real(image_id)
    own, union = resolve("A172", "train", root), resolve("a172", "train", tmp_path / "union")
    assert [r.id for r in union] == [*(r.id for r in own), "A172/unnamed"]
    assert asked == []
    for record, same in zip(own, union, strict=False):
        assert record == same
        np.testing.assert_array_equal(own.instances(record).layers, union.instances(same).layers)
    assert asked == [100, 101, 102]
    assert [r.cell_type for r in resolve("SkBr3", "train", tmp_path / "union")] == ["SKBR3", "SKBR3", "SKBR3"]

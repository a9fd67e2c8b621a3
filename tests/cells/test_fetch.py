"""Fetching LIVECell from a server that works: what lies there afterwards, and what was asked for."""

from __future__ import annotations

import hashlib
import json
import shutil

import numpy as np
import pytest

from policy_search.cells import resolve
from policy_search.cells.errors import DataError, InputError
from policy_search.cells.fetch import fetch_livecell
from policy_search.cells.fetch_parts import wanted_splits, wanted_types
from policy_search.cells.fetched import verify_fetched
from policy_search.cells.types import cell_type
from tests.cells.flaky_server import serving
from tests.cells.livecell_mirror import A172_MODEL, A172_TRAIN, QUICK, tree, zipped
from tests.conftest import write_livecell

A172 = [cell_type("A172")]
EVERY = ["train", "val", "test"]


class Notes:
    """A watch that remembers."""

    def __init__(self):
        self.notes, self.total, self.came = [], 0, 0

    def stage(self, title, total, done=0):
        self.total += total
        self.came += done

    def advance(self, count):
        self.came += count

    def note(self, text):
        self.notes.append(text)


def get(root, types=A172, splits=EVERY, **more):
    return fetch_livecell(types, splits, root, patience=QUICK, **more)


def test_a_type_lies_there_as_on_the_server_and_is_read(mirror, tmp_path):
    watch = Notes()
    result = get(tmp_path / "new", watch=watch)
    assert tree(tmp_path / "new") == mirror.of("A172", *EVERY)
    assert (result.new, result.kept) == (10, 0)
    assert watch.came == watch.total
    dataset = resolve("A172", "train", tmp_path / "new")
    assert len(dataset) == 3
    assert len(dataset.instances(dataset.records[0])) == 4
    assert verify_fetched(tmp_path / "new") == []


def test_a_split_alone(mirror, tmp_path):
    get(tmp_path, splits=["val"])
    assert tree(tmp_path) == mirror.of("A172", "val")


def test_the_second_fetch_asks_for_nothing_but_versions(mirror, tmp_path):
    get(tmp_path)
    asked = len(mirror.server.got())
    result = get(tmp_path)
    assert (result.new, result.kept) == (0, 10)
    assert len(mirror.server.got()) == asked
    result = get(tmp_path, [*A172, cell_type("BT474")])
    assert (result.new, result.kept) == (7, 10)
    assert not mirror.server.got("a172")[3:]


def test_what_is_damaged_lost_or_outdated_is_fetched_again(mirror, tmp_path):
    get(tmp_path)
    first, second, *_ = sorted(tmp_path.rglob("*.tif"))
    first.write_bytes(first.read_bytes()[:-1] + b"x")
    second.unlink()
    assert len(verify_fetched(tmp_path)) == 2
    before = len(mirror.server.got("a172"))
    assert get(tmp_path).new == 2
    assert len(mirror.server.got("a172")) == before
    assert tree(tmp_path) == mirror.of("A172", *EVERY)
    corrected = json.dumps(json.loads(mirror.truth[A172_TRAIN]) | {"info": "2022"}).encode()
    mirror.server.files[A172_TRAIN] = corrected
    watch = Notes()
    assert get(tmp_path, watch=watch).new == 1
    assert (tmp_path / A172_TRAIN).read_bytes() == corrected
    assert (tmp_path / (A172_TRAIN + ".old")).read_bytes() == mirror.truth[A172_TRAIN]
    assert "train.json.old" in watch.notes[0]


def test_another_archive_replaces_only_the_images_that_differ(mirror, tmp_path):
    get(tmp_path)
    name = min(mirror.of("A172", "test").keys() & mirror.images.keys())
    mirror.server.files["images.zip"] = zipped(mirror.images | {name: mirror.images[name] + b"\0"})
    assert get(tmp_path).new == 1
    assert (tmp_path / name).read_bytes() == mirror.images[name] + b"\0"


def test_what_the_user_has_already_is_taken_up(mirror, tmp_path):
    """In folders per type, as another tool left it; one image of it is damaged."""
    for name, content in mirror.of("A172", *EVERY).items():
        place = tmp_path / (name.replace("images/A172", "images/A172/A172") if "images" in name else name)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    broken = sorted(tmp_path.rglob("*.tif"))[0]
    whole = broken.read_bytes()
    broken.write_bytes(whole[:100])
    result = get(tmp_path)
    assert (result.new, result.kept) == (1, 9)
    assert broken.read_bytes() == whole
    assert len(list(tmp_path.rglob("*.tif"))) == 7
    assert not mirror.server.got("a172")


def test_the_record(mirror, tmp_path):
    watch = Notes()
    get(tmp_path, watch=watch)
    assert "CC BY-NC 4.0" in watch.notes[0]
    assert "not for commercial use" in watch.notes[0]
    record = json.loads((tmp_path / "fetched.json").read_text())
    assert record["licence"]["link"] == "https://creativecommons.org/licenses/by-nc/4.0/"
    assert set(record["files"]) == set(mirror.of("A172", *EVERY))
    entry = record["files"][A172_TRAIN]
    content = mirror.truth[A172_TRAIN]
    assert entry["sha256"] == hashlib.sha256(content).hexdigest()
    assert (entry["size"], entry["url"]) == (len(content), mirror.server.url + A172_TRAIN)
    assert entry["etag"] == f'"{hashlib.md5(content).hexdigest()}"'
    again = Notes()
    get(tmp_path, watch=again)
    assert again.notes == [], "the licence is shown once"
    (tmp_path / "fetched.json").write_text("{")
    assert "damaged" in verify_fetched(tmp_path)[0]
    assert get(tmp_path).kept == 10, "what is there is compared with the server's"
    assert verify_fetched(tmp_path) == []


def test_models(mirror, tmp_path):
    result = get(tmp_path, splits=["val"], models=True)
    assert result.models == [tmp_path / A172_MODEL]
    assert result.models[0].read_bytes() == mirror.truth[A172_MODEL]
    mirror.server.files[A172_MODEL] = b"not weights" * 1000
    with pytest.raises(DataError, match="neither a zip nor a pickle"):
        get(tmp_path, splits=["val"], models=True)
    assert result.models[0].read_bytes() == mirror.truth[A172_MODEL], "the good one stays"


def test_a_disk_that_is_too_small_is_noticed_before_anything_is_written(mirror, tmp_path, monkeypatch):
    free = sum(map(len, mirror.of("A172", *EVERY).values())) + (16 << 20)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=free - 1))
    with pytest.raises(InputError, match="are free there"):
        get(tmp_path)
    assert tree(tmp_path) == {}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=free))
    assert get(tmp_path).new == 10


def test_a_folder_that_cannot_be_written(mirror, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write into .*--root"):
        get(tmp_path / "file" / "below")


def test_names_and_addresses(monkeypatch, tmp_path):
    assert [t.name for t in wanted_types(["skov3", "a-172", "SKOV3"])] == ["A172", "SKOV3"]
    assert len(wanted_types(["all"])) == 8
    assert wanted_splits("test,train") == ("train", "test")
    with pytest.raises(InputError, match="expected train, val, test"):
        wanted_splits("tests")
    monkeypatch.setenv("LIVECELL_URL", "/data/livecell")
    with pytest.raises(InputError, match="LIVECELL_URL"):
        get(tmp_path)


def test_requests_and_bytes_of_one_type_among_many(tmp_path, monkeypatch):
    """500 images of ten wells, sorted by name as in the real archive: neighbours come in one range."""
    plan = {
        kind: {"train": 40, "val": 10, "test": 12}
        for kind in ("A172", "BT474", "BV2", "Huh7", "MCF7", "SKOV3", "SkBr3")
    }
    plan["SHSY5Y"] = {"train": 40, "val": 14, "test": 12}
    truth = tree(write_livecell(tmp_path / "truth", plan, flat=True, cells=1, size=(16, 16)))
    noise = np.random.default_rng(0)
    images = {n: c + noise.bytes(60_000) for n, c in sorted(truth.items()) if n.endswith(".tif")}
    assert len(images) == 500
    files = {n: c for n, c in truth.items() if n.endswith(".json")} | {"images.zip": zipped(images)}
    with serving(files) as server:
        monkeypatch.setenv("LIVECELL_URL", server.url)
        result = get(tmp_path / "root")
        wanted = sum(len(c) for n, c in images.items() if "/A172_" in n)
        read = sum(asked.sent for asked in server.got("images.zip"))
        assert len(list((tmp_path / "root").rglob("*.tif"))) == 62
        assert result.asked == len(server.log) == 3 + 1 + 3 + 1 + 2, "versions, annotations, directory, two ranges"
        assert read < wanted * 1.02 + (1 << 20)
        assert server.connections == 1, "one connection is kept"

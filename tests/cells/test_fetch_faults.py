"""Servers that cut, stall, lie and change: right bytes in the end or a sentence, never half a file in its place."""

from __future__ import annotations

import json
import time

import pytest

from policy_search.cells.errors import DataError
from policy_search.cells.fetch import fetch_livecell
from policy_search.cells.types import cell_type
from tests.cells.flaky_server import Fault
from tests.cells.livecell_mirror import A172_MODEL, A172_TRAIN, QUICK, tree, zipped

A172 = [cell_type("A172")]
WHERE = (A172_TRAIN, A172_MODEL, "images.zip")


def get(root, splits=("train", "test"), models=True):
    return fetch_livecell(A172, splits, root, models=models, patience=QUICK)


def expected(mirror):
    return mirror.of("A172", "train", "test") | {A172_MODEL: mirror.truth[A172_MODEL]}


def in_place(root):
    """What lies under a final name."""
    return {n: c for n, c in tree(root).items() if ".part" not in n}


def assert_nothing_damaged(root, mirror):
    for name, content in in_place(root).items():
        assert content == mirror.truth[name], name


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize(
    "faults",
    [
        [Fault("cut", 700), Fault("cut", 1), Fault("cut", 0)],
        [Fault("stall", 300)],
        [Fault("empty")],
        [Fault("status", status=500), Fault("status", status=503)],
        [Fault("status", status=429, headers={"Retry-After": "0"})],
        [Fault("redirect"), Fault("redirect")],
        [Fault("flip", 60)],
        [Fault("whole")],
        [Fault("shift")],
    ],
    ids=["cut", "stall", "empty", "500", "429", "redirect", "flip", "whole", "shift"],
)
def test_what_passes_is_survived(mirror, tmp_path, where, faults):
    mirror.server.faults[where] = list(faults)
    get(tmp_path)
    whole_archive = {"images.zip": mirror.server.files["images.zip"]} if (tmp_path / "images.zip").exists() else {}
    assert in_place(tmp_path) == expected(mirror) | whole_archive
    assert tree(tmp_path, ".part") == {}
    assert mirror.server.faults[where] == [], "every fault was met"


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault("status", status=403), "403"),
        (Fault("status", status=404), "LIVECELL_URL"),
        (Fault("html"), "web page"),
        (Fault("cut", 0), "the same command goes on"),
        (Fault("empty"), "the connection was cut"),
        (Fault("status", status=503), "503"),
        (Fault("encoded"), "compressed"),
        (Fault("shift"), "another part"),
    ],
    ids=lambda value: value.kind + str(value.status) if isinstance(value, Fault) else "",
)
@pytest.mark.parametrize("where", WHERE)
def test_what_stays_is_said(mirror, tmp_path, where, fault, says):
    mirror.server.always[where] = fault
    with pytest.raises(DataError, match=says) as caught:
        get(tmp_path)
    assert where.rpartition("/")[2] in str(caught.value), "the file is named"
    assert_nothing_damaged(tmp_path, mirror)
    assert where not in tree(tmp_path)
    mirror.server.always.clear()
    get(tmp_path)
    assert in_place(tmp_path) == expected(mirror)


@pytest.mark.parametrize("amazon", [True, False])
@pytest.mark.parametrize("where", WHERE)
def test_flipped_bytes_are_noticed(mirror, tmp_path, where, amazon):
    """By the MD5 that S3 gives, else by checksums in the file, or because it is no JSON."""
    mirror.server.amazon = amazon
    mirror.server.always[where] = Fault("flip", 400 if where == A172_MODEL else 40)
    with pytest.raises(DataError, match=r"damaged|changes it|no zip"):
        get(tmp_path)
    assert_nothing_damaged(tmp_path, mirror)
    assert where not in tree(tmp_path)


def test_a_digit_that_is_another_is_noticed_by_the_md5(mirror, tmp_path):
    """The file is JSON as before, one corner of a cell lies elsewhere."""
    digit = mirror.truth[A172_TRAIN].index(b'"segmentation": [[') + 18
    mirror.server.always[A172_TRAIN] = Fault("flip", digit, mask=1)
    with pytest.raises(DataError, match="MD5"):
        get(tmp_path)
    assert A172_TRAIN not in tree(tmp_path)


@pytest.mark.parametrize("wrong", ["other type", "no annotation", "list"])
def test_json_that_is_no_annotation_file_of_the_type(mirror, tmp_path, wrong):
    content = json.loads(mirror.truth[A172_TRAIN])
    mirror.server.files[A172_TRAIN] = {
        "other type": mirror.truth[A172_TRAIN.replace("a172", "bt474")],
        "no annotation": json.dumps(content | {"annotations": []}).encode(),
        "list": b"[]",
    }[wrong]
    with pytest.raises(DataError, match=r"not the annotation file of A172|not a COCO file"):
        get(tmp_path)
    assert A172_TRAIN not in tree(tmp_path)


def test_a_length_that_is_a_lie(mirror, tmp_path):
    length = len(mirror.truth[A172_TRAIN])
    for lie in (length + 10, length - 10):
        mirror.server.sizes[A172_TRAIN] = lie
        with pytest.raises(DataError, match=r"train\.json"):
            get(tmp_path)
        assert_nothing_damaged(tmp_path, mirror)
        assert A172_TRAIN not in tree(tmp_path)
    mirror.server.sizes["images.zip"] = len(mirror.server.files["images.zip"]) + 5
    mirror.server.sizes.pop(A172_TRAIN)
    with pytest.raises(DataError, match=r"images\.zip"):
        get(tmp_path)
    assert_nothing_damaged(tmp_path, mirror)


@pytest.mark.parametrize("if_range", [True, False])
def test_a_file_that_changes_between_two_ranges_is_not_glued_together(mirror, tmp_path, if_range):
    """Nor when both are of the same length, and nothing but the ETag tells."""
    mirror.server.if_range, mirror.server.amazon = if_range, False
    newer = mirror.truth[A172_TRAIN].replace(b"http://x", b"http://y")
    mirror.server.faults[A172_TRAIN] = [Fault("cut", 500), Fault("change", content=newer)]
    get(tmp_path)
    assert (tmp_path / A172_TRAIN).read_bytes() == newer
    second, third = mirror.server.got("a172/train")[1:]
    assert second.if_range, "the server is asked to give a part of the same version only"
    assert (second.range[0], third.range[0]) == (500, 0)


@pytest.mark.parametrize("if_range", [True, False])
def test_an_archive_that_changes_between_two_ranges(mirror, tmp_path, if_range):
    mirror.server.if_range = if_range
    newer = {name: content + b"\0" for name, content in mirror.images.items()}
    turns = [Fault("none"), Fault("none"), Fault("cut", 3000), Fault("change", content=zipped(newer))]
    mirror.server.faults["images.zip"] = turns
    get(tmp_path)
    assert tree(tmp_path, ".tif") == {n: newer[n] for n in expected(mirror) if n in newer}
    assert turns == []


@pytest.mark.parametrize("etags", [True, False])
def test_a_server_without_ranges_gives_the_whole_archive(mirror, tmp_path, etags):
    mirror.server.ranges, mirror.server.etags = False, etags
    mirror.server.faults["images.zip"] = [Fault("none"), Fault("cut", 2000)]
    mirror.server.faults[A172_TRAIN] = [Fault("cut", 500)]
    get(tmp_path)
    archive = {"images.zip": mirror.server.files["images.zip"]}
    assert in_place(tmp_path) == expected(mirror) | archive
    asked = len(mirror.server.got("images.zip"))
    fetch_livecell([cell_type("BT474")], ["train"], tmp_path, patience=QUICK)
    assert len(mirror.server.got("images.zip")) == asked, "another type comes out of the archive that is there"
    assert in_place(tmp_path) == expected(mirror) | archive | mirror.of("BT474", "train")


def test_no_server_is_said_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("LIVECELL_URL", "http://127.0.0.1:9/x/")  # nobody listens at port 9
    started = time.monotonic()
    with pytest.raises(DataError, match=r"train\.json.*refused.*looked for in .*demo/A172"):
        fetch_livecell(A172, ["train"], tmp_path)
    assert time.monotonic() - started < 30
    monkeypatch.setenv("LIVECELL_URL", "http://no-such-host.invalid/x/")
    with pytest.raises(DataError, match="is there a network"):
        fetch_livecell(A172, ["train"], tmp_path)
    assert time.monotonic() - started < 60

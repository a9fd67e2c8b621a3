"""Zips that cannot be trusted, and which bytes are asked for."""

from __future__ import annotations

import stat
import struct
import zipfile
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_search.cells.archive import GAP, place_of, runs
from policy_search.cells.errors import DataError
from policy_search.cells.fetch import fetch_livecell
from policy_search.cells.types import cell_type
from tests.cells.livecell_mirror import QUICK, tree, zipped

A172 = [cell_type("A172")]
WANTED = "A172_Phase_A1_1_00d00h00m_1.tif"


def get(root):
    return fetch_livecell(A172, ["train", "val", "test"], root, patience=QUICK)


@pytest.mark.parametrize(
    "name",
    [
        f"../{WANTED}", f"images/../../{WANTED}", f"/etc/{WANTED}", f"C:\\{WANTED}", f"..\\{WANTED}", f"C:{WANTED}",
        f"images/..\\..\\{WANTED}", "../unrelated.txt",
    ],
)  # fmt: skip
def test_an_entry_that_points_outside_is_named_and_nothing_is_written(mirror, tmp_path, name):
    root = tmp_path / "deep" / "root"
    mirror.server.files["images.zip"] = zipped(mirror.images | {name: b"evil"})
    with pytest.raises(DataError, match="points out of the folder") as caught:
        get(root)
    assert repr(name) in str(caught.value)
    assert tree(tmp_path) == {}
    assert not (root / "fetched.json").exists()


def test_a_link_in_the_archive_is_refused(mirror, tmp_path):
    def link(info):
        if info.filename.endswith("/" + WANTED):
            info.create_system = 3
            info.external_attr = (stat.S_IFLNK | 0o777) << 16

    name = next(n for n in mirror.images if n.endswith(WANTED))
    mirror.server.files["images.zip"] = zipped(mirror.images | {name: b"/etc/passwd"}, link)
    with pytest.raises(DataError, match=f"{WANTED}.* is a link"):
        get(tmp_path)
    assert tree(tmp_path) == {}


def test_a_bomb_is_refused(mirror, tmp_path):
    """An entry of 70 MB of zeros, 70 kB in the zip."""
    mirror.server.files["images.zip"] = zipped(mirror.images | {"images/zeros.tif": bytes(70_000_000)})
    with pytest.raises(DataError, match=r"zeros\.tif.* 70000000 bytes"):
        get(tmp_path)
    assert tree(tmp_path) == {}


def test_two_images_of_one_name(mirror, tmp_path):
    name = next(n for n in mirror.images if n.endswith(WANTED))
    twin = f"images/other/{WANTED}"
    mirror.server.files["images.zip"] = zipped(mirror.images | {twin: mirror.images[name] + b"\0"})
    with pytest.raises(DataError, match="two different images"):
        get(tmp_path)
    mirror.server.files["images.zip"] = zipped(
        mirror.images | {twin: mirror.images[name], f"__MACOSX/._{WANTED}": b"?"}
    )
    get(tmp_path)
    assert tree(tmp_path) == mirror.of("A172", "train", "val", "test")


def test_an_image_that_the_archive_lacks(mirror, tmp_path):
    kept = {n: c for n, c in mirror.images.items() if WANTED not in n}
    mirror.server.files["images.zip"] = zipped(kept)
    with pytest.raises(DataError, match=f"lacks 1 of the 7 images .*{WANTED}"):
        get(tmp_path)
    assert tree(tmp_path, ".tif") == {}


def directory_entry(content: bytes, name: str) -> int:
    """Where the directory's entry of a name begins."""
    at = content.rindex(name.encode())
    assert content[at - 46 : at - 42] == b"PK\x01\x02"
    return at - 46


@pytest.mark.parametrize(
    ("offset", "value"),
    [(16, 12345), (24, 100), (24, 40_000), (20, 30), (42, 1 << 30), (42, 7)],
    ids=["crc", "shorter", "longer", "compressed", "behind the end", "not a header"],
)
def test_a_directory_that_lies_about_an_image(mirror, tmp_path, offset, value):
    """CRC, size, compressed size or place of one image (APPNOTE 4.3.12) are wrong."""
    content = bytearray(mirror.server.files["images.zip"])
    name = next(n for n in mirror.images if n.endswith(WANTED))
    struct.pack_into("<I", content, directory_entry(bytes(content), name) + offset, value)
    mirror.server.files["images.zip"] = bytes(content)
    with pytest.raises(DataError, match=r"images\.zip"):
        get(tmp_path)
    written = tree(tmp_path, ".tif")
    assert not any(WANTED in name for name in written)
    assert all(mirror.images[name] == image for name, image in written.items())


def test_no_zip(mirror, tmp_path):
    mirror.server.files["images.zip"] = b"nothing of the kind" * 500
    with pytest.raises(DataError, match="no zip"):
        get(tmp_path)
    (tmp_path / "images.zip").write_bytes(b"PK half a zip")
    with pytest.raises(DataError, match="remove it"):
        get(tmp_path)
    (tmp_path / "images.zip").write_bytes(zipped(mirror.images))
    get(tmp_path)
    assert tree(tmp_path, ".tif") == {n: c for n, c in mirror.of("A172", "train", "val", "test").items() if ".tif" in n}


@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 500))), st.integers(0, 300))
def test_runs_cover_every_span_and_no_longer_gap(spans, gap):
    wanted = [(start, start + length) for start, length in spans]
    found = list(runs(wanted, gap))
    assert all(any(a <= start and stop <= b for a, b in found) for start, stop in wanted)
    assert all(later[0] - earlier[1] > gap for earlier, later in pairwise(found))
    covered = {byte for start, stop in wanted for byte in range(start, stop)}
    for start, stop in found:
        assert {start, stop - 1} <= covered
        hole = 0
        for byte in range(start, stop):
            hole = 0 if byte in covered else hole + 1
            assert hole <= gap


def test_two_images_between_wanted_ones_are_read_over():
    assert list(runs([(0, 100), (100 + GAP, 200 + GAP)])) == [(0, 200 + GAP)]
    assert list(runs([(0, 100), (101 + GAP, 200 + GAP)])) == [(0, 100), (101 + GAP, 200 + GAP)]


def test_places():
    for path, place in (
        ("images/livecell_test_images/A172/x.tif", "images/livecell_test_images/A172/x.tif"),
        ("LIVECell_dataset_2021/images/livecell_test_images/x.tif", "images/livecell_test_images/x.tif"),
        ("livecell_test_images/x.tif", "images/livecell_test_images/x.tif"),
        ("x.tif", "images/x.tif"),
    ):
        assert str(place_of(zipfile.ZipInfo(path))) == place

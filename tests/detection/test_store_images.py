"""Images beside the rows: written and replaced together, merged from other files, whole even on a full disk."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import detection.store
from detection.matches import ImageMatches
from detection.store import Result, RunKey, Store
from policy_search.cells.errors import InputError
from tests.detection.test_store import old_file, result

KEY = RunKey("A172", "p1", 0, "c1")


def images(seed: int, *, count: int = 3, detections: int = 21) -> list[ImageMatches]:
    """In an order that is not the alphabet's; one has no detection."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count, 0, -1):
        size = 0 if number == 2 else detections + number
        scores = np.sort(rng.random(size, np.float32))[::-1]
        found.append(ImageMatches(f"{number}.tif", f"W{number % 2}", 5 + number, scores, rng.random(size) < 0.5))
    return found


def plain(found: dict[str, list[ImageMatches]]) -> dict[str, list[tuple]]:
    return {
        t: [(i.image, i.well, i.cells, i.scores.tolist(), i.hits.tolist()) for i in several]
        for t, several in found.items()
    }


def test_images_come_back_as_they_went_in(tmp_path):
    store = Store(tmp_path / "r.sqlite")
    put = {"SKOV3": images(1), "BT474": images(2)}
    rows = [result(cell_type="SKOV3"), result()]
    store.put(rows, put)
    got = Store(store.path, create=False).images(*KEY)
    assert plain(got) == plain(put)
    first = got["SKOV3"][0]
    assert (first.scores.dtype, first.hits.dtype, len(first.scores)) == (np.float32, np.bool_, 24)
    assert first.scores.flags.writeable
    for other in (("B", *KEY[1:]), (KEY[0], "p2", *KEY[2:]), (*KEY[:2], 1, "c1"), (*KEY[:3], "c2")):
        assert store.images(*other) == {}
    with sqlite3.connect(store.path) as connection:
        blob, hits = connection.execute("SELECT scores, hits FROM images WHERE image = '3.tif'").fetchone()
    expected = put["SKOV3"][0]
    assert np.frombuffer(blob, "<f4").tolist() == expected.scores.tolist()
    assert [bool(hits[i // 8] >> (7 - i % 8) & 1) for i in range(24)] == expected.hits.tolist()


def test_images_are_replaced_with_their_row_and_no_others(tmp_path):
    store = Store(tmp_path / "r.sqlite")
    store.put([result(), result(cell_type="SKOV3")], {"BT474": images(1), "SKOV3": images(2)})
    store.put([result(seed=1)], {"BT474": images(3)})
    store.put([result(ap50=0.25)], {"BT474": images(4, count=2)})
    assert plain(store.images(*KEY)) == plain({"BT474": images(4, count=2), "SKOV3": images(2)})
    assert plain(store.images("A172", "p1", 1, "c1")) == plain({"BT474": images(3)})
    assert store.find(*KEY)[0].ap50 == 0.25


def test_a_row_alone_keeps_images_of_the_same_test_images_only(tmp_path):
    store = Store(tmp_path / "r.sqlite")
    store.put([result(), result(cell_type="SKOV3")], {"BT474": images(1), "SKOV3": images(2)})
    store.put([result(policy="best")])
    assert plain(store.images(*KEY)) == plain({"BT474": images(1), "SKOV3": images(2)})
    store.put([result(test_fingerprint="new")])
    assert plain(store.images(*KEY)) == plain({"SKOV3": images(2)})


@pytest.mark.parametrize(
    ("rows", "types"),
    [
        ([result()], ["SKOV3"]),
        ([result(), result(cell_type="SKOV3")], ["BT474"]),
        ([result()], []),
        ([result(), result(policy="best")], ["BT474"]),
        ([result(), result(cell_type="SKOV3", seed=1)], ["BT474", "SKOV3"]),
    ],
)
def test_what_does_not_belong_together_is_refused(tmp_path, rows, types):
    store = Store(tmp_path / "r.sqlite")
    with pytest.raises(ValueError, match="images of"):
        store.put(rows, {t: images(1) for t in types})
    assert store.all() == []


def test_rows_and_images_are_written_together_or_not_at_all(tmp_path):
    store = Store(tmp_path / "r.sqlite")
    store.put([result()], {"BT474": images(1)})
    twice = images(2)
    with pytest.raises(InputError, match="database of results"):
        store.put([result(ap50=0.1)], {"BT474": [*twice, twice[0]]})
    assert store.all() == [result()]
    assert plain(store.images(*KEY)) == plain({"BT474": images(1)})


def small(monkeypatch: pytest.MonkeyPatch, pages: int) -> None:
    """Files of results that cannot grow past so many pages of 4 KB."""
    connect = sqlite3.connect

    def limited(*args, **options):
        connection = connect(*args, **options)
        connection.execute(f"PRAGMA max_page_count = {pages}")
        return connection

    monkeypatch.setattr(detection.store.sqlite3, "connect", limited)


def test_a_full_disk_is_said_and_leaves_everything_as_it_was(tmp_path, monkeypatch):
    store = Store(tmp_path / "r.sqlite")
    other = Store(tmp_path / "other.sqlite")
    large = images(5, count=40, detections=2000)
    store.put([result()], {"BT474": images(1)})
    other.put([result(seed=7, cell_type="SKOV3")], {"SKOV3": large})
    with monkeypatch.context() as patch:
        small(patch, 20)
        for write in (lambda: store.put([result(ap50=0.1)], {"BT474": large}), lambda: store.merge(other.path)):
            with pytest.raises(InputError, match=r"the disk of .*r\.sqlite is full: nothing was written"):
                write()
            assert store.all() == [result()]
            assert plain(store.images(*KEY)) == plain({"BT474": images(1)})
    assert store.merge(other.path) == 1
    assert plain(store.images("A172", "p1", 7, "c1")) == plain({"SKOV3": large})


@pytest.mark.parametrize(("free", "message"), [(4096, "disk of .* is full"), (1 << 30, "cannot be used .*: disk I/O")])
def test_a_disk_without_room_for_sqlites_own_files_is_said_to_be_full(tmp_path, monkeypatch, free, message):
    """A full tmpfs was seen to fail like this, in reading too: the shared index of the log could not be made."""

    def fail(*_, **__):
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_SHMSIZE
        raise error

    store = Store(tmp_path / "r.sqlite")
    monkeypatch.setattr(detection.store.sqlite3, "connect", fail)
    monkeypatch.setattr(detection.store.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    with pytest.raises(InputError, match=message):
        store.all()


def test_a_damaged_entry_is_named(tmp_path):
    store = Store(tmp_path / "r.sqlite")
    store.put([result()], {"BT474": images(1)})
    with sqlite3.connect(store.path) as connection:
        connection.execute("UPDATE images SET hits = x'00' WHERE image = '3.tif'")
    with pytest.raises(InputError, match=r"image '3\.tif' of BT474 is damaged \(24 scores and 1 bytes of hits\)"):
        store.images(*KEY)


def test_files_without_images_have_none_until_some_are_put(tmp_path):
    path = tmp_path / "r.sqlite"
    old_file(path, [result()])
    before = path.read_bytes()
    assert Store(path, create=False).images(*KEY) == {}
    assert path.read_bytes() == before
    store = Store(path, create=False)
    store.put([result(seed=1)], {"BT474": images(1)})
    assert store.images(*KEY) == {}
    assert plain(store.images("A172", "p1", 1, "c1")) == plain({"BT474": images(1)})


def schema_2(path: Path, rows: list[Result]) -> None:
    """As the second program left it."""
    Store(path).put(rows)
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE images")
        connection.execute("PRAGMA user_version = 2")


def test_the_second_schema_is_brought_up_to_date(tmp_path):
    path = tmp_path / "r.sqlite"
    schema_2(path, [result(ar100=0.5)])
    assert Store(path, create=False).images(*KEY) == {}
    store = Store(path)
    assert store.all() == [result(ar100=0.5)]
    store.put([result(ar100=0.5)], {"BT474": images(1)})
    assert plain(store.images(*KEY)) == plain({"BT474": images(1)})


def content(store: Store) -> tuple[list[Result], list[tuple]]:
    with sqlite3.connect(store.path) as connection:
        rows = connection.execute(
            "SELECT * FROM images ORDER BY source, policy_hash, seed, cell_type, image"
        ).fetchall()
    return store.all(), rows


def test_merging_brings_rows_and_images_and_replaces_what_is_there(tmp_path):
    ours, other = Store(tmp_path / "ours.sqlite"), Store(tmp_path / "other.sqlite")
    ours.put([result(ap50=0.1), result(cell_type="SKOV3")], {"BT474": images(1), "SKOV3": images(2)})
    other.put([result(ap50=0.9)], {"BT474": images(3, count=2)})
    other.put([result(seed=1)], {"BT474": images(4)})
    other.put([result(seed=2)])
    theirs = content(other)
    assert ours.merge(other.path) == 3
    assert {(r.seed, r.cell_type): r.ap50 for r in ours.all()} == {
        (0, "BT474"): 0.9, (0, "SKOV3"): 0.5, (1, "BT474"): 0.5, (2, "BT474"): 0.5,
    }  # fmt: skip
    assert plain(ours.images(*KEY)) == plain({"BT474": images(3, count=2), "SKOV3": images(2)})
    assert plain(ours.images("A172", "p1", 1, "c1")) == plain({"BT474": images(4)})
    after = content(ours)
    assert ours.merge(other.path) == 3
    assert content(ours) == after
    assert content(other) == theirs


def test_merging_keeps_to_which_test_images_a_policy_of_two_names_belongs(tmp_path):
    ours, other = Store(tmp_path / "ours.sqlite"), Store(tmp_path / "other.sqlite")
    other.put([result(policy="flip", test_fingerprint="old")], {"BT474": images(1)})
    other.put([result(policy="best", test_fingerprint="new")], {"BT474": images(2)})
    assert ours.merge(other.path) == 2
    assert content(ours) == content(other)


def test_merging_takes_one_state_of_the_other_file(tmp_path, monkeypatch):
    ours, other = Store(tmp_path / "ours.sqlite"), Store(tmp_path / "other.sqlite")
    other.put([result(ap50=0.1)], {"BT474": images(1)})
    inner = detection.store.images_of

    def and_meanwhile(connection, key):
        other.put([result(ap50=0.9)], {"BT474": images(2)})
        return inner(connection, key)

    with monkeypatch.context() as patch:
        patch.setattr(detection.store, "images_of", and_meanwhile)
        ours.merge(other.path)
    assert ours.all() == [result(ap50=0.1)]
    assert plain(ours.images(*KEY)) == plain({"BT474": images(1)})
    assert plain(other.images(*KEY)) == plain({"BT474": images(2)})


def test_merging_older_files_and_what_is_no_file_of_results(tmp_path):
    ours = Store(tmp_path / "ours.sqlite")
    old_file(tmp_path / "old.sqlite", [result(), result(seed=1)])
    before = (tmp_path / "old.sqlite").read_bytes()
    assert ours.merge(tmp_path / "old.sqlite") == 2
    assert ours.all() == [result(), result(seed=1)]
    assert (tmp_path / "old.sqlite").read_bytes() == before
    with pytest.raises(InputError, match="no results at"):
        ours.merge(tmp_path / "missing.sqlite")
    with pytest.raises(InputError, match="into itself"):
        ours.merge(tmp_path / "." / "ours.sqlite")
    (tmp_path / "text.sqlite").write_text("this is a text, no database at all" * 50)
    with pytest.raises(InputError, match="cannot be used as a database"):
        ours.merge(tmp_path / "text.sqlite")
    assert len(ours.all()) == 2

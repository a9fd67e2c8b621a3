"""Files that change under their stamps."""

from __future__ import annotations

import os

from policy_search.cells.annotations import stamps
from tests.cells.annotations.reading import expected, forget, seen


def test_a_change_that_size_and_time_do_not_show(file, monkeypatch):
    """Written over in the same tick of the clock, the times set back: as git's index, a fresh stamp proves nothing."""
    first = seen(file)
    before = file.stat()
    file.write_bytes(file.read_bytes().replace(b"9.25, 9.01", b"9.26, 9.01"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_size == before.st_size
    # ctime cannot be set back: taken out of the comparison, as on a file system with a coarse clock.
    real = stamps.stamp_of
    monkeypatch.setattr(stamps, "stamp_of", lambda path: real(path)._replace(ctime_ns=before.st_ctime_ns))
    assert seen(file) == expected(file) != first
    forget(monkeypatch)
    assert seen(file) == expected(file)


def test_stamps_are_trusted_once_a_file_has_rested(tmp_path, monkeypatch):
    forget(monkeypatch)
    path = tmp_path / "a"
    path.write_text("a")
    stamp, tick = stamps.stamp_of(path), 2 * 10**9
    for rest, trusted in ((0, False), (tick - 1, False), (tick, True)):
        stamps.remember(tmp_path, path, stamp, stamp.ctime_ns + rest, "key")
        assert (stamps.known_key(tmp_path, stamp) == "key") == trusted
    forget(monkeypatch)
    assert stamps.known_key(tmp_path, stamp) == "key"
    assert stamps.known_key(None, stamp) == "key", "kept in this process from now on"
    forget(monkeypatch)
    for name in ("size", "mtime_ns", "ctime_ns", "inode"):
        assert stamps.known_key(tmp_path, stamp._replace(**{name: 5})) is None
    path.write_text("changed while it was hashed")
    stamps.remember(tmp_path, path, stamp, stamp.ctime_ns + 10 * tick, "wrong")
    assert stamps.known_key(tmp_path, stamp) == "key"
    (note,) = (tmp_path / "stamps").iterdir()
    for damaged in ("", "[]", "{}", note.read_text().replace('"key": "key"', '"key": 1'), note.read_text()[:-9]):
        note.write_text(damaged)
        forget(monkeypatch)
        assert stamps.known_key(tmp_path, stamp) is None

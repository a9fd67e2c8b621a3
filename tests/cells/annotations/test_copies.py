"""Compact copies: found again, damaged, abandoned by a killed maker, made by several at once."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from policy_search.cells import DataError, coco
from policy_search.cells.annotations import folder, pack, source, stamps
from policy_search.cells.coco import annotations_key, read_coco
from tests.cells.annotations.odd import by_json, content, digest, text
from tests.cells.annotations.reading import copies, expected, forget, rested, seen
from tests.conftest import ROOT


def test_a_second_read_neither_parses_nor_hashes(file, monkeypatch):
    rested(monkeypatch)
    first = seen(file)
    forget(monkeypatch)
    monkeypatch.setattr(pack, "write", None)
    monkeypatch.setattr(stamps, "file_key", None)
    monkeypatch.setattr(folder, "sole_maker", None)  # nor does it wait for who makes other copies
    assert seen(file) == first == expected(file)
    copy = file.with_name("copy.json")
    copy.write_bytes(file.read_bytes())
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(file.parent / "cache"))
    monkeypatch.setattr(source, "SMALL", 0)
    monkeypatch.setattr(pack, "write", None)
    assert seen(copy) == first, "known by its content, wherever it lies"
    assert len(copies()) == 1


@pytest.mark.parametrize("kept", [True, False])
def test_a_large_file_is_announced_when_it_is_read_whole(file, monkeypatch, capsys, kept):
    if not kept:
        monkeypatch.setenv(folder.LIMIT, "0")
    monkeypatch.setattr(source, "LARGE", file.stat().st_size + 1)
    read_coco(file)
    assert capsys.readouterr().err == ""
    other = file.with_name("other.json")
    other.write_bytes(file.read_bytes() + b" ")
    monkeypatch.setattr(source, "LARGE", other.stat().st_size)
    said = []
    for _ in range(2):
        read_coco(other)
        said.append(capsys.readouterr().err)
        coco._READ_BEFORE.clear()
    assert said[0].startswith(f"reading {other} (")
    assert ("compact copy" in said[0]) == kept
    assert said[1] == ("" if kept else said[0])


def test_any_flipped_bit_and_any_cut_is_noticed(file):
    before = seen(file)
    data = copies()[0].read_bytes()
    target = file.with_name("damaged")

    def all_of(damaged):
        target.write_bytes(damaged)
        opened = pack.Pack.open(target)
        return text(opened.images), [(i, text(opened.annotations(i))) for i in opened.places]

    assert all_of(data) == before
    for at in range(0, len(data), 7):
        with pytest.raises(pack.DamagedError):
            all_of(data[:at] + bytes([data[at] ^ (1 << at % 8)]) + data[at + 1 :])
    for size in range(0, len(data), 41):
        with pytest.raises(pack.DamagedError):
            all_of(data[:size])
    with pytest.raises(pack.DamagedError):
        all_of(data + b"\0")
    with pytest.raises(pack.DamagedError):
        all_of(data.replace(pack.MAGIC, b"COCO copy 9\n\0\0\0\0"))


@pytest.mark.parametrize("where", [0, 30, -100, -5])
@pytest.mark.parametrize("cut", [False, True])
def test_a_damaged_copy_is_made_again(file, monkeypatch, where, cut):
    first = seen(file)
    copy = copies()[0]
    good = copy.read_bytes()
    at = where % len(good)
    copy.write_bytes(good[:at] if cut else good[:at] + bytes([good[at] ^ 16]) + good[at + 1 :])
    forget(monkeypatch)
    assert seen(file) == first
    assert copy.read_bytes() == good


def test_damage_while_a_copy_is_in_use(file, monkeypatch):
    before = read_coco(file)
    good = copies()[0].read_bytes()
    with copies()[0].open("r+b") as opened:
        opened.seek(len(pack.MAGIC) + 10)
        opened.write(b"\xff" * 2000)
    assert [text(before.annotations[i]) for i in before.annotations] == [t for _, t in expected(file)[1]]
    assert copies()[0].read_bytes() == good
    with copies()[0].open("r+b") as opened:
        opened.truncate(100)
    file.write_text(json.dumps({**content(), "info": 1}))
    with pytest.raises(DataError, match="was changed while it was in use"):
        before.annotations[7]
    file.unlink()
    with pytest.raises(DataError, match="damaged, and the file is gone"):
        before.annotations[7]


def test_what_was_read_stays_as_it_was_when_file_and_copy_go(file):
    before, keep = read_coco(file), expected(file)
    copies()[0].unlink()
    file.write_text(json.dumps({"images": [], "annotations": []}))
    assert [(i, text(before.annotations[i])) for i in before.annotations] == keep[1]
    assert len(read_coco(file).annotations) == 0


_CHILD = """
import os, signal, sys
from pathlib import Path
from policy_search.cells.annotations import folder, fragment, source
from tests.cells.annotations.reading import seen
source.SMALL = 0
made = []
real, count = fragment.pack, int(sys.argv[2])
def counted(entries):
    made.append(1)
    if len(made) == count:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(entries)
fragment.pack = counted
entered = folder.sole_maker
folder.sole_maker = lambda place: print("at the door", flush=True) or entered(place)
print(bool(seen(Path(sys.argv[1]))[1]), len(made))
"""


def child(path, killed_at):
    words = [sys.executable, "-c", _CHILD, str(path), str(killed_at)]
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": "."})


def test_a_killed_maker_leaves_nothing_that_counts(file):
    process = child(file, killed_at=2)
    assert process.wait(60) == -signal.SIGKILL
    process.stdout.close()
    assert copies() == []
    left = list(folder.cache_folder().glob(".*.pack"))
    assert len(left) == 1
    assert seen(file) == expected(file)
    assert not left[0].exists()
    assert len(copies()) == 1


def test_four_first_readers_at_once(file):
    with folder.sole_maker(folder.cache_folder()):
        processes = [child(file, killed_at=0) for _ in range(4)]
        assert [process.stdout.readline() for process in processes] == ["at the door\n"] * 4
    answers = [process.communicate(timeout=120)[0].split() for process in processes]
    assert [a[0] for a in answers] == ["True"] * 4
    # One of them made the copy, the others waited and took it.
    assert sorted(int(a[1]) for a in answers)[:3] == [0, 0, 0]
    assert max(int(a[1]) for a in answers) == len(by_json(file)[1])
    assert seen(file) == expected(file)
    assert len(copies()) == 1


def test_copies_travel_to_other_processes_by_name(file):
    found = read_coco(file)
    data = pickle.dumps(found)
    assert len(data) < 10_000
    other = pickle.loads(data)
    assert [text(other.annotations[i]) for i in other.annotations] == [t for _, t in expected(file)[1]]
    assert annotations_key(other, 7) == digest(by_json(file)[1][7])
    file.write_text(json.dumps({"images": [], "annotations": []}))
    for copy in copies():
        copy.unlink()
    with pytest.raises(DataError, match="was changed"):
        pickle.loads(data)


def test_a_file_read_again_is_the_same_object(file):
    first = read_coco(file)
    assert read_coco(file) is first
    assert read_coco(Path(str(file))) is first
    file.write_text(json.dumps(content(mapping=True)))
    assert read_coco(file) is not first

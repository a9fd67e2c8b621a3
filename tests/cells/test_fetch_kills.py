"""A fetch that is killed, interrupted, or not alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from policy_search.cells.fetch import fetch_livecell
from policy_search.cells.fetched import verify_fetched
from policy_search.cells.types import cell_type
from tests.cells.flaky_server import Fault
from tests.cells.livecell_mirror import A172_MODEL, A172_TRAIN, QUICK, tree
from tests.conftest import ROOT

A172 = [cell_type("A172")]
EVERY = ["train", "val", "test"]
COMMAND = """
import sys
from pathlib import Path
from policy_search.cells import archive
from policy_search.cells.fetch import fetch_livecell
from policy_search.cells.types import cell_type
archive.TAIL = 600
fetch_livecell([cell_type("A172")], ["train", "val", "test"], Path(sys.argv[1]), models=True)
"""


def begun(root, script=("-c", COMMAND)):
    """A process that fetches A172 with the patience of a user's."""
    return subprocess.Popen(
        [sys.executable, *script, str(root)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def until(condition, seconds=60):
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.01)


@pytest.mark.parametrize("where", [A172_TRAIN, A172_MODEL])
def test_killed_in_the_middle_of_a_file(mirror, tmp_path, where):
    half = len(mirror.truth[where]) // 2
    mirror.server.faults[where] = [Fault("stall", half)]
    process = begun(tmp_path)
    part = tmp_path / (where + ".part")
    until(lambda: part.is_file() and part.stat().st_size == half)
    process.kill()
    process.communicate()
    assert where not in tree(tmp_path)
    fetch_livecell(A172, EVERY, tmp_path, models=True, patience=QUICK)
    assert tree(tmp_path) == mirror.of("A172", *EVERY) | {A172_MODEL: mirror.truth[A172_MODEL]}
    first, second = mirror.server.got(where)
    assert (first.range[0], second.range[0]) == (0, half), "what was there is not asked for again"


def test_killed_among_the_images(mirror, tmp_path):
    """The third range of the archive stalls within the third image."""
    mirror.server.faults["images.zip"] = [Fault("none"), Fault("none"), Fault("stall", 5000)]
    process = begun(tmp_path)
    until(lambda: len(list(tmp_path.rglob("[!.]*.tif"))) == 2)
    process.kill()
    process.communicate()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("[!.]*.tif")}
    asked = len(mirror.server.log)
    result = fetch_livecell(A172, EVERY, tmp_path, models=True, patience=QUICK)
    assert tree(tmp_path) == mirror.of("A172", *EVERY) | {A172_MODEL: mirror.truth[A172_MODEL]}
    assert (result.new, result.kept) == (6, 5), "five images and the model; three annotation files and two images"
    assert all(path.stat().st_mtime_ns == then for path, then in before.items())
    headers = [mirror.server.files["images.zip"].index(path.name.encode()) for path in before]
    ranges = [a.range for a in mirror.server.log[asked:] if a.method == "GET" and a.path == "images.zip"]
    assert not any(start <= header < stop for header in headers for start, stop in ranges)
    assert verify_fetched(tmp_path) == []


def test_what_a_killed_fetch_left_half_written_is_removed(mirror, tmp_path):
    folder = tmp_path / "images" / "livecell_train_val_images"
    folder.mkdir(parents=True)
    (folder / ".A172_Phase_A1_1_00d00h00m_1.tif.k2j3.tif").write_bytes(b"half")
    (folder / ".mine.x.tif").write_bytes(b"the user's")
    fetch_livecell(A172, EVERY, tmp_path, patience=QUICK)
    assert [path.name for path in folder.glob(".*")] == [".mine.x.tif"]


def test_two_at_once(mirror, tmp_path):
    """The second waits for the first, finds all there and asks for versions only."""
    mirror.server.faults[A172_TRAIN] = [Fault("stall", 100)]
    results, notes = [], []

    class Watch:
        stage = advance = staticmethod(lambda *_: None)
        note = staticmethod(notes.append)

    def fetch():
        results.append(fetch_livecell(A172, EVERY, tmp_path, patience=QUICK, watch=Watch()))

    threads = [threading.Thread(target=fetch) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted((r.new, r.kept) for r in results) == [(0, 10), (0, 10), (10, 0)]
    assert sum("another process is fetching" in note for note in notes) == 2
    assert tree(tmp_path) == mirror.of("A172", *EVERY)
    assert len(mirror.server.got("a172")) == 4, "three files, one of them after a stall"


def test_a_killed_one_does_not_keep_the_lock(mirror, tmp_path):
    mirror.server.faults[A172_TRAIN] = [Fault("stall", 100)]
    process = begun(tmp_path)
    until(lambda: (tmp_path / (A172_TRAIN + ".part")).is_file())
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    fetch_livecell(A172, EVERY, tmp_path, patience=QUICK)  # would wait for ever
    assert tree(tmp_path) == mirror.of("A172", *EVERY)


def test_ctrl_c_says_what_goes_on(mirror, tmp_path):
    mirror.server.faults[A172_TRAIN] = [Fault("stall", 100)]
    process = begun(tmp_path, ("-m", "policy_search.cli", "data", "fetch", "a-172", "--root"))
    part = tmp_path / (A172_TRAIN + ".part")
    until(lambda: part.is_file() and part.stat().st_size == 100)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"policy-search data fetch a-172 --root {tmp_path}" in err
    assert "Traceback" not in err
    assert part.stat().st_size == 100

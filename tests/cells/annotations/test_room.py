"""Copies where there is no room for them, or not for all."""

from __future__ import annotations

import json
import os
import resource
import warnings
from functools import partial

import pytest

from policy_search.cells import coco
from policy_search.cells.annotations import folder, stamps
from policy_search.cells.coco import read_coco
from policy_search.cells.errors import InputError
from tests.cells.annotations.odd import content
from tests.cells.annotations.reading import copies, expected, rested, seen


@pytest.mark.parametrize("trouble", ["a file in the way", "no room", "too large", "turned off"])
def test_work_goes_on_without_copies(file, monkeypatch, trouble):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        try:
            if trouble == "a file in the way":
                (file.parent / "cache").write_text("")
            elif trouble == "no room":
                resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
            elif trouble == "too large":
                monkeypatch.setattr(folder, "limit_bytes", lambda: 1000)
            else:
                monkeypatch.setenv(folder.LIMIT, "0")
            for _ in range(2):
                assert seen(file) == expected(file)
                coco._READ_BEFORE.clear()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    messages = [str(w.message) for w in said]
    assert len(messages) == (trouble != "turned off")
    assert all(str(folder.cache_folder()) in m and "XDG_CACHE_HOME" in m for m in messages)
    cache = file.parent / "cache"
    assert trouble == "a file in the way" or [p for p in cache.rglob("*") if p.suffix == ".pack"] == []


def test_the_limit_must_be_a_number(file, monkeypatch):
    monkeypatch.setenv(folder.LIMIT, "4 GB")
    with pytest.raises(InputError, match="whole number of megabytes"):
        read_coco(file)


def test_what_was_used_longest_ago_goes_first(file, monkeypatch):
    rested(monkeypatch)
    paths = []
    for turn in range(4):
        paths.append(file.with_name(f"{turn}.json"))
        paths[-1].write_text(json.dumps({**content(), "info": turn}))
        if turn == 3:
            # A moment ago, the first one was used again.
            for age, copy in enumerate(sorted(copies(), key=lambda p: p.stat().st_mtime)):
                os.utime(copy, (1000 + age, 1000 + age))
            coco._READ_BEFORE.clear()
            read_coco(paths[0])
            size = copies()[0].stat().st_size
            monkeypatch.setattr(folder, "limit_bytes", partial(int, 2.5 * size))
        read_coco(paths[turn])
    left = {copy.stem for copy in copies()}
    assert left == {stamps.file_key(paths[0]), stamps.file_key(paths[3])}
    assert len(list((folder.cache_folder() / "stamps").glob("*.json"))) == 2
    for path in paths:
        coco._READ_BEFORE.clear()
        assert seen(path) == expected(path)

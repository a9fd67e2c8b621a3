"""The folder of a search: full disks, other searches, damage, and what lies in it at the end."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from policy_search.augment import load_policy
from policy_search.cells.errors import InputError
from policy_search.search_run import SearchEvent, run_search
from policy_search.study.folder import RunFolder
from tests.conftest import ROOT
from tests.search_runs import WARMUP, assert_same_end, tiny

pytestmark = pytest.mark.usefixtures("no_picture")


@pytest.mark.parametrize("kind", ["too large", "full"])
def test_a_disk_that_takes_no_more_keeps_the_checkpoint_before(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    out = tmp_path / "run"
    before: list[bytes] = []
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fail(path: Path, content: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fill(event: SearchEvent) -> None:
        if event.done == 10:
            before.append((out / "checkpoint.pt").read_bytes())
            if kind == "full":
                monkeypatch.setattr(Path, "write_bytes", fail)
            else:  # the kernel itself writes a part and then refuses
                resource.setrlimit(resource.RLIMIT_FSIZE, (len(before[0]) // 2, limits[1]))

    reason = {"full": "No space left on device", "too large": "File too large"}[kind]
    try:
        with pytest.raises(
            InputError, match=rf"checkpoint\.pt at step {12 - WARMUP}: {reason}; the state before is kept"
        ):
            run_search(tiny(out), listener=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        monkeypatch.undo()
    assert (out / "checkpoint.pt").read_bytes() == before[0]
    assert not list(out.glob(".checkpoint*"))
    run_search(tiny(out))
    assert_same_end(out, whole)


def test_a_finished_run_is_left_as_it_is(whole: Path) -> None:
    before = {
        p: p.stat().st_mtime_ns for p in whole.rglob("*") if p.is_file() and p.name not in (".lock", "config.json")
    }
    outcome = run_search(tiny(whole))
    assert (outcome.made, outcome.left) == (0, 0)
    assert outcome.document == load_policy(whole / "policy.json")
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with RunFolder(out).owned(), pytest.raises(InputError, match="another run is working in"):
        run_search(tiny(out))
    assert not (out / "history.jsonl").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": 4}, "seed was 3, now 4"),
        ({"steps": 13}, "steps was 12, now 13"),
        ({"operations": ("scale",)}, r"operations was \[\], now \['scale'\]"),
        ({"data": "demo/BT474"}, "data was 'demo/A172', now 'demo/BT474'"),
        ({"target": ("BT474",)}, r"target was \[\], now \['BT474'\]"),
        ({"max_images": 3}, "max_images was 2, now 3"),
    ],
)
def test_another_search_in_the_folder_is_refused(whole: Path, changes: dict[str, Any], words: str) -> None:
    before = (whole / "config.json").read_bytes()
    with pytest.raises(InputError, match=words):
        run_search(tiny(whole, **changes))
    assert (whole / "config.json").read_bytes() == before


def test_damage_is_refused_with_the_name_of_the_file(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"

    def restore() -> None:
        out.mkdir(exist_ok=True)
        for name in ("config.json", "checkpoint.pt", "history.jsonl"):
            (out / name).write_bytes((whole / name).read_bytes())

    restore()
    (out / "checkpoint.pt").write_bytes((whole / "checkpoint.pt").read_bytes()[:5000])
    with pytest.raises(InputError, match=r"checkpoint\.pt is damaged"):
        run_search(tiny(out))
    restore()
    (out / "config.json").unlink()
    with pytest.raises(InputError, match=r"checkpoint\.pt is of another search \(seed was 3, now 4\)"):
        run_search(tiny(out, seed=4))
    restore()
    (out / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config\.json is damaged"):
        run_search(tiny(out))
    lines = (whole / "history.jsonl").read_text().splitlines(keepends=True)
    for damaged, words in (
        (lines[:20], f"should have the steps -{WARMUP} to 11"),
        (lines[:5] + lines[6:] + lines[:1], f"should have the steps -{WARMUP} to 11"),
        ([*lines[:7], "{\n", *lines[8:]], "damaged at line 8"),
    ):
        restore()
        (out / "history.jsonl").write_text("".join(damaged))
        with pytest.raises(InputError, match=rf"history\.jsonl is .*{words}"):
            run_search(tiny(out))
    restore()
    assert run_search(tiny(out)).made == 0
    assert (out / "policy.json").read_bytes() == (whole / "policy.json").read_bytes()


def test_the_picture_is_a_sheet_of_the_two_images(whole: Path) -> None:
    with Image.open(whole / "preview.png") as picture:
        assert picture.width > picture.height > 400
        assert np.asarray(picture.convert("L")).std() > 20


def test_the_policy_file_says_where_it_comes_from(whole: Path) -> None:
    facts = load_policy(whole / "policy.json").provenance.model_dump(exclude_none=True)
    assert {key: facts[key] for key in ("family", "data", "synthetic", "seed", "mode", "images")} == {
        "family": "searched", "data": "demo/A172", "synthetic": True, "seed": 3, "mode": "source", "images": 2,
    }  # fmt: skip
    assert facts["settings"]["engine"]["steps"] == 12
    assert "created" not in facts
    assert str(ROOT) not in (whole / "policy.json").read_text()

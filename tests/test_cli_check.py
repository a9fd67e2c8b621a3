"""The command `policy-search data check`: exit codes, the JSON document, and a readable terminal."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from functools import partial

import pytest

from policy_search import cli_check
from policy_search.cells.checks import CODES
from tests.cells.test_checks import few, missing, wells
from tests.cells.tidy_coco import TidyCoco
from tests.conftest import ROOT


@pytest.fixture
def run(call_policy_search, monkeypatch):
    """Call the command on a terminal of 80 columns; return (exit code, standard output, standard error)."""
    monkeypatch.setattr(cli_check.console, "width", 80)
    return partial(call_policy_search, "data", "check")


@pytest.fixture
def tidy(tmp_path):
    return TidyCoco(tmp_path / "data")


def test_a_clean_dataset_is_two_lines_and_exit_code_0(run, tidy):
    data = tidy.write()
    for options in ((), ("--strict",), ("--all",)):
        code, out, err = run("--data", data, *options)
        assert (code, err) == (0, "")
        assert " ".join(out.split()) == (
            f"{data}: 6 images (train 2, val 2, test 2), 90 annotated cells "
            "every image can be used: 0 errors, 0 warnings"
        )


def test_exit_codes(run, tidy):
    wells(tidy)
    data = tidy.write()
    assert run("--data", data)[0] == 0
    assert run("--data", data, "--strict")[0] == 1
    (tidy.folder / "images" / tidy.image("val")["file_name"]).unlink()
    code, out, _ = run("--data", data)
    assert code == 1
    assert "error: image-missing: 1 image: annotated, but the image file is not there" in out
    assert "warning: wells-shared: 1 well: " in out
    assert out.index("image-missing") < out.index("wells-shared")
    assert out.splitlines()[-1] == "NOT usable as it is: 1 error, 1 warning"
    code, out, err = run("--data", "nowhere.json")
    assert (code, out) == (2, "")
    assert err.startswith("error: ")


def test_a_folder_without_images_is_bad_input(run, tmp_path):
    (tmp_path / "annotations").mkdir()
    code, out, err = run("--root", tmp_path)
    assert (code, out) == (2, "")
    assert "no image in any split" in err


def test_json_says_the_same_to_programs(run, tidy):
    wells(tidy)
    missing(tidy)
    few(tidy)
    data = tidy.write()
    code, out, err = run("--data", data, "--json")
    assert (code, err) == (1, "")
    document = json.loads(out)
    assert set(document) == {"version", "data", "summary", "findings"}
    assert (document["version"], document["data"]) == (1, data)
    summary = document["summary"]
    assert {key: summary[key] for key in ("usable", "images", "cells", "errors", "warnings")} == {
        "usable": False, "images": 6, "cells": 75, "errors": 1, "warnings": 2,
    }  # fmt: skip
    assert summary["images_by_split"] == {"train": 2, "val": 2, "test": 2}
    assert summary["by_code"]["image-missing"] == {
        "level": "error", "findings": 1, "count": 1, "counted": "images",
    }  # fmt: skip
    for finding in document["findings"]:
        assert set(finding) == {"level", "code", "record", "split", "text", "count"}
        assert CODES[finding["code"]].level == finding["level"]
    assert [f["code"] for f in document["findings"]] == ["image-missing", "cells-few", "wells-shared"]
    assert run("--data", data, "--json", "--all")[1] == out


def test_many_findings_stay_readable_and_all_can_be_had(run, tmp_path):
    tidy = TidyCoco(tmp_path / "many")
    entry, cells = tidy.image("train"), tidy.splits["train"]["annotations"][:15]
    tidy.splits["train"] = {"images": [], "annotations": []}
    for number in range(5000):
        name = f"A172_Phase_D{number}_1_00d00h00m_1.png"
        tidy.splits["train"]["images"].append({**entry, "id": number, "file_name": name})
    tidy.splits["train"]["annotations"] = [dict(cell, image_id=4999) for cell in cells]
    data = tidy.write()
    code, out, _ = run("--data", data)
    assert code == 1
    lines = out.splitlines()
    assert len(lines) < 40
    folder = str(tmp_path)
    assert all(len(line) <= 80 or folder in line for line in lines), "only a path may be longer"
    assert "… and 4,997 more (--all shows them)" in out
    assert "image-missing: 5,000 images" in out
    assert "cells-few: 4,999 images" in out
    assert "NOT usable as it is: 5,000 errors, 4,999 warnings" in out
    every = " ".join(run("--data", data, "--all")[1].split())
    assert every.count("image file of cells_train/A172_Phase") == 5000
    assert "--all" not in every


def test_codes_are_listed_with_their_meaning(run):
    code, out, _ = run("--codes")
    assert code == 0
    rows = {line.split()[0]: line for line in out.splitlines() if not line.startswith(" ")}
    for name, meaning in CODES.items():
        assert rows[name].split()[1:3] == [meaning.level, meaning.counted]


def test_help_documents_the_exit_codes(run):
    out = " ".join(run("--help")[1].split())
    assert "Exit code: 0 every image can be used; 1 one cannot" in out
    assert "2 bad input" in out


def test_progress_is_for_terminals_and_an_interrupt_is_one_line(tmp_path):
    """A terminal shows the bar on standard error; standard output stays empty until the end, also when interrupted."""
    leader, follower = pty.openpty()
    with (tmp_path / "out").open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "policy_search.cli", "data", "check", "--data", "demo/all", "--json"],
            stdout=out, stderr=follower, cwd=ROOT, env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
        )  # fmt: skip
    os.close(follower)
    shown, told = b"", False
    try:
        while part := os.read(leader, 4096):  # to the end: a terminal that nobody reads stops who writes to it
            shown += part
            if not told and b"/144" in shown:
                process.send_signal(signal.SIGINT)
                told = True
    except OSError:  # how a terminal says that the other side has gone
        pass
    os.close(leader)
    assert told
    assert process.wait(90) == 130
    assert b"train" in shown
    assert b"interrupted: nothing is reported" in shown
    assert b"Traceback" not in shown
    assert (tmp_path / "out").read_bytes() == b""

"""The command `policy-search`: what it prints, what it writes, and one clear sentence for bad input."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import ROOT


@pytest.fixture
def run(call_policy_search):
    """Call the command; return (exit code, standard output, standard error)."""
    return call_policy_search


def test_preview_writes_a_picture(run, livecell_root, tmp_path):
    sheet = tmp_path / "deep" / "sheet.png"
    code, out, err = run(
        "preview", "--policy", "random_choice", "--data", "A172", "--root", livecell_root, "--out", sheet, "--images", 2
    )
    assert (code, err) == (0, "")
    assert str(sheet) in out
    with Image.open(sheet) as picture:
        assert picture.width > picture.height > 200


def test_show_prints_operations_with_their_settings(run):
    code, out, _ = run("show", ROOT / "policies" / "color_jitter.json")
    assert code == 0
    assert "ColorJitter" in out
    assert "0.7 … 1.3" in " ".join(out.split())


def test_data_list_counts_splits(run, livecell_root):
    code, out, _ = run("data", "list", "--root", livecell_root)
    assert code == 0
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.strip()}
    assert rows["A172"] == ["3", "2", "2", "–"]
    assert rows["BV2"] == ["1", "–", "1", "–"]
    assert rows["SKBR3"] == ["–", "–", "–", "1"]
    assert "demo/SKOV3" in rows


def test_data_stats_counts_cells(run, livecell_root):
    code, out, _ = run("data", "stats", "--data", "A172", "--root", livecell_root)
    assert code == 0
    row = next(line.split() for line in out.splitlines() if line.startswith("A172 "))
    assert row[1:3] == ["3", "36"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data", "stats", "--data", "A127"], "Did you mean A172"),
        (["data", "stats", "--data", "A172", "--root", "nowhere"], "nowhere, which is not a folder"),
        (["data", "stats", "--data", "missing.json"], "no such COCO file"),
        (["show", "nothing.json"], "no policy file nothing.json"),
        (["preview", "--policy", "flip", "--data", "demo/A127", "--out", "x.png"], "Did you mean A172"),
        (["preview", "--policy", "flip", "--data", "demo/A172", "--split", "tset", "--out", "x.png"], "unknown split"),
        (["preview", "--policy", "flip", "--data", "demo/A172", "--out", "/proc/no/x.png"], "cannot write"),
        (["run", "--data", "demo/A172", "--trials", "0"], "--trials"),
        (["run", "--data", "demo/A712", "--out", "r"], "Did you mean A172"),
        (["run", "--data", "demo/A172", "--storage", "mongodb://x", "--out", "r"], "mongodb"),
        (["run", "--data", "demo/A172", "--out", "/proc/no"], "cannot write into /proc/no"),
    ],
)
def test_bad_input_gets_one_sentence_and_exit_code_2(run, livecell_root, monkeypatch, tmp_path, arguments, message):
    monkeypatch.setenv("LIVECELL_ROOT", str(livecell_root))
    monkeypatch.chdir(tmp_path)
    before = set(Path().iterdir())
    code, out, err = run(*arguments)
    assert code == 2
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
    assert "Traceback" not in out + err
    assert set(Path().iterdir()) == before, "nothing half-written"


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["preview"],
        ["show"],
        ["run"],
        ["resume"],
        ["worker"],
        ["report"],
        ["dashboard"],
        ["data", "check"],
        ["data", "stats"],
        ["data", "list"],
    ],
)
def test_every_command_has_help_with_an_example(command):
    done = subprocess.run(
        [sys.executable, "-m", "policy_search.cli", *command, "--help"], capture_output=True, text=True, cwd=ROOT,
        env={"COLUMNS": "80", "PATH": "/usr/bin:/bin"}, check=True, timeout=60,
    )  # fmt: skip
    assert max(len(line) for line in done.stdout.splitlines()) <= 80
    assert not command or "Example: policy-search" in done.stdout

"""The commands `convert` and `export`: what they print at 80 columns, what they write, how they refuse."""

from __future__ import annotations

import json

import pytest

from policy_search import cli_policies
from policy_search.augment import load_policy
from policy_search.augment.autoalbument import convert_file
from tests.conftest import ROOT

POLICY = ROOT / "tests" / "augment" / "data" / "autoalbument_policy.json"


@pytest.fixture
def command(call_policy_search, monkeypatch):
    """Call a command on a terminal of 80 columns; return (exit code, standard output, standard error)."""
    monkeypatch.setattr(cli_policies.console, "_width", 80)
    return call_policy_search


def test_convert_says_what_was_searched_differently(command, tmp_path):
    out = tmp_path / "deep" / "ours.json"
    code, text, err = command("convert", "--from", "autoalbument", POLICY, "--out", out)
    assert (code, err) == (0, "")
    lines = text.splitlines()
    assert all(len(line) <= 80 for line in lines[:-1])  # the last one holds a path
    (contrast,) = [line for line in lines if line.startswith("RandomContrast ")]
    expected = {d.operation: d for d in convert_file(POLICY).differences}["RandomContrast"]
    assert contrast.split()[-2:] == ["6", f"{expected.applications:.3f}"]
    assert "pixels · (1 + v)" in contrast
    assert "Normalize(mean=[0.485, 0.456, 0.406]" in " ".join(text.split())
    assert load_policy(out).content_hash == convert_file(POLICY, "searched").document.content_hash
    code, text, _ = command("convert", "--from", "autoalbument", POLICY, "--reading", "emitted", "--out", out)
    assert (code, text.splitlines()[-1]) == (0, f"wrote {out} as emitted (--reading searched for the other)")
    assert load_policy(out).content_hash == convert_file(POLICY, "emitted").document.content_hash


def test_export_writes_the_names_of_albumentationsx(command, tmp_path):
    out = tmp_path / "x.json"
    code, text, err = command("export", "color_jitter", "--target", "albumentationsx", "--out", out)
    assert (code, text, err) == (0, f"wrote {out} for albumentationsx 2.5.1\n", "")
    (jitter,) = json.loads(out.read_text())["transform"]["transforms"]
    assert jitter["brightness_range"] == [0.7, 1.3]
    code, text, _ = command("export", "simple_copy_paste", "--without", "CopyPaste", "--out", out)
    assert code == 0
    assert text.startswith("left out: CopyPaste")
    assert json.loads(out.read_text())["transform"]["transforms"] == [{"__class_fullname__": "NoOp", "p": 1.0}]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["convert", "--from", "autoaugment", POLICY], "--from autoaugment: expected autoalbument"),
        (["convert", "--reading", "both", POLICY], "--reading both: expected searched or emitted"),
        (["convert", ROOT / "policies" / "crop.json"], "A file of 2.0 needs no conversion."),
        (["convert", ROOT / "missing.json"], "No such file"),
        (["export", "crop", "--target", "torchvision"], "--target torchvision: expected albumentationsx"),
        (["export", "random_choice"], "--without CopyPaste"),
    ],
    ids=lambda v: v if isinstance(v, str) else None,
)
def test_bad_input_is_one_sentence_and_writes_nothing(command, tmp_path, arguments, message):
    code, out, err = command(*arguments, "--out", tmp_path / "x.json")
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert not (tmp_path / "x.json").exists()

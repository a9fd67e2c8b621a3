"""The command `policy-search data fetch`."""

from __future__ import annotations

import sys
from functools import partial

import pytest

from policy_search import cli
from policy_search.cells import resolve
from policy_search.cells.checks import open_splits
from tests.cells.flaky_server import Fault
from tests.cells.livecell_mirror import A172_MODEL, A172_TRAIN, tree


@pytest.fixture
def run(call_policy_search):
    """Call the command; return (exit code, standard output, standard error)."""
    return partial(call_policy_search, "data", "fetch")


def test_fetch_twice_then_verify(run, mirror, tmp_path):
    code, out, err = run("A172", "bt-474", "--root", tmp_path)
    assert code == 0
    assert "17 files fetched, 0 were there" in out
    assert str(tmp_path) in out
    assert "CC BY-NC 4.0" in err
    assert "annotations, 6 files" in err
    assert tree(tmp_path) == mirror.of("A172", "train", "val", "test") | mirror.of("BT474", "train", "val", "test")
    code, out, err = run("A172", "BT474", "--root", tmp_path)
    assert (code, err) == (0, "")
    assert "0 files fetched, 17 were there" in out
    assert run("--verify", "--root", tmp_path)[:2] == (0, f"17 files in {tmp_path} are as they were fetched\n")
    min(tmp_path.rglob("*.tif")).write_bytes(b"")
    code, out, _ = run("--verify", "--root", tmp_path)
    assert code == 1
    assert "has 0 bytes" in out


def test_model_and_split(run, mirror, tmp_path, monkeypatch):
    monkeypatch.setenv("LIVECELL_ROOT", str(tmp_path / "new"))
    code, out, _ = run("A172", "--split", "val", "--model")
    assert code == 0
    assert f"detect finetune --preset livecell --weights {tmp_path / 'new' / A172_MODEL}" in out
    assert tree(tmp_path / "new") == mirror.of("A172", "val") | {A172_MODEL: mirror.truth[A172_MODEL]}


def test_into_the_folder_that_was_unpacked_there(run, mirror, tmp_path):
    inner = tmp_path / "LIVECell_dataset_2021"
    (inner / "annotations").mkdir(parents=True)
    assert run("A172", "--split", "val", "--root", tmp_path)[0] == 0
    assert tree(inner) == mirror.of("A172", "val") == {n.partition("/")[2]: c for n, c in tree(tmp_path).items()}
    assert len(resolve("A172", "val", tmp_path)) == 2
    assert run("--verify", "--root", tmp_path)[0] == 0
    min(inner.rglob("*.tif")).unlink()
    assert run("--verify", "--root", tmp_path)[0] == 1
    changed = [finding for opened in open_splits("A172", tmp_path) for finding in opened.findings]
    assert [finding.code for finding in changed] == ["file-changed"]


def test_notes_of_a_second_try(run, mirror, tmp_path, monkeypatch):
    monkeypatch.setattr("policy_search.cells.remote.time.sleep", lambda seconds: None)
    mirror.server.faults[A172_TRAIN] = [Fault("cut", 100)]
    code, _, err = run("A172", "--root", tmp_path)
    assert code == 0
    assert "train.json: the connection was cut; next try in" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "fetch what?"),
        (("A17",), "Did you mean A172"),
        (("A172", "--split", "unlabeled"), "expected train, val, test"),
        (("--verify",), "nothing was fetched into"),
    ],
)
def test_bad_input_is_one_sentence(run, mirror, tmp_path, arguments, message):
    code, out, err = run(*arguments, "--root", tmp_path / "x")
    assert code == 2
    assert message in err
    assert (out, err.count("\n")) == ("", 1)
    assert mirror.server.log == []
    assert not (tmp_path / "x").exists()


def test_no_network_ends_with_2(run, tmp_path, monkeypatch):
    monkeypatch.setenv("LIVECELL_URL", "http://127.0.0.1:9/")  # nobody listens at port 9
    code, _, err = run("A172", "--root", tmp_path)
    assert code == 2
    assert err.splitlines()[-1].startswith(
        "error: http://127.0.0.1:9/annotations/LIVECell_single_cells/a172/train.json"
    )
    assert str(tmp_path) in err
    assert "demo/A172" in err


def test_check_looks_only_at_what_is_there(mirror, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("POLICY_SEARCH_OFFLINE")
    monkeypatch.delenv("LIVECELL_ROOT", raising=False)
    monkeypatch.setattr(sys, "argv", ["policy-search", "data", "check"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert "policy-search data fetch all" in capsys.readouterr().err
    assert mirror.server.log == []

"""The command `policy-search report`: where it writes, what it says, how it refuses, and the command it quotes."""

from __future__ import annotations

import re
import shlex
from html import unescape

import pytest

from policy_search.config import RunConfig
from policy_search.study import previews, runner
from policy_search.study.reports.origin import command as command_of
from tests.conftest import write_livecell
from tests.study.rules import Rule, fake_learning


@pytest.fixture
def command(call_policy_search):
    """Call a command; return (exit code, standard output, standard error)."""
    return call_policy_search


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A finished run of four trials, and its configuration."""
    folder = tmp_path_factory.mktemp("report")
    root = write_livecell(folder / "my data", {"A172": {"train": 2, "val": 1}}, cells=4, size=(64, 72))
    config = RunConfig(data="A172", root=root, out=folder / "run", trials=4, final_seeds=2, finalists=1)
    runner.run_study(config, objective=Rule(0.1), learn=fake_learning)
    return config


def test_report_writes_page_and_markdown_into_the_run_folder(command, study):
    code, out, err = command("report", study.out)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "Finished: 4 complete trials, and 3 policies scored again in the second round.",
        f"wrote {study.out / 'report.html'} and {study.out / 'report.md'}",
    ]
    assert (study.out / "report.html").read_text().startswith("<!DOCTYPE html>")
    assert "## How it was made" in (study.out / "report.md").read_text()


def test_out_leaves_the_run_folder_alone(command, study, tmp_path):
    before = {p: p.stat().st_mtime_ns for p in study.out.rglob("*")}
    code, _, err = command("report", study.out, "--out", tmp_path / "deep" / "mine.html", "--root", study.root)
    assert (code, err) == (0, "")
    assert sorted(p.name for p in (tmp_path / "deep").iterdir()) == ["mine.html", "mine.md"]
    assert {p: p.stat().st_mtime_ns for p in study.out.rglob("*")} == before


def test_the_quoted_command_makes_the_same_configuration(command, study, monkeypatch, tmp_path):
    """Read the command off the page, run it through the real parser, and compare what would be run."""
    asked = []

    def run_study(config, *, progress, adopt):
        asked.append(config)
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "run_study", run_study)
    monkeypatch.setattr(previews, "save_run_previews", None)
    page = tmp_path / "page.html"
    command("report", study.out, "--out", page)
    (line,) = re.findall(r"<pre>\$ (policy-search run .*?)</pre>", page.read_text(), re.S)
    assert command(*shlex.split(unescape(line))[1:])[0] == 130
    assert asked == [study]
    other = RunConfig(
        data="demo/A172", out="a run", trials=7, seed=3, steps=9, storage="sqlite:///x.db", validate_on=("BV2", "MCF7"),
        finalists=2, final_seeds=4, probe_steps=11, probe_base_steps=12, objective="ap50", target=("A", "B"),
        target_steps=13, recognise_steps=4,
        per_transform=True, study="a name", parallel=2, artifacts="pictures", heartbeat=5, weights="w.pth",
        ap50_iterations=8,
    )  # fmt: skip
    command(*shlex.split(command_of(other))[1:])
    assert asked == [study, other]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere is not a folder: STUDY is the folder that `policy-search run` wrote"),
        (["."], "is not a run folder, it has no config.json"),
        ([".", "--out", "page.pdf"], "--out page.pdf: expected a file name that ends in .html"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(command, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = command("report", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_help_has_an_example(command, capsys):
    code, out, _ = command("report", "--help")
    assert code == 0
    assert "Example: policy-search report" in out

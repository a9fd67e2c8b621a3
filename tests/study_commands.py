"""Commands on studies in a folder of their own: how tests give them, and what they read of what was left."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from policy_search import cli
from policy_search.study import previews, runner
from tests.conftest import write_livecell
from tests.study import quick

NAME = "A172 seed 0"


Call = Callable[..., tuple[int, str, str]]


def run(call: Call, *more: object, out: str = "r", trials: int = 4) -> tuple[int, str, str]:
    budget = ("--trials", trials, "--final-seeds", 2, "--finalists", 1)
    return call("run", "--data", "A172", "--out", out, *budget, *more)


def states(out: str = "r") -> list[tuple[int, str]]:
    """Slot and state of every trial in a run's storage."""
    with sqlite3.connect(Path(out) / "study.db") as database:
        query = """SELECT a.value_json, t.state FROM trials t JOIN trial_user_attributes a USING (trial_id)
                   JOIN studies s USING (study_id) WHERE a.key = 'slot' AND s.study_name = ? ORDER BY t.number"""
        return [(int(slot), state) for slot, state in database.execute(query, (NAME,))]


def best(out: str = "r") -> dict[str, Any]:
    content: dict[str, Any] = json.loads((Path(out) / "best.json").read_text())
    content["policy_search"].pop("seconds")
    return content


def snapshot(folder: str = ".") -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


@pytest.fixture(scope="session")
def cli_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    plan = {"A172": {"train": 2, "val": 1, "test": 1}}
    return write_livecell(tmp_path_factory.mktemp("data"), plan, cells=4)


@pytest.fixture
def quick_objective(monkeypatch: pytest.MonkeyPatch) -> quick.Quick:
    """What the commands of this test score by."""
    found = quick.Quick()
    monkeypatch.setattr(runner, "build_objective", lambda config, data: found)
    monkeypatch.setattr(runner, "_learner", lambda config, tell: quick.learn)
    monkeypatch.setattr(previews, "save_preview", lambda *arguments, **options: None)  # most of a run's time here
    return found


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, cli_data: Path) -> Call:
    """Give a command in an empty folder; (exit code, standard output, standard error). Never a traceback."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIVECELL_ROOT", str(cli_data))

    def command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["policy-search", *map(str, arguments)])
        code: Any = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return command

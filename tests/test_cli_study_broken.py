"""Runs that are stopped, killed, or lose their disk or their database: what they say, and that they go on."""

from __future__ import annotations

import errno
import functools
import json
import os
import signal
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from policy_search.augment import PolicyDocument, load_policy
from policy_search.cells import files
from policy_search.study import artifacts, runner, scorebook
from policy_search.study.storage import open_storage
from policy_search.study.storages import sqlite_file
from tests.postgres import PASSWORD, Server
from tests.study import quick
from tests.study_commands import NAME, Call, best, run, states


def test_a_full_disk_in_a_trial_is_not_held_against_its_policy(call: Call, quick_objective: quick.Quick) -> None:
    def hook(count: int, document: PolicyDocument) -> None:
        if count == 1 and not told:
            told.append(True)
            raise OSError(errno.ENOSPC, "No space left on device", "/scratch/x")

    told: list[bool] = []
    quick_objective.hook = hook
    code, _, err = run(call)
    assert code == 1
    assert err == (
        "error: a trial met a full disk ([Errno 28] No space left on device: '/scratch/x'). Make room and repeat the "
        "command; finished trials are kept.\n"
    )
    assert run(call)[0] == 0
    assert states() == [(0, "COMPLETE"), (1, "FAIL"), (1, "COMPLETE"), (2, "COMPLETE"), (3, "COMPLETE")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_says_how_it_goes_on_and_ends_as_if_it_had_not_been_stopped(
    call: Call, quick_objective: quick.Quick, number: signal.Signals
) -> None:
    assert run(call, out="whole")[0] == 0
    whole, quick_objective.scored, quick_objective.count = quick_objective.scored, [], 0

    def hook(count: int, document: PolicyDocument) -> None:
        if count in stops:  # in the first trial, a later one, and in the second round
            stops.discard(count)
            os.kill(os.getpid(), number)

    stops, quick_objective.hook = {0, 2, 6}, hook
    code, _, err = run(call, out="a b")
    while code == 130:
        assert err == "stopped; this goes on: policy-search resume 'a b'\n"
        assert "RUNNING" not in [state for _, state in states("a b")]
        assert not Path("a b/best.json").exists()
        code, _, err = call("resume", "a b")
    assert (code, err, stops) == (0, "", set())
    assert quick_objective.scored == whole
    assert best("a b") == best("whole")
    assert [slot for slot, state in states("a b") if state == "COMPLETE"] == [0, 1, 2, 3]
    assert [state for _, state in states("a b")].count("FAIL") == 2
    # Once more: nothing is left to do, and nothing is done.
    before = Path("a b/best.json").read_bytes()
    code, out, err = call("resume", "a b")
    assert (code, err) == (0, "")
    assert "no trial was left to do: this run had found all that before" in out
    assert quick_objective.scored == whole
    assert Path("a b/best.json").read_bytes() == before


def test_a_run_that_is_stopped_before_it_is_begun_does_not_promise_to_go_on(
    call: Call, quick_objective: quick.Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_data", lambda config: os.kill(os.getpid(), signal.SIGINT))
    assert run(call) == (130, "", "stopped before anything was begun: repeat the command\n")
    assert not Path("r").exists()


def test_a_database_that_is_deleted_in_a_trial_is_rescued(call: Call, quick_objective: quick.Quick) -> None:
    def hook(count: int, document: PolicyDocument) -> None:
        if count == 2 and not Path("r/study.db.rescued").exists():
            Path("r/study.db").unlink()

    quick_objective.hook = hook
    code, _, err = run(call)
    assert code == 1
    assert err.startswith("error: --storage sqlite:///")
    assert "r/study.db was deleted, moved or replaced. What it held up to the last finished trial is in" in err
    assert "rename it to study.db" in err
    assert err.count("\n") == 1
    log = Path("r/log.jsonl").read_bytes()
    # Not doing as told must not start all over.
    code, _, err = call("resume", "r")
    assert (code, err.count("\n")) == (2, 1)
    assert "r holds finished trials, and sqlite:///" in err
    assert Path("r/log.jsonl").read_bytes() == log
    assert not Path("r/study.db").exists()
    Path("r/study.db.rescued").rename("r/study.db")
    assert call("resume", "r")[0] == 0
    assert [slot for slot, state in states() if state == "COMPLETE"] == [0, 1, 2, 3]
    # What was measured when the database went was in the book of scores: nothing is scored twice.
    assert len(quick_objective.scored) == len(set(quick_objective.scored))


def test_a_database_on_a_full_disk_is_waited_for_and_then_given_up(
    call: Call, quick_objective: quick.Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "open_storage", functools.partial(open_storage, patience=0.3))
    full = {"now": True}
    connect, limit = sqlite_file.connect, ""

    def small(path: Path) -> sqlite3.Connection:
        connection = connect(path)
        connection.execute(limit or "SELECT 1")
        return connection

    monkeypatch.setattr(sqlite_file, "connect", small)
    opened = runner.open_storage
    storages: list[Any] = []

    def opening(*arguments: Any, **options: Any) -> Any:
        storage = opened(*arguments, **options)
        storages.append(storage)
        return storage

    monkeypatch.setattr(runner, "open_storage", opening)

    def fill(count: int, document: PolicyDocument) -> None:
        nonlocal limit
        if count == 1 and full.pop("now", False):
            with storages[-1].engine.connect() as connection:
                limit = f"PRAGMA max_page_count = {connection.exec_driver_sql('PRAGMA page_count').scalar_one()}"
            storages[-1].engine.dispose()

    quick_objective.hook = fill
    code, out, err = run(call)
    assert code == 1
    assert "the disk is full: database or disk is full; trying again for up to 0.3 s" in " ".join(out.split())
    assert "the disk is full" in err
    assert "repeat the command or `policy-search resume`; finished trials are kept" in err
    assert err.count("\n") == 1
    limit = ""
    assert call("resume", "r")[0] == 0
    assert [slot for slot, state in states() if state == "COMPLETE"] == [0, 1, 2, 3]
    assert len(quick_objective.scored) == len(set(quick_objective.scored))


def _no_space(*arguments: object, **options: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_full_disk_at_pictures_scores_log_and_policies_costs_no_score(
    call: Call, quick_objective: quick.Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(call, out="whole")[0] == 0
    with monkeypatch.context() as full:
        full.setattr(artifacts.WholeFiles, "write", _no_space)
        full.setattr(scorebook.ScoreBook, "_append", _no_space)
        begun = files.write_text

        def write_text(path: Path, text: str, **options: str) -> None:
            begun(path, text, **options) if Path(path).name == "config.json" else _no_space()

        for module in ("policy_search.cells.files", "policy_search.study.folder"):
            full.setattr(f"{module}.write_text", write_text)
        code, out, err = run(call)
    assert code == 1
    told = " ".join(out.split())
    assert "before_after.png could not be written: No space left on device" in told
    assert told.count("scores.jsonl cannot be written (No space left on device): scores are kept in the storage") == 1
    assert told.count("cannot write into r (No space left on device); all trials are kept in the storage") == 1
    assert err == (
        "error: cannot write into r (No space left on device). All trials are kept in the storage: mend that, then "
        "policy-search resume r\n"
    )
    assert [state for _, state in states()] == ["COMPLETE"] * 4
    assert sorted(p.name for p in Path("r").iterdir() if not p.name.startswith(".")) == ["config.json", "study.db"]
    quick_objective.scored = []
    assert call("resume", "r")[0] == 0
    assert quick_objective.scored == []
    assert best() == best("whole")
    assert Path("r/log.jsonl").read_text().count("\n") == 4
    assert [load_policy(f"r/trials/{slot:03d}/policy.json").name for slot in range(2)] == ["none", "random_choice"]


def kill_at(name: str, when: int) -> None:
    """End this process with -9 as it renames a new file `name` into place for the `when`-th time."""
    replace, seen = os.replace, 0

    def killing(source: Any, target: Any, **options: Any) -> None:
        nonlocal seen
        seen += Path(target).name == name
        if seen == when and Path(target).name == name:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target, **options)

    os.replace = killing


def test_a_process_killed_while_it_writes_leaves_whole_files(call: Call, quick_objective: quick.Quick) -> None:
    assert run(call, out="whole")[0] == 0
    for name, when in (("log.jsonl", 3), ("best.json", 1)):
        process = os.fork()
        if process == 0:
            kill_at(name, when)
            run(call)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL
        assert [json.loads(line)["trial"] for line in Path("r/log.jsonl").read_text().splitlines()][:2] == [0, 1]
        assert any(p.name.startswith(f".{name}.") for p in Path("r").iterdir()), "it was killed too early"
        assert not Path("r/best.json").exists()
    assert len(Path("r/log.jsonl").read_text().splitlines()) == 4
    quick_objective.scored = []
    assert call("resume", "r")[0] == 0
    assert quick_objective.scored == []
    assert best() == best("whole")
    assert [p.name for p in Path("r").iterdir() if p.name.startswith(".")] == [".lock"]
    assert "RUNNING" not in [state for _, state in states()]


@pytest.mark.parametrize("stopped", [False, True])
def test_a_server_that_is_gone_for_good_ends_the_run_and_ctrl_c_ends_the_waiting(
    call: Call, quick_objective: quick.Quick, monkeypatch: pytest.MonkeyPatch, restless: Server, stopped: bool
) -> None:
    patience = 600.0 if stopped else 1.0
    monkeypatch.setattr(runner, "open_storage", functools.partial(open_storage, patience=patience))
    url = restless.fresh()

    def hook(count: int, document: PolicyDocument) -> None:
        if count == 2 and restless.running:
            restless.kill()
            if stopped:
                threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()

    quick_objective.hook = hook
    started = time.monotonic()
    code, out, err = run(call, "--storage", url, "--heartbeat", 1)
    assert time.monotonic() - started < 60
    assert PASSWORD not in out + err
    assert f"trying again for up to {patience:g} s" in " ".join(out.split())
    if stopped:
        assert (code, err) == (130, "stopped; this goes on: policy-search resume r\n")
    else:
        assert code == 1
        assert err.startswith("error: --storage postgresql://")
        assert "Start the server and repeat the command or `policy-search resume`; finished trials are kept" in err
        assert err.count("\n") == 1
    restless.start()
    monkeypatch.setattr(runner, "open_storage", open_storage)
    monkeypatch.setenv("PGPASSWORD", PASSWORD)  # the run folder has not kept it
    code, out, err = call("resume", "r")  # waits until the trial that was cut off counts as dead
    assert (code, err) == (0, "")
    with open_storage(url) as storage:
        trials = optuna.load_study(study_name=NAME, storage=storage).trials
    assert sorted(t.user_attrs["slot"] for t in trials if t.state == TrialState.COMPLETE) == [0, 1, 2, 3]
    assert len(quick_objective.scored) == len(set(quick_objective.scored)) == 4 + 6
    # A worker that comes late finds nothing to do, and leaves no folder.
    code, out, err = call("worker", "--storage", url, "--study", NAME)
    assert (code, err) == (0, "")
    assert "The study is done. This worker did 0 trials and 0 scorings of the second round." in out
    assert not list(Path("runs").rglob(".lock"))
    code, out, err = call("worker", "--storage", url, "--study", "nobody")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"holds no study named 'nobody' (it holds {NAME!r}). Begin it with policy-search run --storage URL." in err
    assert PASSWORD not in err

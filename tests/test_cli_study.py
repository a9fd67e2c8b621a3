"""The commands run, resume and worker when things go wrong: what they say, their exit codes, and what they leave."""

from __future__ import annotations

import errno
import functools
import importlib.util
import json
import os
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from policy_search import cli
from policy_search.augment import PolicyDocument, load_policy
from policy_search.cells import files
from policy_search.config import RunConfig, SearchConfig
from policy_search.study import artifacts, previews, runner, scorebook, sqlite_file
from policy_search.study.storage import open_storage
from tests.conftest import write_livecell
from tests.postgres import PASSWORD, Server
from tests.study import quick

NAME = "A172 seed 0"
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    plan = {"A172": {"train": 2, "val": 1, "test": 1}}
    return write_livecell(tmp_path_factory.mktemp("data"), plan, cells=4)


@pytest.fixture
def objective(monkeypatch: pytest.MonkeyPatch) -> quick.Quick:
    """What the commands of this test score by."""
    found = quick.Quick()
    monkeypatch.setattr(runner, "build_objective", lambda config, data: found)
    monkeypatch.setattr(runner, "_learner", lambda config, tell: quick.learn)
    monkeypatch.setattr(previews, "save_preview", lambda *arguments, **options: None)  # most of a run's time here
    return found


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path) -> Call:
    """Give a command in an empty folder; (exit code, standard output, standard error). Never a traceback."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIVECELL_ROOT", str(data))

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


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--data", "A172", "--trials", "0"], "--trials: expected a number of at least 1, found 0"),
        (["run", "--data", "A172", "--parallel", "0"], "--parallel: expected a number of at least 1, found 0"),
        (["run", "--data", "A172", "--heartbeat", "0"], "--heartbeat: expected a number of at least 1, found 0"),
        (["run", "--data", "A172", "--study", ""], "--study: expected a text that is not empty, found ''"),
        (
            ["run", "--data", "A172", "--objective", "luck"],
            "--objective: expected one of 'probe', 'bridge', 'affinity-diversity', 'tradeoff' or 'ap50', found 'luck'",
        ),
        (["run", "--data", "A172", "--objective", "bridge"], "has none: name them by --target"),
        (["run", "--data", "A172", "--objective", "bridge", "--target", "A172"], "A172 is the source type"),
        (["run", "--data", "A172", "--objective", "ap50", "--weights", "no.pth"], "--weights no.pth: no such file"),
        (["run", "--data", "A172", "--storage", "study.db"], "--storage study.db: found no scheme, expected sqlite"),
        (["run", "--data", "A172", "--storage", "postgresql://host"], "found no database name"),
        (["run", "--data", "A172", "--storage", "sqlite:///no/x.db"], "folder no is missing"),
        (["run", "--data", "A172", "--artifacts", "file"], "cannot write into file: File exists. Choose another "
         "folder with --artifacts"),
        (["run", "--data", "A172", "--out", "file"], "cannot write into file: File exists"),
        (["run", "--data", "A172", "--out", "search"], "search holds a run of "),
        (["run", "--data", "A172", "--out", "old"], "run of an earlier version of policy-search (it has no objective)"),
        (["resume"], "expected either STUDY, the folder of a run, or --storage with --study and --out"),
        (["resume", "nowhere"], "nowhere is not a folder: STUDY is the folder that `policy-search run` wrote"),
        (["resume", "empty"], "empty is not a run folder, it has no config.json"),
        (["resume", "search"], "search holds one search of `policy-search search`, which has no trials"),
        (["resume", "old"], "run of an earlier version of policy-search (it has no objective)"),
        (["resume", "cut"], "cut/config.json is damaged"),
        (["resume", "newer"], "of another version of policy-search (--novelty: there is no such option, found 1)"),
        (["resume", "old", "--storage", "sqlite:///x.db"], "expected either STUDY"),
        (["resume", "old", "--study", "x"], "--study goes with --storage"),
        (["resume", "old", "--out", "x"], "--out goes with --storage"),
        (["resume", "--storage", "sqlite:///x.db", "--study", "x"], "--storage needs --study"),
        (["resume", "--storage", "sqlite:///x.db", "--study", "x", "--out", "y"], "x.db: there is no such file"),
        (["worker", "--storage", "sqlite:///x.db", "--study", "x"], "x.db: there is no such file"),
        (["worker", "--storage", "mysql://h/d", "--study", "x"], "storage 'mysql' is not supported"),
        (["dashboard", "empty", "--no-browser"], "empty is not a run folder"),
        (["dashboard", "old", "--no-browser"], "there is no such file; is the run begun"),
        (["dashboard", "--storage", "postgresql://lab:secret@127.0.0.1:1/d", "--no-browser"],
         "no answer from 127.0.0.1, port 1"),
        (["report", "empty"], "empty is not a run folder"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence_and_leaves_everything_as_it_was(call: Call, arguments: list[str], said: str) -> None:
    Path("file").write_text("precious")
    config = RunConfig(data="A172", out=Path("old")).model_dump(mode="json")
    folders = {
        "search": SearchConfig(data="A172", out=Path("search")).model_dump(mode="json"),
        "old": {key: value for key, value in config.items() if key != "objective"},
        "newer": config | {"novelty": 1},
    }
    for name, content in folders.items():
        Path(name).mkdir()
        Path(name, "config.json").write_text(json.dumps(content))
    Path("cut").mkdir()
    Path("cut", "config.json").write_text('{"data": "A1')
    Path("empty").mkdir()
    before = snapshot()
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert said in err
    assert err.count("\n") == 1
    assert "secret" not in err
    assert snapshot() == before


def test_a_missing_detector_is_named(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "detectron2" else found(name))
    code, _, err = run(call, "--objective", "ap50")
    assert (code, err.count("\n")) == (2, 1)
    assert "detectron2 is not installed: run `make setup`, or choose another --objective" in err
    assert not Path("r").exists()


def test_a_trial_that_raises_or_has_no_number_is_told_and_the_run_goes_on(call: Call, objective: quick.Quick) -> None:
    def hook(count: int, document: PolicyDocument) -> None:
        if document.name == "random_choice":
            raise RuntimeError("out of luck")

    objective.hook = hook
    objective.no_number = "none"
    code, out, err = run(call)
    assert (code, err) == (0, "")
    assert "trials 0/4  none: fail – ScoreError: the policy's score is nan" in out
    assert "trials 0/4  random_choice: fail – RuntimeError: out of luck" in out
    assert [state for _, state in states()] == ["FAIL", "FAIL", *["COMPLETE"] * 4]


def test_a_cause_that_is_not_the_policies_fault_ends_the_run(call: Call, objective: quick.Quick) -> None:
    def hook(count: int, document: PolicyDocument) -> None:
        raise RuntimeError("no memory")

    objective.hook = hook
    code, out, err = run(call)
    assert code == 1
    assert err.startswith("error: 6 trials failed one after another, the last with RuntimeError: no memory. Mend")
    assert err.count("\n") == 1
    assert out.count("fail – RuntimeError: no memory") == 6
    assert not Path("r/best.json").exists()
    objective.hook = lambda count, document: None
    assert call("resume", "r")[0] == 0
    assert [state for _, state in states()] == ["FAIL"] * 6 + ["COMPLETE"] * 4


def test_a_full_disk_in_a_trial_is_not_held_against_its_policy(call: Call, objective: quick.Quick) -> None:
    def hook(count: int, document: PolicyDocument) -> None:
        if count == 1 and not told:
            told.append(True)
            raise OSError(errno.ENOSPC, "No space left on device", "/scratch/x")

    told: list[bool] = []
    objective.hook = hook
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
    call: Call, objective: quick.Quick, number: signal.Signals
) -> None:
    assert run(call, out="whole")[0] == 0
    whole, objective.scored, objective.count = objective.scored, [], 0

    def hook(count: int, document: PolicyDocument) -> None:
        if count in stops:  # in the first trial, a later one, and in the second round
            stops.discard(count)
            os.kill(os.getpid(), number)

    stops, objective.hook = {0, 2, 6}, hook
    code, _, err = run(call, out="a b")
    while code == 130:
        assert err == "stopped; this goes on: policy-search resume 'a b'\n"
        assert "RUNNING" not in [state for _, state in states("a b")]
        assert not Path("a b/best.json").exists()
        code, _, err = call("resume", "a b")
    assert (code, err, stops) == (0, "", set())
    assert objective.scored == whole
    assert best("a b") == best("whole")
    assert [slot for slot, state in states("a b") if state == "COMPLETE"] == [0, 1, 2, 3]
    assert [state for _, state in states("a b")].count("FAIL") == 2
    # Once more: nothing is left to do, and nothing is done.
    before = Path("a b/best.json").read_bytes()
    code, out, err = call("resume", "a b")
    assert (code, err) == (0, "")
    assert "no trial was left to do: this run had found all that before" in out
    assert objective.scored == whole
    assert Path("a b/best.json").read_bytes() == before


def test_a_run_that_is_stopped_before_it_is_begun_does_not_promise_to_go_on(
    call: Call, objective: quick.Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_data", lambda config: os.kill(os.getpid(), signal.SIGINT))
    assert run(call) == (130, "", "stopped before anything was begun: repeat the command\n")
    assert not Path("r").exists()


def test_a_database_that_is_deleted_in_a_trial_is_rescued(call: Call, objective: quick.Quick) -> None:
    def hook(count: int, document: PolicyDocument) -> None:
        if count == 2 and not Path("r/study.db.rescued").exists():
            Path("r/study.db").unlink()

    objective.hook = hook
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
    assert len(objective.scored) == len(set(objective.scored))


def test_a_database_on_a_full_disk_is_waited_for_and_then_given_up(
    call: Call, objective: quick.Quick, monkeypatch: pytest.MonkeyPatch
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

    objective.hook = fill
    code, out, err = run(call)
    assert code == 1
    assert "the disk is full: database or disk is full; trying again for up to 0.3 s" in " ".join(out.split())
    assert "the disk is full" in err
    assert "repeat the command or `policy-search resume`; finished trials are kept" in err
    assert err.count("\n") == 1
    limit = ""
    assert call("resume", "r")[0] == 0
    assert [slot for slot, state in states() if state == "COMPLETE"] == [0, 1, 2, 3]
    assert len(objective.scored) == len(set(objective.scored))


def _no_space(*arguments: object, **options: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_full_disk_at_pictures_scores_log_and_policies_costs_no_score(
    call: Call, objective: quick.Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(call, out="whole")[0] == 0
    with monkeypatch.context() as full:
        full.setattr(artifacts.WholeFiles, "write", _no_space)
        full.setattr(scorebook.ScoreBook, "_append", _no_space)
        begun = files.write_text

        def write_text(path: Path, text: str) -> None:
            begun(path, text) if Path(path).name == "config.json" else _no_space()

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
    objective.scored = []
    assert call("resume", "r")[0] == 0
    assert objective.scored == []
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


def test_a_process_killed_while_it_writes_leaves_whole_files(call: Call, objective: quick.Quick) -> None:
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
    objective.scored = []
    assert call("resume", "r")[0] == 0
    assert objective.scored == []
    assert best() == best("whole")
    assert [p.name for p in Path("r").iterdir() if p.name.startswith(".")] == [".lock"]
    assert "RUNNING" not in [state for _, state in states()]


def test_two_runs_of_one_name_do_not_meet(call: Call, objective: quick.Quick) -> None:
    other: list[tuple[int, str, str]] = []

    def hook(count: int, document: PolicyDocument) -> None:
        if count == 1:
            other.append(call("resume", "r"))

    objective.hook = hook
    assert run(call)[0] == 0
    code, out, err = other[0]
    assert code == 2
    assert "wrote" not in out
    assert err == "error: another run is working in r: wait for it, or choose another --out\n"
    # Another folder, the same storage and name: nothing of the first is touched.
    before = [t.values for t in optuna.load_study(study_name=NAME, storage="sqlite:///r/study.db").trials]
    code, _, err = run(call, "--storage", "sqlite:///r/study.db", out="s")
    assert (code, err.count("\n")) == (2, 1)
    assert f"holds a study named {NAME!r} already, which another run began. To share its work: policy-search" in err
    assert [t.values for t in optuna.load_study(study_name=NAME, storage="sqlite:///r/study.db").trials] == before


@pytest.mark.parametrize("stopped", [False, True])
def test_a_server_that_is_gone_for_good_ends_the_run_and_ctrl_c_ends_the_waiting(
    call: Call, objective: quick.Quick, monkeypatch: pytest.MonkeyPatch, restless: Server, stopped: bool
) -> None:
    patience = 600.0 if stopped else 1.0
    monkeypatch.setattr(runner, "open_storage", functools.partial(open_storage, patience=patience))
    url = restless.fresh()

    def hook(count: int, document: PolicyDocument) -> None:
        if count == 2 and restless.running:
            restless.kill()
            if stopped:
                threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()

    objective.hook = hook
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
    assert len(objective.scored) == len(set(objective.scored)) == 4 + 6
    # A worker that comes late finds nothing to do, and leaves no folder.
    code, out, err = call("worker", "--storage", url, "--study", NAME)
    assert (code, err) == (0, "")
    assert "The study is done. This worker did 0 trials and 0 scorings of the second round." in out
    assert not list(Path("runs").rglob(".lock"))
    code, out, err = call("worker", "--storage", url, "--study", "nobody")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"holds no study named 'nobody' (it holds {NAME!r}). Begin it with policy-search run --storage URL." in err
    assert PASSWORD not in err


def test_a_study_whose_folder_is_damaged_is_taken_up_in_another(call: Call, objective: quick.Quick) -> None:
    def hook(count: int, document: PolicyDocument) -> None:
        if count == 2 and not Path("s").exists():
            raise KeyboardInterrupt

    objective.hook = hook
    assert run(call)[0] == 130
    Path("r/config.json").write_text("{")
    code, _, err = call("resume", "r")
    assert (code, err.count("\n")) == (2, 1)
    assert "policy-search resume --storage URL --study NAME --out FOLDER" in err
    Path("s").mkdir()
    code, _, err = call("resume", "--storage", "sqlite:///r/study.db", "--study", NAME, "--out", "s")
    assert (code, err) == (0, "")
    assert len(objective.scored) == len(set(objective.scored)) == 4 + 6
    assert len(Path("s/log.jsonl").read_text().splitlines()) == 4
    assert best("s")["policy_search"]["study"] == NAME

"""The commands run, resume and worker on bad input and on trials that fail: sentences, exit codes, what is left."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import optuna
import pytest

from policy_search.augment import PolicyDocument
from policy_search.config import RunConfig, SearchConfig
from tests.study import quick
from tests.study_commands import NAME, Call, best, run, snapshot, states


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


def test_a_trial_that_raises_or_has_no_number_is_told_and_the_run_goes_on(
    call: Call, quick_objective: quick.Quick
) -> None:
    def hook(count: int, document: PolicyDocument) -> None:
        if document.name == "random_choice":
            raise RuntimeError("out of luck")

    quick_objective.hook = hook
    quick_objective.no_number = "none"
    code, out, err = run(call)
    assert (code, err) == (0, "")
    assert "trials 0/4  none: fail – ScoreError: the policy's score is nan" in out
    assert "trials 0/4  random_choice: fail – RuntimeError: out of luck" in out
    assert [state for _, state in states()] == ["FAIL", "FAIL", *["COMPLETE"] * 4]


def test_a_cause_that_is_not_the_policies_fault_ends_the_run(call: Call, quick_objective: quick.Quick) -> None:
    def hook(count: int, document: PolicyDocument) -> None:
        raise RuntimeError("no memory")

    quick_objective.hook = hook
    code, out, err = run(call)
    assert code == 1
    assert err.startswith("error: 6 trials failed one after another, the last with RuntimeError: no memory. Mend")
    assert err.count("\n") == 1
    assert out.count("fail – RuntimeError: no memory") == 6
    assert not Path("r/best.json").exists()
    quick_objective.hook = lambda count, document: None
    assert call("resume", "r")[0] == 0
    assert [state for _, state in states()] == ["FAIL"] * 6 + ["COMPLETE"] * 4


def test_two_runs_of_one_name_do_not_meet(call: Call, quick_objective: quick.Quick) -> None:
    other: list[tuple[int, str, str]] = []

    def hook(count: int, document: PolicyDocument) -> None:
        if count == 1:
            other.append(call("resume", "r"))

    quick_objective.hook = hook
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


def test_a_study_whose_folder_is_damaged_is_taken_up_in_another(call: Call, quick_objective: quick.Quick) -> None:
    def hook(count: int, document: PolicyDocument) -> None:
        if count == 2 and not Path("s").exists():
            raise KeyboardInterrupt

    quick_objective.hook = hook
    assert run(call)[0] == 130
    Path("r/config.json").write_text("{")
    code, _, err = call("resume", "r")
    assert (code, err.count("\n")) == (2, 1)
    assert "policy-search resume --storage URL --study NAME --out FOLDER" in err
    Path("s").mkdir()
    code, _, err = call("resume", "--storage", "sqlite:///r/study.db", "--study", NAME, "--out", "s")
    assert (code, err) == (0, "")
    assert len(quick_objective.scored) == len(set(quick_objective.scored)) == 4 + 6
    assert len(Path("s/log.jsonl").read_text().splitlines()) == 4
    assert best("s")["policy_search"]["study"] == NAME

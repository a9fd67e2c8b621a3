"""The bench of a study's machinery tells the machinery from scoring and learning."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
import study_clock
from bench_study import finished, measured, window
from postgres_server import NoServerError, Server
from stand_ins import Learner, Scorer
from study_clock import Clock, Journal, Seconds, server_seconds
from study_fill import fill
from study_report import shares, table, trial_of_mix, verdicts

from policy_search.augment import PolicyDocument, choice
from policy_search.config import RunConfig
from policy_search.study.first_round import FirstRound
from policy_search.study.halving import Halving
from policy_search.study.making import Learnt
from policy_search.study.objective import Report, Score
from policy_search.study.quiet import quiet_optuna
from policy_search.study.space import Knobs, TargetKnobs
from policy_search.study.storage import default_url, open_storage
from policy_search.study.storages.rdb import STATE
from policy_search.study.stored_policies import KEY
from tests.conftest import write_livecell

POLICIES = {1: choice({"flip": 1.0, "crop": 2.0}), 8: choice({"flip": 1.0, "crop": 2.0, "color_jitter": 3.0})}


class Hands:
    """A clock that moves when it is told: 1 CPU second takes 3 on the wall."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cpu = 0.0
        monkeypatch.setattr(study_clock.Seconds, "now", staticmethod(lambda: Seconds(self.cpu, 3 * self.cpu)))

    def before(self, monkeypatch: pytest.MonkeyPatch, owner: type, name: str, seconds: float) -> None:
        """A method takes so long besides."""
        real = getattr(owner, name)

        def slow(*args: Any, **kwargs: Any) -> Any:
            self.cpu += seconds
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, slow)


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    root = write_livecell(tmp_path / "data", {"A172": {"train": 2, "val": 1, "test": 1}}, cells=4)
    return RunConfig(data="A172", root=root, out=tmp_path / "run", trials=100, final_seeds=2)


def test_what_the_machinery_takes_shows_and_what_scoring_and_learning_take_does_not(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    hands = Hands(monkeypatch)
    hands.before(monkeypatch, Scorer, "score", 50.0)
    hands.before(monkeypatch, Learner, "__call__", 30.0)
    hands.before(monkeypatch, FirstRound, "template", 0.25)
    hands.before(monkeypatch, Halving, "stop", 0.125)  # twice a scoring, while it is under way
    journal = measured(config, Scorer(["a", "b"]), Learner(POLICIES), 4)
    assert journal.machinery == [Seconds(0.5, 1.5)] * 4
    assert journal.work == [Seconds(s, 3 * s) for s in (50.0, 50.0, 80.0, 50.0)]  # the third one of the queue is learnt


def test_the_objective_may_work_after_a_report_and_may_be_stopped_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopped(Exception):
        pass

    class Slow(Scorer):
        def score(self, document: PolicyDocument, *, seed: int, report: Report | None = None) -> Score:
            hands.cpu += 1.0
            report(0.25, 0.5)
            hands.cpu += 2.0
            report(0.5, 0.5)
            raise AssertionError("a stopped scoring went on")

    def report(share: float, value: float) -> None:
        hands.cpu += 10.0
        if share == 0.5:
            raise Stopped

    hands, clock = Hands(monkeypatch), Clock()
    with pytest.raises(Stopped):
        study_clock.Timed(Slow(["a"]), clock).score(POLICIES[1], seed=0, report=report)
    assert clock.total == Seconds(3.0, 9.0)
    hands.cpu += 100.0
    with clock.running():
        hands.cpu += 0.5
    assert clock.total == Seconds(3.5, 10.5)


def test_cpu_seconds_are_of_this_process_and_wall_seconds_of_the_clock_on_the_wall() -> None:
    clock = Clock()
    with clock.running():
        started = time.process_time()
        while time.process_time() < started + 0.05:
            pass
        with clock.paused():
            started = time.process_time()
            while time.process_time() < started + 0.5:
                pass
        time.sleep(0.1)
    assert 0.05 <= clock.total.cpu < 0.4
    assert clock.total.wall >= 0.15


def test_a_study_is_continued_to_its_end(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = measured(config, Scorer(["a"]), Learner(POLICIES), 6)
    assert journal.complete == 6
    hands = Hands(monkeypatch)
    hands.before(monkeypatch, Scorer, "score", 50.0)
    ending = finished(config.model_copy(update={"trials": 6}), Scorer(["a"]), Learner(POLICIES))
    assert ending["scores"] == 2 * 4  # one learnt policy and three naive ones
    assert ending["whole"] == {"cpu": 0.0, "wall": 0.0}
    assert (config.out / "best.json").is_file()


def test_copies_are_trials_like_those_that_are_made(config: RunConfig) -> None:
    url = default_url(config.out)
    measured(config, Scorer(["a"]), Learner(POLICIES), 16)
    fill(url, config.study_name, 60)
    journal = measured(config, Scorer(["a"]), Learner(POLICIES), 2)
    with quiet_optuna(), open_storage(url) as storage:
        study = optuna.load_study(storage=storage, study_name=config.study_name)
        trials = study.get_trials(deepcopy=False)
        assert [t.user_attrs["slot"] for t in trials] == list(range(62))
        assert journal.complete == sum(t.state == TrialState.COMPLETE for t in trials)
        model, copied = trials[12], next(t for t in trials[16:] if t.number % 4 == 0)  # four models, in turn
        assert copied.params == model.params
        assert copied.system_attrs[KEY] == model.system_attrs[KEY]
        assert set(copied.system_attrs) == set(model.system_attrs) - {STATE}  # no change of its state was asked for
        assert set(copied.user_attrs) == set(model.user_attrs)
        shown = storage.get_study_system_attrs(study._study_id)
        note = [f"dashboard:{t._trial_id}:note_str:0" for t in trials]
        assert set(note) <= set(shown)
        assert shown[note[copied.number]] == shown[note[12]]
    rows = [json.loads(line) for line in (config.out / "log.jsonl").read_text().splitlines()]
    assert [row["trial"] for row in rows] == list(range(62))
    assert len({row["hash"] for row in rows[16:]}) == 46
    assert (config.out / "trials" / "059" / "policy.json").is_file()


def test_a_dashboard_that_is_not_written_is_no_cheap_one(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **kwargs: object) -> bytes:
        raise OSError("no picture")

    monkeypatch.setattr("policy_search.study.artifacts.sheet_png", broken)
    with pytest.raises(RuntimeError, match="no picture"):
        measured(config, Scorer(["a"]), Learner(POLICIES), 2)


def test_windows_are_the_last_trials_up_to_a_size() -> None:
    journal = Journal(Clock(), 100)
    journal.machinery = [Seconds(float(n), 10.0 * n) for n in range(1, 101)]
    journal.served = [n * (n + 1) / 2 for n in range(1, 101)]  # the n-th trial took n
    small, large = window(journal, 10), window(journal, 1100, 1000)
    assert small == {"trials": 10, "mean_of": 5, "cpu_s": 8.0, "wall_s": 80.0, "server_cpu_s": 8.0}  # 6 … 10
    assert large == {"trials": 1100, "mean_of": 50, "cpu_s": 75.5, "wall_s": 755.0, "server_cpu_s": 75.5}


def test_the_table_gives_shares_of_a_real_trial() -> None:
    window = {"trials": 200, "mean_of": 50, "cpu_s": 0.1, "wall_s": 0.5, "server_cpu_s": 0.05}
    trial = {"cpu": 10.0, "wall": 20.0}
    assert shares(window, trial) == pytest.approx((1.5, 2.5))
    late = {**window, "trials": 2000, "cpu_s": 0.4}
    facts = {"real": {"trial": trial, "trials": 16}, "storages": {"PostgreSQL": {"windows": [window, late]}}}
    lines = table(facts)
    assert all(len(line) <= 80 for line in lines)
    assert lines[-2].split("|")[2:-1] == ["    200 ", "    100 ", "       50 ", "     500 ", "  1.5 % ", "   2.5 % "]
    (verdict,) = verdicts(facts)
    assert "200 trials: 1.5 % of CPU (target 2 %: met), 2.5 % of wall time (not met)" in verdict
    assert "3.0-fold" in verdict


def test_the_trial_of_another_mix_is_the_mean_of_its_kinds() -> None:
    kinds = {"with a search, complete": 14.0, "with a search, given up (Hyperband)": 10.0,
             "without a search, complete": 8.0, "without a search, given up (Hyperband)": 4.0}  # fmt: skip
    real = {"kinds": {kind: {"cpu": seconds} for kind, seconds in kinds.items()}}
    mix = {"family": {"searched": 2, "stacked": 3, "naive": 5}, "state": {"complete": 5, "pruned": 5}}
    assert trial_of_mix(real, mix) == pytest.approx(0.2 * 12.0 + 0.8 * 6.0)
    del real["kinds"]["with a search, complete"]
    assert trial_of_mix(real, mix) is None


def test_stand_ins_learn_policies_that_differ_and_can_be_read() -> None:
    learner = Learner(POLICIES)

    def learn(knobs: Knobs | TargetKnobs, seed: int) -> Learnt:
        return learner(None, knobs, 200, seed)  # type: ignore[arg-type]

    large, again, other = learn(Knobs(7), 1), learn(Knobs(7), 1), learn(Knobs(7), 2)
    assert large == again
    assert large.document.content_hash != other.document.content_hash
    assert large.document.content_hash != POLICIES[8].content_hash
    assert len(json.dumps(large.document.to_dict())) == pytest.approx(len(json.dumps(POLICIES[8].to_dict())), abs=60)
    assert PolicyDocument.from_dict(large.document.to_dict()).content_hash == large.document.content_hash
    assert len(json.dumps(learn(Knobs(2), 1).document.transform)) < len(json.dumps(large.document.transform))


def test_a_servers_processes_count_while_they_run_and_afterwards() -> None:
    busy = "import time\nwhile time.process_time() < 1: pass\nprint('done', flush=True)\ninput()"
    before = server_seconds(os.getpid())
    with subprocess.Popen([sys.executable, "-c", busy], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert server_seconds(os.getpid()) - before >= 0.95
        child.communicate(b"\n")
    assert server_seconds(os.getpid()) - before >= 0.95


def test_the_benchs_server_waits_for_the_disk() -> None:
    pytest.importorskip("psycopg2")
    try:
        server = Server(durable=True)
    except NoServerError as error:
        pytest.skip(str(error))
    try:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            assert server.execute(f"SHOW {setting}") == [("on",)]
    finally:
        server.close()

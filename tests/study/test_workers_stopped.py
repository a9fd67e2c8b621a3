"""Workers that end before their trial: by a signal, by Ctrl-C at any moment, by the policy itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import typer

from policy_search.cli_study import _stoppable
from policy_search.config import RunConfig
from policy_search.study import runner
from policy_search.study.data import load_study_data
from policy_search.study.objectives import build_objective
from policy_search.study.opening import open_study
from policy_search.study.reports.storage import stored_study
from policy_search.study.slots import INTERRUPTED
from policy_search.study.storage import default_url, open_storage
from policy_search.study.worker import slots_of
from tests.postgres import PASSWORD, Server
from tests.study.outcomes import await_study, table
from tests.study.players import KILLED, Player, Players, players, shared_root
from tests.study.rules import Rule, fake_learning

__all__ = ["players", "shared_root"]  # fixtures


def test_a_policy_that_kills_its_worker_is_given_up(
    postgres_server: Server, postgres_url: str, players: Players
) -> None:
    def owner() -> Player:
        return players.own(postgres_url, seconds=0.05, deadly="flip")

    def worker() -> Player:
        return players.join(postgres_url, seconds=0.05, deadly="flip")

    running = {owner: owner()}
    await_study(postgres_server, postgres_url)
    running[worker] = worker()
    deaths, end = 0, time.monotonic() + 90
    while running[owner].code != 0:
        assert time.monotonic() < end
        for start, player in running.items():
            if player.code not in (None, 0):
                assert player.code == KILLED, player.said
                deaths += 1
                running[start] = start()
        time.sleep(0.05)
    running[worker].succeed()
    assert deaths == 4
    log = [json.loads(line) for line in (players.folder / "owner" / "log.jsonl").read_text().splitlines()]
    failed = [row for row in log if row["state"] == "fail"]
    assert [(row["name"], row["error"]) for row in failed] == [("flip", "its worker was lost")]
    assert sum(row["state"] == "complete" for row in log) == 14
    assert [row["trial"] for row in log] == list(range(len(log)))


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_signals_free_the_slot_at_once(postgres_server: Server, postgres_url: str, tmp_path: Path) -> None:
    # A probe that trains for ever, and signs of life so seldom that waiting for them to stop would take minutes.
    config = RunConfig(
        data="demo/A172", out=tmp_path / "run", storage=postgres_url, study="x", heartbeat=60, probe_base_steps=10**6
    )
    data = load_study_data("demo/A172", root=None, max_images=config.max_images)
    with open_storage(postgres_url) as storage:
        open_study(storage, postgres_url, config, data.fingerprint, build_objective(config, data), begun=False)
    place = postgres_url.replace(f":{PASSWORD}@", "@")
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "policy_search.cli", "worker", "--storage", place, "--study", "x",
             "--out", str(tmp_path / f"worker{number}")],
            stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PGPASSWORD": PASSWORD},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background job ignores it
        )
        for number in (signal.SIGTERM, signal.SIGINT)
    ]  # fmt: skip
    try:
        end = time.monotonic() + 90
        while sum("hash" in keys for _, _, keys in table(postgres_server, postgres_url).get("x", [])) < 2:
            assert time.monotonic() < end
            assert all(worker.poll() is None for worker in workers)
            time.sleep(0.1)
        started = time.monotonic()
        for number, worker in zip((signal.SIGTERM, signal.SIGINT), workers, strict=True):
            worker.send_signal(number)
        said = [worker.communicate(timeout=60) for worker in workers]
        assert time.monotonic() - started < 30
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    assert [worker.returncode for worker in workers] == [130, 130]
    hint = "stopped; the study goes on without this worker, which comes back by the same command"
    assert [errors.strip() for _, errors in said] == [hint, hint]
    found = table(postgres_server, postgres_url)["x"]
    assert [(slot, state, "interrupted" in keys) for slot, state, keys in found] == [
        (0, "FAIL", True), (1, "FAIL", True),
    ]  # fmt: skip
    with stored_study(postgres_url, "x") as study:
        assert slots_of(study).first_free == 0


@pytest.mark.parametrize("moment", ["_tell_with_warning", "get_heartbeat_thread"])
def test_an_interrupt_while_optuna_opens_or_closes_a_trial_frees_the_slot(
    moment: str, players: Players, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(f"optuna.study._optimize.{moment}", interrupt)
        with pytest.raises(KeyboardInterrupt):
            runner.run_study(players.config(None, trials=2), objective=Rule(), learn=fake_learning)
    with stored_study(default_url(players.folder / "owner"), "x") as study:
        states = [(trial.state.name, INTERRUPTED in trial.user_attrs) for trial in study.get_trials(deepcopy=False)]
    assert states == [("FAIL", True)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_an_object_is_collected_is_not_lost(number: int) -> None:
    class Slow:
        def __del__(self) -> None:
            signal.raise_signal(number)

    def work() -> None:
        with _stoppable(lambda: "go on"):
            Slow()  # collected at once: nothing raised there gets out
            time.sleep(20)

    started = time.monotonic()
    with pytest.raises(typer.Exit) as stopped:
        work()
    assert time.monotonic() - started < 15
    assert stopped.value.exit_code == 130

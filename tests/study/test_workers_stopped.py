"""Workers that end before their trial: by a signal, by Ctrl-C at any moment, by the policy itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import typer

from policy_search.augment import PolicyDocument
from policy_search.cli_study import _stoppable
from policy_search.config import RunConfig
from policy_search.study import runner
from policy_search.study.data import load_study_data
from policy_search.study.objective import Report, Score
from policy_search.study.objectives import build_objective
from policy_search.study.opening import open_study
from policy_search.study.probe import ProbeSettings, train_base
from policy_search.study.reports.storage import stored_study
from policy_search.study.slots import INTERRUPTED
from policy_search.study.stopping import AGAIN, raise_if_asked, stop_asked, stop_at_once
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
        said = [worker.communicate(timeout=90) for worker in workers]
        assert time.monotonic() - started < 90
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    # With -m, Python ends by SIGINT (130 to a shell) after an interrupt that met an exec, as imports have.
    assert all(worker.returncode in (130, -signal.SIGINT) for worker in workers), (said, workers)
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


class Stopped(Rule):
    """Is told to stop at its third scoring, in a place where what the signal raises does not stay KeyboardInterrupt."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self._way = way

    def score(self, document: PolicyDocument, *, seed: int, report: Report | None = None) -> Score:
        if len(self.scored) == 2:
            if self._way == "renamed":
                type("Late", (), {"part": Part()})  # a class that is defined while it is imported
            with suppress(BaseException):
                signal.raise_signal(signal.SIGTERM)
        return super().score(document, seed=seed, report=report)


class Part:
    """Python makes a RuntimeError of what its hook raises (up to 3.11)."""

    def __set_name__(self, owner: type, name: str) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt as error:
            raise RuntimeError("Error calling __set_name__") from error


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        ("renamed", [("COMPLETE", False), ("COMPLETE", False), ("FAIL", True)]),
        ("swallowed", [("COMPLETE", False)] * 3),
    ],
)
def test_a_signal_that_a_library_hides_stops_the_study(
    way: str, expected: list[tuple[str, bool]], players: Players
) -> None:
    with pytest.raises(KeyboardInterrupt), stop_at_once():
        runner.run_study(players.config(None), objective=Stopped(way), learn=fake_learning)
    with stored_study(default_url(players.folder / "owner"), "x") as study:
        states = [(t.state.name, INTERRUPTED in t.user_attrs) for t in study.get_trials(deepcopy=False)]
    assert states == expected


def test_a_signal_that_a_library_hides_stops_the_training_of_a_probe() -> None:
    data = load_study_data("demo/A172", root=None, max_images=1)
    with stop_at_once():
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert stop_asked()
        with pytest.raises(KeyboardInterrupt):
            train_base(data.train, seed=0, settings=ProbeSettings(base_steps=10**6))
    assert not stop_asked()


class Collected:
    """A signal comes while it is collected."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __del__(self) -> None:
        signal.raise_signal(self._number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_an_object_is_collected_is_not_lost(number: int) -> None:
    def work() -> None:
        with _stoppable(lambda: "go on"):
            Collected(number)  # collected at once: nothing raised there gets out
            time.sleep(60)

    started = time.monotonic()
    with pytest.raises(typer.Exit) as stopped:
        work()
    assert time.monotonic() - started < 45
    assert stopped.value.exit_code == 130


def test_a_signal_that_was_seen_is_not_sent_again() -> None:
    def collected(then: Callable[[], None]) -> None:
        with stop_at_once():
            Collected(signal.SIGTERM)
            then()

    def clean_up() -> None:
        with pytest.raises(KeyboardInterrupt):
            raise_if_asked()
        time.sleep(5 * AGAIN)

    collected(clean_up)
    collected(lambda: None)
    time.sleep(5 * AGAIN)  # nor when all is over
    with pytest.raises(KeyboardInterrupt):
        collected(lambda: time.sleep(60))

"""The lock for claims: real processes on a real server, killed with -9, restarted, and threads on SQLite."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

from policy_search.study.storage import StorageLostError, default_url, open_storage
from policy_search.study.storages.locks import _key, claim_lock
from tests.postgres import Server

# Takes the next slot as a worker does: reads, thinks, writes; only the lock keeps two from the same one.
CLAIMER = """
import random, sys, time, optuna
from policy_search.study.storages.locks import claim_lock
from policy_search.study.storage import open_storage
optuna.logging.set_verbosity(optuna.logging.WARNING)
url, count = sys.argv[1], int(sys.argv[2])
with open_storage(url, heartbeat=60, patience=60) as storage:
    study = optuna.create_study(storage=storage, study_name="x", load_if_exists=True)
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(count):
        lock = claim_lock(storage, "x")
        slots = [t.user_attrs["slot"] for t in study.get_trials(deepcopy=False) if "slot" in t.user_attrs]
        def objective(trial):
            time.sleep(random.uniform(0, 0.02))
            trial.set_user_attr("slot", max(slots, default=-1) + 1)
            held = lock.release()
            trial.set_user_attr("held", held)
            return 1.0
        study.optimize(objective, n_trials=1)
"""
HOLDER = """
import sys, time
from policy_search.study.storages.locks import claim_lock
from policy_search.study.storage import open_storage
with open_storage(sys.argv[1]) as storage, claim_lock(storage, "x"):
    print("held", flush=True)
    time.sleep(60)
"""
# Looks for dead trials again and again, as idle workers do.
POLLER = """
import sys, time, optuna, warnings
warnings.simplefilter("ignore")
from policy_search.study.storage import open_storage
optuna.logging.set_verbosity(optuna.logging.WARNING)
with open_storage(sys.argv[1], heartbeat=1) as storage:
    study = optuna.load_study(study_name="x", storage=storage)
    print("ready", flush=True)
    end = time.monotonic() + 4
    while time.monotonic() < end:
        optuna.storages.fail_stale_trials(study)
"""
# Is killed in the middle of a trial.
WORKER = """
import sys, time, optuna
from policy_search.study.storage import open_storage
with open_storage(sys.argv[1], heartbeat=1) as storage:
    study = optuna.load_study(study_name="x", storage=storage)
    def objective(trial):
        trial.suggest_float("x", 0, 1)
        trial.set_user_attr("slot", 3)
        print("running", flush=True)
        time.sleep(60)
    study.optimize(objective, n_trials=1)
"""


class Processes:
    """Processes of one test; all are killed at its end."""

    def __init__(self) -> None:
        self.all: list[subprocess.Popen[str]] = []

    def start(self, code: str, *arguments: str) -> subprocess.Popen[str]:
        """Start one; it is not waited for."""
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.all.append(process)
        return process

    def close(self) -> None:
        """Kill what is left."""
        for process in self.all:
            process.kill()
            process.communicate()


@pytest.fixture
def processes() -> Iterator[Processes]:
    """See `Processes`."""
    started = Processes()
    yield started
    started.close()


def says(process: subprocess.Popen[str], line: str) -> None:
    """Wait until a process says something."""
    assert process.stdout is not None
    assert process.stdout.readline() == f"{line}\n"


def go(process: subprocess.Popen[str]) -> None:
    """Let a process that waits for a line go on."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_slots_are_given_out_once_and_without_a_gap(postgres_url: str, processes: Processes) -> None:
    workers, each = 3, 12
    for _ in range(workers):
        processes.start(CLAIMER, postgres_url, str(each))
    for process in processes.all:
        says(process, "ready")
    for process in processes.all:
        go(process)
    assert [process.wait(60) for process in processes.all] == [0] * workers
    with open_storage(postgres_url) as storage:
        trials = optuna.load_study(study_name="x", storage=storage).get_trials(deepcopy=False)
    assert [t.user_attrs["slot"] for t in trials] == list(range(workers * each))
    assert [t.number for t in trials] == list(range(workers * each))
    assert all(t.user_attrs["held"] for t in trials)


def test_a_killed_holder_blocks_nobody(postgres_url: str, processes: Processes) -> None:
    holder = processes.start(HOLDER, postgres_url)
    says(holder, "held")
    with open_storage(postgres_url) as storage:
        got: list[float] = []

        def claim() -> None:
            with claim_lock(storage, "x"):
                got.append(time.monotonic())

        waiting = threading.Thread(target=claim)
        waiting.start()
        waiting.join(1.5)  # longer than one wait at the server
        assert not got, "somebody else holds it"
        with claim_lock(storage, "another study"):
            pass
        killed = time.monotonic()
        holder.kill()
        waiting.join(10)
        assert got
        assert got[0] - killed < 2


def test_released_early_and_twice(postgres_url: str, tmp_path: Path) -> None:
    for url in (postgres_url, default_url(tmp_path)):
        with open_storage(url) as storage:
            with claim_lock(storage, "x") as first:
                assert first.release()
                with claim_lock(storage, "x") as second:  # would wait for ever
                    assert first.release(), "not the second one's"
                    blocked = threading.Thread(target=lambda s=storage: claim_lock(s, "x").release(), daemon=True)
                    blocked.start()
                    blocked.join(0.5)
                    assert blocked.is_alive()
                    assert second.release()
                    blocked.join(5)
                    assert not blocked.is_alive()
            with pytest.raises(ZeroDivisionError), claim_lock(storage, "x"):
                raise ZeroDivisionError
            claim_lock(storage, "x").release()


def test_a_lock_that_the_server_forgot_is_told(restless: Server) -> None:
    lines: list[str] = []
    with open_storage(restless.fresh(), patience=30, tell=lines.append) as storage:
        lock = claim_lock(storage, "x")
        restless.restart()
        with claim_lock(storage, "x") as other:  # the server has forgotten the first
            assert not lock.release()
            assert not lock.release()
            assert other.release()


def test_waiting_outlasts_a_restart(restless: Server) -> None:
    lines: list[str] = []
    with open_storage(restless.fresh(), patience=30, tell=lines.append) as storage:
        lock = claim_lock(storage, "x")
        got: list[bool] = []

        def claim() -> None:
            with claim_lock(storage, "x") as mine:
                got.append(mine.release())

        waiting = threading.Thread(target=claim)
        waiting.start()
        time.sleep(0.3)
        restless.restart(away=0.5)
        waiting.join(10)
        assert got == [True]
        assert not lock.release()
        assert len(lines) == 2


def test_waiting_ends_with_patience(restless: Server) -> None:
    storage = open_storage(restless.fresh(), patience=1)
    restless.stop()
    started = time.monotonic()
    with pytest.raises(StorageLostError, match="Start the server"):
        claim_lock(storage, "x")
    assert time.monotonic() - started < 30


def test_a_dead_workers_trial_is_closed(postgres_url: str, processes: Processes) -> None:
    with open_storage(postgres_url, heartbeat=1) as storage:
        study = optuna.create_study(storage=storage, study_name="x")
        worker = processes.start(WORKER, postgres_url)
        pollers = [processes.start(POLLER, postgres_url) for _ in range(2)]
        says(worker, "running")
        for poller in pollers:
            says(poller, "ready")
        worker.kill()
        assert [poller.wait(60) for poller in pollers] == [0, 0]
        # No copy waits beside it: its slot is claimed anew like any other, by one worker.
        trials = study.get_trials(deepcopy=False)
        assert [(t.state, t.user_attrs) for t in trials] == [(optuna.trial.TrialState.FAIL, {"slot": 3})]


def test_the_key_is_the_same_on_every_machine() -> None:
    # Computed apart: printf 'policy-search claim x' | sha256sum, its first 8 bytes as a signed number.
    assert _key("x") == 1489595540689679755
    assert -(2**63) <= _key("another") < 2**63

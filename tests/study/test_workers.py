"""One study by many real processes on a real PostgreSQL server: kills, restarts and sleep change no result."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from policy_search import cli
from policy_search.study import runner
from policy_search.study.finals import SUFFIX
from policy_search.study.reports.data import read_config
from policy_search.study.storage import default_url
from tests.postgres import PASSWORD, Server
from tests.study.outcomes import assert_every_slot_once, await_study, ended, results, table
from tests.study.players import Players, players, shared_root
from tests.study.rules import Rule, fake_learning

__all__ = ["players", "shared_root"]  # fixtures

Whole = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, shared_root: Path) -> Whole:
    """What one process finds, undisturbed and on SQLite: the reference."""
    known: dict[int, dict[str, Any]] = {}

    def find(parallel: int = 4) -> dict[str, Any]:
        if parallel not in known:
            alone = Players(tmp_path_factory.mktemp("alone"), shared_root)
            config = alone.config(None, parallel=parallel)
            runner.run_study(config, objective=Rule(), learn=fake_learning)
            known[parallel] = results(config.out, default_url(config.out))
            assert sum(row["state"] == "complete" for row in known[parallel]["log"]) == 14
        return known[parallel]

    # The study holds all that may go wrong: one that is given up, and a winner made of an earlier slot's policy.
    assert "pruned" in [row["state"] for row in find()["log"]]
    assert find()["best"]["policy_search"]["family"] == "choice_searched"
    return find


def test_a_worker_is_killed_and_the_server_restarted(restless: Server, players: Players, whole: Whole) -> None:
    url = restless.fresh()
    owner = players.own(url, seconds=0.6)  # leaves some of the work to the others
    await_study(restless, url)
    killed, worker = players.join(url), players.join(url)
    killed.kill(begun=2)
    worker.freeze(begun=2)
    restless.stop(immediate=True)
    worker.signal(signal.SIGCONT)
    time.sleep(2)
    restless.start()
    owner.succeed()
    worker.succeed()
    assert results(players.folder / "owner", url) == whole()
    assert assert_every_slot_once(restless, url)["x"] >= 1
    assert "trying again" in worker.said
    assert "back after" in worker.said
    assert min(sum(ended(player).values()) for player in players.all) >= 1, "all three had a share"


def test_the_owner_is_killed_and_resumed_while_a_worker_goes_on(
    postgres_server: Server, postgres_url: str, players: Players, whole: Whole
) -> None:
    owner = players.own(postgres_url)
    await_study(postgres_server, postgres_url)
    worker = players.join(postgres_url)
    owner.kill(begun=3)
    assert not (players.folder / "owner" / "best.json").exists()
    again = players.own(postgres_url)
    again.succeed()
    worker.succeed()
    assert results(players.folder / "owner", postgres_url) == whole()
    assert assert_every_slot_once(postgres_server, postgres_url)["x"] >= 1
    assert min(sum(ended(player).values()) for player in players.all) >= 1


@pytest.mark.parametrize("parallel", [1, 4])
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_the_same_study_by_any_number_of_workers(
    workers: int, parallel: int, postgres_server: Server, postgres_url: str, players: Players, whole: Whole
) -> None:
    players.own(postgres_url, seconds=0.05, parallel=parallel, heartbeat=60)
    if workers > 1:
        await_study(postgres_server, postgres_url)
    for number in range(1, workers):
        players.join(postgres_url, seconds=0.03 * number)
    for player in players.all:
        player.succeed()
    assert results(players.folder / "owner", postgres_url) == whole(parallel)
    assert assert_every_slot_once(postgres_server, postgres_url) == {"x": 0, "x" + SUFFIX: 0}
    assert set(ended(*players.all).values()) == {1}, "nothing was scored twice"
    shares = [sum(ended(player).values()) for player in players.all[1:]]
    said = [re.search(r"did (\d+) (\d+)", player.said) for player in players.all[1:]]
    repeats = sum(row["repeats"] is not None for row in whole(parallel)["log"])
    told = sum(int(found[1]) + int(found[2]) for found in said if found)
    assert sum(shares) <= told <= sum(shares) + repeats


def test_resume_on_another_machine(
    postgres_server: Server, postgres_url: str, players: Players, whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command `resume --storage`, in another folder than the study was begun in."""
    players.own(postgres_url).kill(begun=4)
    monkeypatch.setattr(runner, "build_objective", lambda config, data: Rule())
    monkeypatch.setattr(runner, "_learner", lambda config, tell: fake_learning)
    out = players.folder / "elsewhere"
    options = ["--storage", postgres_url, "--study", "x", "--out", str(out), "--root", str(players.root)]
    cli.app(["resume", *options], standalone_mode=False)
    assert results(out, postgres_url) == whole()
    assert assert_every_slot_once(postgres_server, postgres_url)["x"] >= 1
    assert read_config(out)[0] == players.config(postgres_url.replace(f":{PASSWORD}@", "@"), "elsewhere")


def test_a_worker_that_was_asleep_does_no_harm_and_goes_on(
    postgres_server: Server, postgres_url: str, players: Players, whole: Whole
) -> None:
    owner = players.own(postgres_url)
    await_study(postgres_server, postgres_url)
    sleeper = players.join(postgres_url)
    sleeper.freeze(begun=2)
    asleep = len(sleeper.lines)
    end = time.monotonic() + 30
    while not any(state == "FAIL" for _, state, _ in table(postgres_server, postgres_url)["x"]):
        assert time.monotonic() < end, "its trial is not taken from it"
        time.sleep(0.05)
    sleeper.signal(signal.SIGCONT)
    owner.succeed()
    sleeper.succeed()
    assert results(players.folder / "owner", postgres_url) == whole()
    assert assert_every_slot_once(postgres_server, postgres_url)["x"] >= 1  # a slow machine may take others, too
    assert len(sleeper.lines) > asleep + 1, "it went on"

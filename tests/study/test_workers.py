"""One study by many real processes on a real PostgreSQL server: kills, restarts and sleep change no result."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from policy_search.cells.errors import InputError
from policy_search.config import RunConfig
from policy_search.study import runner
from policy_search.study.data import load_study_data
from policy_search.study.finals import SUFFIX, scores_of
from policy_search.study.objectives import build_objective
from policy_search.study.opening import open_study
from policy_search.study.report_data import read_config
from policy_search.study.report_storage import stored_study
from policy_search.study.slots import INTERRUPTED
from policy_search.study.storage import default_url, open_storage
from policy_search.study.worker import slots_of
from tests.conftest import write_livecell
from tests.postgres import PASSWORD, Server
from tests.study.players import KILLED, Player, Players, players
from tests.study.test_runner import Rule, fake_learning

__all__ = ["players"]  # a fixture

psycopg2 = pytest.importorskip("psycopg2")
Whole = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def shared_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data of all studies here."""
    return write_livecell(tmp_path_factory.mktemp("data"), {"A172": {"train": 2, "val": 1, "test": 1}}, cells=4)


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


def results(folder: Path, url: str) -> dict[str, Any]:
    """All that a study has found, without what it took: log, best policy, report, the second round's scores."""
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    best = json.loads((folder / "best.json").read_text())
    for found in (*log, best["policy_search"]):
        del found["seconds"]
    with stored_study(url, "x" + SUFFIX) as second:
        scores = scores_of(second, slots_of(second))
    report, _, _ = (folder / "report.md").read_text().partition("## Cost")
    return {
        "log": log,
        "best": best,
        "report": re.sub(r"(?<![\d.])\d+\.\d(?!\d)", "(seconds)", report),
        "policies": {path.parent.name: json.loads(path.read_text()) for path in folder.glob("trials/*/policy.json")},
        "second round": scores.values,
        "second round's errors": scores.errors,
    }


def table(server: Server, url: str) -> dict[str, list[tuple[int | None, str, set[str]]]]:
    """The table of trials as the server has it: study -> (slot, state, names of attributes) of each trial."""

    found: dict[str, list[tuple[int | None, str, set[str]]]] = {}
    rows = server.execute(
        "SELECT study_name, state::text, array_agg(key), max(CASE WHEN key = 'slot' THEN value_json END) "
        "FROM trials JOIN studies USING (study_id) LEFT JOIN trial_user_attributes USING (trial_id) "
        "GROUP BY trial_id, study_name, state ORDER BY trial_id",
        url.rpartition("/")[2],
    )
    for study, state, keys, slot in rows:
        entry = (None if slot is None else int(str(slot)), str(state), set(keys))  # type: ignore[call-overload]
        found.setdefault(str(study), []).append(entry)
    return found


def assert_every_slot_once(server: Server, url: str, *, complete: int = 14) -> Counter[str]:
    """Each slot has exactly one result and no gap is left; how many trials were cut off, by study."""
    cut: Counter[str] = Counter()
    for study, trials in table(server, url).items():
        results = [
            (slot, state) for slot, state, keys in trials
            if state in ("COMPLETE", "PRUNED") or (state == "FAIL" and "error" in keys)
        ]  # fmt: skip
        assert sorted(slot for slot, _ in results if slot is not None) == list(range(len(results))), study
        if not study.endswith(SUFFIX):
            assert sum(state == "COMPLETE" for _, state in results) == complete
        rest = [state for _, state, keys in trials if state == "RUNNING" or state == "WAITING"]
        assert rest == [], study
        cut[study] = len(trials) - len(results)
    return cut


def await_study(server: Server, url: str, *, trials: int = 1) -> None:
    """Until the study has begun so many trials."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with suppress(psycopg2.errors.UndefinedTable):
            if sum(len(rows) for rows in table(server, url).values()) >= trials:
                return
        time.sleep(0.05)
    raise AssertionError("no study was begun")


def ended(*those: Player) -> Counter[str]:
    """Scorings that were done, by policy and seed."""
    return Counter(line.removeprefix("end ") for player in those for line in player.lines if line.startswith("end"))


def test_a_worker_is_killed_and_the_server_restarted(restless: Server, players: Players, whole: Whole) -> None:
    url = restless.fresh()
    owner = players.own(url)
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


def test_another_folder_adopts_the_study(
    postgres_server: Server, postgres_url: str, players: Players, whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    players.own(postgres_url).kill(begun=4)
    config = runner.config_of(postgres_url, "x", out=players.folder / "elsewhere", root=players.root)
    assert config == players.config(postgres_url, "elsewhere")
    runner.run_study(config, objective=Rule(), learn=fake_learning, adopt=True)
    assert results(players.folder / "elsewhere", postgres_url) == whole()
    assert assert_every_slot_once(postgres_server, postgres_url)["x"] == 1


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
    assert assert_every_slot_once(postgres_server, postgres_url)["x"] == 1
    assert len(sleeper.lines) > asleep + 1, "it went on"


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


@pytest.fixture(scope="module")
def idle(postgres_server: Server, tmp_path_factory: pytest.TempPathFactory, shared_root: Path) -> tuple[str, Players]:
    """A study that is done, of one trial: the URL of its database, and where it was run."""
    url, there = postgres_server.fresh(), Players(tmp_path_factory.mktemp("idle"), shared_root)
    runner.run_study(there.config(url, trials=1), objective=Rule(), learn=fake_learning)
    return url, there


@contextmanager
def refused(server: Server, url: str, *words: str) -> Iterator[None]:
    """What happens within is refused in one sentence with these words, and the database stays as it is."""
    before = dump(server, url)
    with pytest.raises(InputError) as error:
        yield
    text = str(error.value)
    for word in words:
        assert word in text
    assert PASSWORD not in text
    assert "\n" not in text
    assert dump(server, url) == before


def dump(server: Server, url: str) -> dict[str, list[str]]:
    """All rows of all tables."""
    database = url.rpartition("/")[2]
    names = server.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'", database)
    return {str(name): sorted(map(repr, server.execute(f"SELECT * FROM {name}", database))) for (name,) in names}


def test_workers_that_cannot_help_are_refused(
    postgres_server: Server, postgres_url: str, idle: tuple[str, Players], tmp_path: Path
) -> None:
    url, there = idle
    out = tmp_path / "worker"
    with refused(postgres_server, url, "holds no study named 'y'", "(it holds 'x')"):
        runner.join_study(url, "y", out=out, root=there.root)
    with refused(postgres_server, url, "'x' of other data", "Bring the same data here"):
        other = write_livecell(tmp_path / "data", {"A172": {"train": 2, "val": 1, "test": 1}}, cells=4, seed=1)
        runner.join_study(url, "x", out=out, root=other)
    with refused(postgres_server, postgres_url, "is empty"):
        runner.join_study(postgres_url, "x", out=out, root=there.root)
    with refused(postgres_server, url, "not there"):
        runner.join_study(f"sqlite:///{tmp_path / 'none.db'}", "x", out=out, root=there.root)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_a_second_run_of_that_name_is_refused_however_often(
    postgres_server: Server, idle: tuple[str, Players], tmp_path: Path
) -> None:
    url, there = idle
    config = there.config(url, trials=1).model_copy(update={"out": tmp_path / "second"})
    for _ in range(2):
        with refused(postgres_server, url, "'x' already, which another run began", "policy-search worker", "resume"):
            runner.run_study(config, objective=Rule(), learn=fake_learning)
    assert not (tmp_path / "second" / "config.json").exists()


def test_a_worker_on_sqlite_is_refused_while_the_run_goes_on(
    players: Players, postgres_server: Server, postgres_url: str
) -> None:
    owner = players.own(None, trials=2)
    owner.freeze(begun=1)
    with refused(postgres_server, postgres_url, "study.db", "policy-search run", "postgresql://"):
        runner.join_study(default_url(players.folder / "owner"), "x", out=players.folder / "w", root=players.root)
    assert not (players.folder / "w").exists()
    owner.signal(signal.SIGCONT)
    owner.succeed()


def test_the_password_is_in_no_file_and_taken_from_the_environment(
    postgres_server: Server, idle: tuple[str, Players], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, there = idle
    folder = there.folder / "owner"
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {"config.json", "report.md", "best.json", "log.jsonl"} <= {path.name for path in files}
    assert [path for path in files if PASSWORD.encode() in path.read_bytes()] == []
    config, _ = read_config(folder)
    assert config.storage == url.replace(f":{PASSWORD}@", "@")
    monkeypatch.setenv("PGPASSFILE", "/nowhere")
    monkeypatch.delenv("PGPASSWORD", raising=False)
    with refused(postgres_server, url, "refuses this user or password", "PGPASSWORD"):
        runner.run_study(config, objective=Rule(), learn=fake_learning)
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    again = Rule()
    runner.run_study(config, objective=again, learn=fake_learning)
    assert again.scored == [], "it is the same study, which is done"


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
    hint = "the study goes on without this worker; to come back: repeat the command"
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

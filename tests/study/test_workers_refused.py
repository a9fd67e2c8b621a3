"""Workers and runs that a study cannot take: one sentence each, and nothing is changed. Where the password is."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from policy_search.cells.errors import InputError
from policy_search.study import runner
from policy_search.study.reports.data import read_config
from policy_search.study.storage import StudyStorage, default_url, open_storage
from tests.conftest import write_livecell
from tests.postgres import PASSWORD, Server
from tests.study.players import Players, players, shared_root
from tests.study.rules import Rule, fake_learning

__all__ = ["players", "shared_root"]  # fixtures


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
    with refused(postgres_server, url, "'x' of other data", "Bring the same here"):
        other = write_livecell(tmp_path / "data", {"A172": {"train": 2, "val": 1, "test": 1}}, cells=4, seed=1)
        runner.join_study(url, "x", out=out, root=other)
    with refused(postgres_server, postgres_url, "is empty"):
        runner.join_study(postgres_url, "x", out=out, root=there.root)
    with refused(postgres_server, url, "there is no such file"):
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


def test_a_late_worker_finds_nothing_to_do_and_would_give_signs_of_life_as_often_as_the_others(
    idle: tuple[str, Players], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, there = idle
    beats: list[int] = []

    def opening(url: str, *, heartbeat: int = 60, **options: Any) -> StudyStorage:
        beats.append(heartbeat)
        return open_storage(url, heartbeat=heartbeat, **options)

    monkeypatch.setattr(runner, "open_storage", opening)
    assert runner.join_study(url, "x", out=tmp_path / "worker", root=there.root, objective=Rule()) == (0, 0)
    assert beats == [there.config(url).heartbeat]

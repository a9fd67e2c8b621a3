"""Studies on a real PostgreSQL server: what is refused, and what outlasts restarts, lost answers and long absences."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from policy_search.cells.errors import InputError
from policy_search.study.reports.storage import stored_storage, stored_study, study_in
from policy_search.study.storage import StorageLostError, StudyStorage, lost_storage, open_storage
from tests.postgres import PASSWORD, Server
from tests.study.lossy import Proxy, lossy
from tests.study.pauses import pauses

__all__ = ["pauses"]  # a fixture

pytestmark = pytest.mark.filterwarnings(
    "ignore:Heartbeat of storage is supposed", "ignore::optuna.exceptions.ExperimentalWarning"
)


Proxied = tuple[StudyStorage, Proxy, StudyStorage]


def new_study(storage: StudyStorage, name: str = "x") -> optuna.Study:
    return optuna.create_study(storage=storage, study_name=name, load_if_exists=True)


def refused(url: str) -> str:
    """The sentence with which a URL is refused."""
    started = time.monotonic()
    with pytest.raises(InputError) as error:
        open_storage(url)
    assert time.monotonic() - started < 60
    text = str(error.value)
    assert PASSWORD not in text
    assert "wrong-word" not in text
    assert "\n" not in text
    return text


def test_servers_and_databases_that_cannot_be_used(postgres_server: Server) -> None:
    port = postgres_server.port
    assert "refuses this user or password" in refused(postgres_server.url_of("postgres", password="wrong-word"))
    assert "has no database 'nowhere'" in refused(postgres_server.url_of("nowhere"))
    assert "no machine named 'nowhere.invalid'" in refused(f"postgresql://u:{PASSWORD}@nowhere.invalid:{port}/db")
    assert "no answer from 127.0.0.1, port 1 " in refused(f"postgresql://u:{PASSWORD}@127.0.0.1:1/db")
    assert "no answer from" in refused(f"postgresql:///db?host=/nowhere&password={PASSWORD}")


def test_a_user_without_rights_is_refused(postgres_server: Server, postgres_url: str) -> None:
    database = postgres_url.rpartition("/")[2]
    postgres_server.execute(f"CREATE USER guest PASSWORD '{PASSWORD}'")
    text = refused(postgres_server.url_of(database, user="guest"))
    assert "'guest' may not make tables" in text
    assert "GRANT CREATE" in text
    postgres_server.execute(f"REVOKE CONNECT ON DATABASE {database} FROM PUBLIC")
    assert "may not use this database" in refused(postgres_server.url_of(database, user="guest"))


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg2", None)  # an import of it fails
    assert "policy-search[postgres]" in refused(f"postgresql://u:{PASSWORD}@127.0.0.1/db")


def test_tables_of_another_version_are_refused_unchanged(postgres_server: Server, postgres_url: str) -> None:
    database = postgres_url.rpartition("/")[2]
    open_storage(postgres_url).close()
    tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1"
    postgres_server.execute("DROP TABLE trial_heartbeats", database)
    for version, found in (("v2.6.0.a", "bring it up to date"), ("v9.0.0.a", "made by a newer Optuna")):
        postgres_server.execute(f"UPDATE alembic_version SET version_num = '{version}'", database)
        before = postgres_server.execute(tables, database)
        assert found in refused(postgres_url)
        assert postgres_server.execute(tables, database) == before


def test_tables_that_somebody_was_killed_at_making_are_completed(postgres_server: Server, postgres_url: str) -> None:
    database = postgres_url.rpartition("/")[2]
    open_storage(postgres_url).close()
    for statement in ("DELETE FROM alembic_version", "DELETE FROM version_info"):
        postgres_server.execute(statement, database)
        with open_storage(postgres_url) as storage:
            new_study(storage)
        assert len(postgres_server.execute("SELECT * FROM alembic_version", database)) == 1


def test_many_processes_make_the_tables_at_once(postgres_server: Server, postgres_url: str) -> None:
    code = (
        "import sys, optuna; from policy_search.study.storage import open_storage\n"
        "sys.stdin.readline()\n"
        "with open_storage(sys.argv[1]) as storage:\n"
        "    optuna.create_study(storage=storage, study_name='x', load_if_exists=True)\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, postgres_url], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    time.sleep(1.5)  # until they wait for the line
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    failures = [(p.communicate()[1], p.returncode) for p in processes]
    assert [code for _, code in failures] == [0] * 4, failures
    assert postgres_server.execute("SELECT study_name FROM studies", postgres_url.rpartition("/")[2]) == [("x",)]


def test_reading_makes_no_tables_and_writes_nothing(postgres_server: Server, postgres_url: str) -> None:
    with pytest.raises(InputError, match="is empty") as error, stored_storage(postgres_url):
        pass
    assert PASSWORD not in str(error.value)
    database = postgres_url.rpartition("/")[2]
    assert (
        postgres_server.execute("SELECT * FROM information_schema.tables WHERE table_schema='public'", database) == []
    )
    with open_storage(postgres_url) as storage:
        for name, value in (("first", 1.0), ("second round", 2.0)):
            new_study(storage, name).add_trial(optuna.trial.create_trial(value=value))
    with stored_storage(postgres_url) as reading:
        assert [study_in(reading, name).best_value for name in ("first", "second round")] == [1.0, 2.0]
        with pytest.raises(InputError, match="holds no study named 'third'") as error:
            study_in(reading, "third")
        assert PASSWORD not in str(error.value)
        with pytest.raises(optuna.exceptions.StorageInternalError):
            study_in(reading, "first").set_user_attr("written", True)


def contents(study: optuna.Study) -> list[tuple[Any, ...]]:
    """All that a study's trials hold, receipts aside."""
    return [
        (t.number, t.state, t.values, t.params, t.user_attrs, t.intermediate_values)
        for t in study.get_trials(deepcopy=False)
    ]


def test_a_restart_during_a_trial_loses_and_doubles_nothing(restless: Server) -> None:
    lines: list[str] = []
    url = restless.fresh()
    storage = open_storage(url, heartbeat=1, patience=60, tell=lines.append)
    study = new_study(storage)
    beats: list[datetime] = []
    database = url.rpartition("/")[2]

    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", 0, 1)
        trial.set_user_attr("before", trial.number)
        trial.report(0.5, 1)
        if trial.number == 1:
            restless.stop(immediate=True)
            threading.Timer(1.5, restless.start).start()
            trial.set_user_attr("while away", trial.number)
            trial.report(0.25, 2)
            last = restless.execute("SELECT max(heartbeat) FROM trial_heartbeats", database)[0][0]
            time.sleep(2.2)  # the thread sends its next signs of life
            beats.extend([last, restless.execute("SELECT max(heartbeat) FROM trial_heartbeats", database)[0][0]])
        return x

    study.optimize(objective, n_trials=3)
    assert beats[1] > beats[0], "the heartbeat thread is alive"
    with stored_study(url, "x") as found:
        trials = contents(found)
    params = [t.params for t in study.get_trials(deepcopy=False)]
    expected = [(i, TrialState.COMPLETE, [params[i]["x"]], params[i], {"before": i}, {1: 0.5}) for i in range(3)]
    expected[1][4]["while away"] = 1
    expected[1][5][2] = 0.25
    assert trials == expected
    assert len(lines) == 2, lines
    assert "trying again for up to 60 s" in lines[0]
    assert "back after" in lines[1]
    assert PASSWORD not in "".join(lines)
    storage.close()


def test_a_restart_between_operations_goes_unnoticed(restless: Server) -> None:
    lines: list[str] = []
    with open_storage(restless.fresh(), tell=lines.append) as storage:
        study = new_study(storage)
        for number in range(3):
            trial = study.ask()
            restless.restart(immediate=number % 2 == 0)
            study.tell(trial, float(number))
        assert [t.values for t in study.get_trials(deepcopy=False)] == [[0.0], [1.0], [2.0]]
    assert lines == []


def test_a_server_gone_for_longer_than_patience(restless: Server, pauses: list[float]) -> None:
    storage = open_storage(restless.fresh(), heartbeat=1, patience=2.0)
    study = new_study(storage)
    seen: list[BaseException] = []

    def objective(trial: optuna.Trial) -> float:
        restless.kill()
        started = time.monotonic()
        try:
            trial.set_user_attr("key", 1)
        except StorageLostError as error:
            seen.append(error)
            assert time.monotonic() - started > 1.9
            raise
        return 1.0

    with pytest.raises(Exception) as error:  # noqa: PT011
        study.optimize(objective, n_trials=3, catch=(Exception,))
    assert 0 < sum(pauses) <= 2, "patience is spent once, not once for every operation"
    loss = lost_storage(error.value)
    assert loss is not None
    assert len(seen) == 1
    assert "Start the server and repeat the command" in str(loss)
    assert time.strftime("since %H:") in str(loss)
    assert PASSWORD not in str(loss)
    restless.start()  # the same storage, when the server is back after all
    assert contents(study) == [(0, TrialState.RUNNING, None, {}, {}, {})]


@pytest.fixture
def proxied(postgres_server: Server, postgres_url: str) -> Iterator[Proxied]:
    """A storage whose commits may lose their answers, its proxy, and the same database without one."""
    open_storage(postgres_url).close()
    with lossy(postgres_server.port) as proxy:
        url = postgres_url.replace(f":{postgres_server.port}/", f":{proxy.port}/") + "?sslmode=disable"
        with open_storage(url, heartbeat=5, patience=30) as storage, open_storage(postgres_url, heartbeat=5) as direct:
            yield storage, proxy, direct


def test_lost_answers_count_once(proxied: Proxied) -> None:
    storage, proxy, direct = proxied

    def losing(statement: str) -> None:
        assert proxy.armed is None, "the one before was met"
        proxy.armed = statement.encode()

    losing("INSERT INTO studies ")
    study = new_study(storage)

    def objective(trial: optuna.Trial) -> float:
        losing("INSERT INTO trial_params ")
        x = trial.suggest_float("x", 0, 1)
        losing("INSERT INTO trial_user_attributes ")
        trial.set_user_attr("slot", trial.number)
        losing("INSERT INTO trial_intermediate_values ")
        trial.report(x, 1)
        losing("UPDATE trials SET state")
        return x

    for number in range(2):
        losing("INSERT INTO trials ")
        study.enqueue_trial({"x": number / 4}, user_attrs={"queued": number})
    for _ in range(2):
        losing("UPDATE trials SET state")  # taking it from the queue
        study.optimize(objective, n_trials=1)
    losing("INSERT INTO trials ")  # one that is made, not queued
    study.optimize(objective, n_trials=1)
    assert proxy.armed is None
    assert proxy.lost == 1 + 2 + 2 * 5 + 5
    trials = contents(new_study(direct))
    assert trials[:2] == [
        (i, TrialState.COMPLETE, [i / 4], {"x": i / 4}, {"queued": i, "slot": i}, {1: i / 4}) for i in range(2)
    ]
    x = trials[2][3]["x"]
    assert trials[2:] == [(2, TrialState.COMPLETE, [x], {"x": x}, {"slot": 2}, {1: x})]


def test_another_workers_end_of_a_trial_is_not_taken_for_ones_own(proxied: Proxied) -> None:
    """Of two that find a trial dead one is told that it closed it, or the trial would be retried twice."""
    storage, proxy, direct = proxied
    study = new_study(storage)
    for first, second in ((TrialState.FAIL, TrialState.FAIL), (TrialState.FAIL, TrialState.COMPLETE)):
        trial = study.ask()
        proxy.armed = b"UPDATE trials SET state"
        proxy.meanwhile = lambda i=trial._trial_id, state=first: direct.set_trial_state_values(i, state)
        with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
            storage.set_trial_state_values(trial._trial_id, second)
        assert proxy.armed is None
        assert direct.get_trial(trial._trial_id).state == first
    assert proxy.lost == 2


def test_a_queued_trial_that_another_worker_took_is_not_taken_for_ones_own(proxied: Proxied) -> None:
    storage, proxy, direct = proxied
    study = new_study(storage)
    study.enqueue_trial({"x": 0.5})
    study.enqueue_trial({"x": 0.25})
    taken: list[int] = []
    proxy.armed = b"UPDATE trials SET state"
    proxy.meanwhile = lambda: taken.append(new_study(direct).ask().number)
    assert study.ask().number == 1
    assert taken == [0]


def test_time_without_a_server_makes_no_trial_stale(restless: Server) -> None:
    url = restless.fresh()
    with open_storage(url, heartbeat=1) as storage:  # dead after two seconds
        study = new_study(storage)
        trial = study.ask()  # nobody beats for it
        restless.restart(away=2.5)
        assert storage._get_stale_trial_ids(study._study_id) == []
        time.sleep(2.3)
        assert storage._get_stale_trial_ids(study._study_id) == [trial._trial_id]


def test_folder_of_the_server_is_gone_afterwards() -> None:
    pytest.importorskip("psycopg2")
    server = Server()
    folder: Path = server.folder
    server.kill()
    server.close()
    assert not folder.exists()
    assert not server.running

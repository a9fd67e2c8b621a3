"""Storage URLs, and studies in an SQLite file: what opens, what is refused, what happens when the file goes away."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import optuna
import pytest
import sqlalchemy

from policy_search.cells.errors import InputError
from policy_search.study.reports.storage import stored_storage, stored_study, study_in
from policy_search.study.storage import StorageLostError, default_url, lost_storage, open_storage, redacted
from policy_search.study.storages import sqlite_file
from tests.study.pauses import pauses

__all__ = ["pauses"]  # a fixture

HOLDER = """
import sys, time
from policy_search.study.storage import open_storage
storage = open_storage(sys.argv[1], owner="policy-search run")
print("open", flush=True)
sys.stdin.readline()
import optuna
optuna.create_study(storage=storage, study_name="held").add_trial(optuna.trial.create_trial(value=1.0))
print("unharmed", flush=True)
sys.stdin.readline()
"""


@contextmanager
def holder(url: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the storage open."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def tell_line(process: subprocess.Popen[str]) -> str:
    """Let the other process go on and return what it says."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return process.stdout.readline()


def test_default_is_the_run_folders_own_file(tmp_path: Path) -> None:
    with open_storage(default_url(tmp_path)) as storage:
        study = optuna.create_study(storage=storage, study_name="x")
        study.add_trial(optuna.trial.create_trial(value=1.0))
    assert [p.name for p in tmp_path.iterdir()] == ["study.db"]
    with open_storage(default_url(tmp_path)) as storage:
        assert len(optuna.load_study(study_name="x", storage=storage).trials) == 1


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("study.db", "no scheme"),
        ("mysql://host/db", "'mysql' is not supported"),
        ("postgres://host/db", "'postgres' is not supported"),
        ("postgresql+asyncpg://host/db", r"'postgresql\+asyncpg' is not supported"),
        ("postgresql://host", "no database name"),
        ("postgresql://u:s3cret-word@host", "no database name"),
        ("postgresql://u:s3cret-word@host:port/db", "cannot be read as a URL"),
        ("mysql://u:s3cret-word@host/db", "'mysql' is not supported"),
        ("sqlite://", "file name"),
        ("sqlite:///", "file name"),
        ("sqlite:///:memory:", "file name"),
        ("sqlite:///study.db?timeout=3", "options"),
    ],
)
def test_other_urls_are_refused(url: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=found) as error:
        open_storage(url)
    assert "sqlite:///" in str(error.value)
    assert "s3cret" not in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:///a/study.db", "sqlite:///a/study.db"),
        ("postgresql://host/db", "postgresql://host/db"),
        ("postgresql://user@host:5433/db", "postgresql://user@host:5433/db"),
        ("postgresql://user:word@host:5433/db", "postgresql://user:***@host:5433/db"),
        ("postgresql://user:w@rd@host/db", "postgresql://user:***@host/db"),
        ("postgresql://user:w/rd@host/db", "postgresql://user:***@host/db"),
        ("postgresql://user:w?rd@host/db", "postgresql://user:***@host/db"),
        ("postgresql://user:w:rd@host/db", "postgresql://user:***@host/db"),
        ("postgresql://user:@host/db", "postgresql://user:***@host/db"),
        ("postgresql://host/db?user=me&password=word&sslmode=require",
         "postgresql://host/db?user=me&password=***&sslmode=require"),
    ],
)  # fmt: skip
def test_passwords_are_not_shown(url: str, shown: str) -> None:
    assert redacted(url) == shown


def test_files_that_cannot_hold_a_study_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is missing"):
        open_storage(f"sqlite:///{tmp_path / 'no' / 'study.db'}")
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(b"this is not a database, but long enough to look like a file with something in it" * 20)
    with pytest.raises(InputError, match=r"cannot open|not a study database"):
        open_storage(f"sqlite:///{damaged}")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="cannot open"):
        open_storage(f"sqlite:///{tmp_path / 'folder'}")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["damaged.db", "folder"]


def test_odd_characters_in_a_folders_name_are_no_trouble(tmp_path: Path) -> None:
    folder = tmp_path / "50 % {new} #1 über"
    folder.mkdir()
    with open_storage(default_url(folder)) as storage:
        optuna.create_study(storage=storage, study_name="x")
    assert [p.name for p in folder.iterdir()] == ["study.db"]
    with stored_study(default_url(folder), "x") as study:
        assert study.trials == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "study.db"
    file.touch(mode=0o400)
    with pytest.raises(InputError, match="cannot open"):
        open_storage(f"sqlite:///{file}")


def test_a_second_process_is_refused_and_the_first_unharmed(tmp_path: Path) -> None:
    url = default_url(tmp_path)
    with holder(url) as first:
        clock = time.strftime("%H:")
        with pytest.raises(InputError) as error:
            open_storage(url)
        text = str(error.value)
        assert f"in use by process {first.pid} (policy-search run, since {clock}" in text
        assert "SQLite takes one process" in text
        assert "postgresql://" in text
        link = tmp_path / "link.db"
        link.symlink_to(tmp_path / "study.db")
        with pytest.raises(InputError, match=f"process {first.pid} "):  # the same file by another name
            open_storage(f"sqlite:///{link}")
        assert tell_line(first) == "unharmed\n"
        with stored_study(url, "held") as study:  # readers are let in
            assert study.best_value == 1.0


def test_the_lock_ends_with_its_process(tmp_path: Path) -> None:
    url = default_url(tmp_path)
    with holder(url) as first:
        first.kill()
        first.wait()
        with open_storage(url) as storage:
            optuna.create_study(storage=storage, study_name="mine")


def test_the_lock_ends_with_the_storage(tmp_path: Path) -> None:
    url = default_url(tmp_path)
    first, second = open_storage(url), open_storage(url)  # the same process may
    first.close()
    first.close()
    code = "import sys; from policy_search.study.storage import open_storage; open_storage(sys.argv[1]); print('open')"
    other = [sys.executable, "-c", code, url]
    refused = subprocess.run(other, capture_output=True, text=True)
    assert f"in use by process {os.getpid()} (since " in refused.stderr
    del second  # nobody can use it any more
    assert subprocess.run(other, capture_output=True, text=True).stdout == "open\n"


def test_a_forked_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    url = default_url(tmp_path)
    code = (
        "import os, sys, time; from policy_search.study.storage import open_storage\n"
        "storage = open_storage(sys.argv[1])\n"
        "child = os.fork()\n"
        "if not child: os.write(1, b'child\\n'); time.sleep(30); os._exit(0)\n"
        "os.write(1, b'%d\\n' % child); time.sleep(30)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, url], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    # Both speak, in any order: then the child has let go of what it inherited.
    child = max(int(line) for line in (parent.stdout.readline(), parent.stdout.readline()) if line != "child\n")
    try:
        with pytest.raises(InputError, match=f"process {parent.pid} "):
            open_storage(url)
        parent.kill()
        parent.wait()
        os.kill(child, 0)  # it lives
        open_storage(url).close()
    finally:
        os.kill(child, signal.SIGKILL)
        parent.kill()
        parent.communicate()


@pytest.mark.parametrize("how", ["deleted", "moved", "replaced"])
def test_a_file_that_goes_away_is_noticed_and_its_trials_are_kept(
    tmp_path: Path, how: str, pauses: list[float]
) -> None:
    file, url = tmp_path / "study.db", default_url(tmp_path)
    storage = open_storage(url, patience=60)
    study = optuna.create_study(storage=storage, study_name="x")

    def objective(trial: optuna.Trial) -> float:
        trial.set_user_attr("before", trial.number)
        if trial.number == 2:
            if how == "deleted":
                file.unlink()
            elif how == "moved":
                file.rename(tmp_path / "elsewhere.db")
            else:
                (tmp_path / "other.db").touch()
                (tmp_path / "other.db").replace(file)
            trial.set_user_attr("after", True)
        return float(trial.number)

    with pytest.raises(Exception) as error:  # noqa: PT011
        study.optimize(objective, n_trials=5)
    assert pauses == [], "there is nothing to wait for"
    loss = lost_storage(error.value)
    assert loss is not None
    assert f"{file} was deleted, moved or replaced" in str(loss)
    assert "study.db.rescued" in str(loss)
    storage.close()
    (tmp_path / "study.db.rescued").replace(file)
    with open_storage(url) as again:
        found = optuna.load_study(study_name="x", storage=again)
        assert [t.value for t in found.trials] == [0.0, 1.0, None]
        assert [t.user_attrs for t in found.trials] == [{"before": 0}, {"before": 1}, {"before": 2}]


def test_a_locked_file_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pauses: list[float]) -> None:
    monkeypatch.setattr(sqlite_file, "BUSY_SECONDS", 0.1)
    lines: list[str] = []
    with open_storage(default_url(tmp_path), patience=1.0, tell=lines.append) as storage:
        study = optuna.create_study(storage=storage, study_name="x")
        with closing(sqlite3.connect(tmp_path / "study.db", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            started = time.monotonic()
            with pytest.raises(StorageLostError, match="locked by another program"):
                study.set_user_attr("key", 1)
            assert time.monotonic() - started > 0.9
            assert 0 < sum(pauses) <= 1
            assert len(lines) == 1
            before = list(pauses)
            with pytest.raises(StorageLostError):  # patience is over and does not start anew
                study.set_user_attr("key", 1)
            assert pauses == before
            other.execute("ROLLBACK")
        study.set_user_attr("key", 2)
        assert study.user_attrs == {"key": 2}
    assert len(lines) == 2
    assert "trying again for up to 1 s" in lines[0]
    assert "back after" in lines[1]


def test_patience_ends_for_what_fails_though_other_operations_get_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    monkeypatch.setattr(sqlite_file, "BUSY_SECONDS", 0.1)
    lines: list[str] = []
    with open_storage(default_url(tmp_path), patience=1.0, tell=lines.append) as storage:
        study = optuna.create_study(storage=storage, study_name="x")
        stop = threading.Event()

        def read() -> None:
            while not stop.wait(0.02):
                storage.get_study_user_attrs(study._study_id)

        reader = threading.Thread(target=read)
        with closing(sqlite3.connect(tmp_path / "study.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")  # shuts out writers, lets readers in
            reader.start()
            started = time.monotonic()
            with pytest.raises(StorageLostError):
                study.set_user_attr("key", 1)
            assert time.monotonic() - started > 0.9
            assert 0 < sum(pauses) <= 1
        stop.set()
        reader.join()
        study.set_user_attr("key", 2)
    assert len(lines) == 2, "not one for every reading"


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    storage = open_storage(default_url(tmp_path), patience=0.3)
    study = optuna.create_study(storage=storage, study_name="x")
    trial = study.ask()
    # SQLite refuses pages beyond a limit as it does on a full disk.
    pages = (tmp_path / "study.db").stat().st_size // 4096
    sqlalchemy.event.listen(
        storage.engine, "checkout", lambda connection, *_: connection.execute(f"PRAGMA max_page_count = {pages}")
    )
    with pytest.raises(StorageLostError, match=r"the disk is full.*finished trials are kept"):
        trial.set_user_attr("big", "x" * 100_000)


def test_tables_of_another_version_are_refused_unchanged(tmp_path: Path) -> None:
    for version, found in (("v2.6.0.a", "bring it up to date"), ("v9.0.0.a", "made by a newer Optuna")):
        url, file = default_url(tmp_path), tmp_path / "study.db"
        open_storage(url).close()
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", (version,))
            connection.execute("UPDATE version_info SET library_version = '1.2.3'")
            connection.execute("DROP TABLE trial_heartbeats")  # which the other version may not have
            connection.commit()
        before = file.read_bytes()
        with pytest.raises(InputError, match=rf"(?s)1\.2\.3.*{version}.*") as error:
            open_storage(url)
        assert found in str(error.value)
        with pytest.raises(InputError, match=version), stored_storage(url):
            pass
        assert file.read_bytes() == before
        file.unlink()


def test_files_of_other_programs_are_refused_unchanged(tmp_path: Path) -> None:
    for table in ("studies", "measurements"):
        file = tmp_path / f"{table}.db"
        with closing(sqlite3.connect(file)) as connection:
            connection.execute(f"CREATE TABLE {table} (name TEXT)")
            connection.commit()
        before = file.read_bytes()
        with pytest.raises(InputError, match="tables of another program"):
            open_storage(f"sqlite:///{file}")
        assert file.read_bytes() == before


def test_two_studies_are_read_in_one_session(tmp_path: Path) -> None:
    url = default_url(tmp_path)
    with open_storage(url) as storage:
        for name, value in (("first", 1.0), ("second round", 2.0)):
            study = optuna.create_study(storage=storage, study_name=name)
            study.add_trial(optuna.trial.create_trial(value=value))
    with stored_storage(url) as reading:
        assert study_in(reading, "first").best_value == 1.0
        second = study_in(reading, "second round")
        assert second.best_value == 2.0
        with pytest.raises(InputError, match="holds no study named 'third'"):
            study_in(reading, "third")
        with pytest.raises(optuna.exceptions.StorageInternalError):
            second.set_user_attr("written", True)

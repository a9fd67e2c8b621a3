"""Where trials are kept: an Optuna storage behind a URL, SQLite for one process or PostgreSQL for many machines."""

from __future__ import annotations

import os
import warnings
import weakref
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from sqlalchemy import create_engine
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from policy_search.cells.errors import InputError
from policy_search.study.storages import postgres, sqlite_file
from policy_search.study.storages.patience import Patience, StorageLostError, lost_storage
from policy_search.study.storages.rdb import StudyStorage
from policy_search.study.storages.schema import require_schema
from policy_search.study.storages.url import (
    POSTGRES,
    SQLITE,
    check_url,
    default_url,
    is_sqlite,
    postgres_url,
    redacted,
    sqlite_path,
)

__all__ = [
    "POSTGRES",
    "SQLITE",
    "StorageLostError",
    "StudyStorage",
    "check_url",
    "default_url",
    "lost_storage",
    "open_storage",
    "redacted",
]

Tell = Callable[[str], None]


def open_storage(
    url: str, *, heartbeat: int = 60, owner: str = "", patience: float = 300.0, tell: Tell | None = None
) -> StudyStorage:
    """The storage behind a URL, its tables made when they are missing.

    Close it with `.close()` or use it as a context manager: for SQLite that is when other processes may write the
    file. A process that ends in any way, or drops its last reference, lets go of it too; the same process may open the
    file several times.

    Args:
        url: sqlite:///PATH, for one process at a time; or postgresql://USER:PASSWORD@HOST/DATABASE, for any number.
        heartbeat: PostgreSQL: seconds between a trial's signs of life; without one for twice as long a trial counts
            as dead and is failed, so that its slot is free (see `slots`). SQLite has none: its lock says who is alive.
        owner: what this process does ("policy-search run"), for the sentence that a second process gets.
        patience: seconds for which the storage may be away in the middle of a run before `StorageLostError` is raised.
        tell: is given one line when the storage goes away and one when it is back; may be called from any thread.

    Raises:
        InputError: see `check_url`; a file in use by another process or that cannot be written; a server that cannot be
            reached or refuses; tables of another version of Optuna. Nothing is changed then.
    """
    if is_sqlite(url):
        return _open_sqlite(sqlite_path(url), url, owner, patience, tell)
    return _open_postgres(postgres_url(url), url, heartbeat, patience, tell)


def _open_sqlite(path: Path, url: str, owner: str, patience: float, tell: Tell | None) -> StudyStorage:
    if not path.parent.is_dir():
        raise InputError(f"--storage {url}: folder {path.parent} is missing; make it or name another")
    lock = sqlite_file.ProcessLock(path, url, owner)
    try:
        sqlite_file.require_writable(path, url)
        if not _sqlite_tables(path, url):
            _make_sqlite(path, url)
        watch = sqlite_file.Watch(path, url)

        def close() -> None:
            watch.close()
            lock.release()

        storage = StudyStorage(
            url,
            Patience(
                url, patience, tell, sqlite_file.passing_reason,
                "Mend that and repeat the command or `policy-search resume`; finished trials are kept.", watch.check,
            ),
            close=close,
            url=f"{SQLITE}study.db",  # says the dialect; `creator` knows the file, whatever characters its name has
            engine_kwargs={"creator": lambda: sqlite_file.connect(path)},
        )  # fmt: skip
    except (SQLAlchemyError, StorageInternalError, RuntimeError, AssertionError) as error:
        lock.release()
        text = " ".join(str(error.__cause__ or error).split())[:200]
        raise InputError(f"--storage {url}: not a study database of this Optuna version ({text})") from error
    except BaseException:
        lock.release()
        raise
    weakref.finalize(storage, close)
    return storage


def _sqlite_tables(path: Path, url: str) -> bool:
    engine = create_engine(f"{SQLITE}study.db", creator=lambda: sqlite_file.connect(path), poolclass=NullPool)
    with engine.connect() as connection:
        return require_schema(connection, url)


def _make_sqlite(path: Path, url: str) -> None:
    """Tables in one step: made beside the file, which then takes their place."""
    with closing(sqlite_file.connect(path)) as connection:
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise InputError(f"--storage {url}: holds tables of another program; name another file")
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    made = optuna.storages.RDBStorage(f"{SQLITE}study.db", engine_kwargs={"creator": lambda: sqlite_file.connect(new)})
    made.engine.dispose()
    os.replace(new, path)


def _open_postgres(parts: URL, url: str, heartbeat: int, patience: float, tell: Tell | None) -> StudyStorage:
    shown = redacted(url)
    connect = postgres.connector(parts)
    try:
        # Several workers may be the first: one makes the tables, the others wait and find them.
        with postgres.separate_connection(parts) as connection, warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            postgres.lock_creation(connection)
            exists = require_schema(connection, shown)
            return StudyStorage(
                shown,
                Patience(
                    shown, patience, tell, postgres.passing_reason,
                    "Start the server and repeat the command or `policy-search resume`; finished trials are kept.",
                ),
                separate_connection=lambda: postgres.separate_connection(parts),
                url="postgresql+psycopg2://",  # the dialect; `creator` knows the password
                engine_kwargs={"creator": connect, "pool_pre_ping": True},
                skip_table_creation=exists,
                heartbeat_interval=heartbeat,
                grace_period=2 * heartbeat,
            )  # fmt: skip
    except (SQLAlchemyError, StorageInternalError) as error:
        raise postgres.refusal(parts, url, error) from None

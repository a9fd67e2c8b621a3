"""Opening the storage of a run for reading only, whatever state the run was left in."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from policy_search.cells.errors import InputError
from policy_search.study.storages import postgres
from policy_search.study.storages.schema import require_schema
from policy_search.study.storages.url import SQLITE, is_sqlite, postgres_url, redacted, sqlite_path

_DAMAGE = (StorageInternalError, SQLAlchemyError, RuntimeError, AssertionError)


class ReadOnlyStorage(RDBStorage):
    """What `stored_storage` opens.

    Attributes:
        place: the storage as messages name it.
    """

    place: str


@contextmanager
def stored_study(url: str, name: str) -> Iterator[optuna.Study]:
    """The study of that name behind a storage URL; nothing is written.

    Raises:
        InputError: see `stored_storage` and `study_in`.
    """
    with stored_storage(url) as storage:
        yield study_in(storage, name)


@contextmanager
def stored_storage(url: str) -> Iterator[ReadOnlyStorage]:
    """The storage behind a URL, for reading only: no table is made, no file is written. A run may go on meanwhile.

    Raises:
        InputError: the file is not there, the server cannot be reached, or it holds no tables of this Optuna version.
    """
    if is_sqlite(url):
        path = sqlite_path(url)
        if not path.is_file():
            raise InputError(
                f"the trials should be in {path}, which is not there: bring the file back, or continue the run"
            )
        with _readable(path) as file, ExitStack() as opened:
            try:
                storage = opened.enter_context(_reading(f"{SQLITE}study.db", lambda: _connect(file), str(path)))
            except _DAMAGE as error:
                raise _unreadable(str(path), error) from None
            yield storage
    else:
        parts = postgres_url(url)
        connect = postgres.connector(parts, read_only=True)
        with ExitStack() as opened:
            try:
                storage = opened.enter_context(_reading("postgresql+psycopg2://", connect, redacted(url)))
            except (StorageInternalError, SQLAlchemyError) as error:
                raise postgres.refusal(parts, url, error) from None
            yield storage


def study_in(storage: ReadOnlyStorage, name: str) -> optuna.Study:
    """The study of that name in a storage; all its trials are read once.

    Raises:
        InputError: there is none of that name, or it is damaged.
    """
    try:
        study = optuna.load_study(study_name=name, storage=storage)
        study.get_trials(deepcopy=False)  # damage further in is found here, not half-way through a report
    except KeyError:
        raise InputError(f"{storage.place} holds no study named {name!r}: it is not the storage of this run") from None
    except _DAMAGE as error:
        raise _unreadable(storage.place, error) from None
    return study


@contextmanager
def _reading(dialect: str, connect: Callable[[], Any], place: str) -> Iterator[ReadOnlyStorage]:
    """Optuna's storage on connections that cannot write, once its tables are known to be there: it would make them."""
    engine = create_engine(dialect, creator=connect, poolclass=NullPool)
    with engine.connect() as connection:
        if not require_schema(connection, place):
            raise InputError(f"{place} cannot be read as a study database of this Optuna version (it is empty)")
    storage = ReadOnlyStorage(dialect, engine_kwargs={"creator": connect}, skip_table_creation=True)
    storage.place = place
    try:
        yield storage
    finally:
        storage.engine.dispose()


def _unreadable(place: str, error: BaseException) -> InputError:
    text = " ".join(str(error.__cause__ or error).split())[:200]
    return InputError(f"{place} cannot be read as a study database of this Optuna version ({text})")


@contextmanager
def _readable(path: Path) -> Iterator[Path]:
    """The file itself, or a copy of it that may be rolled back.

    A process that is killed within a transaction leaves a journal, and SQLite reads nothing before somebody has rolled
    it back by writing. That is left to the run when it goes on; here it happens to a copy.
    """
    if not _must_roll_back(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        for file in (path, _journal(path)):
            shutil.copy(file, folder)
        copy = Path(folder) / path.name
        with sqlite3.connect(copy) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master")
        connection.close()
        yield copy


def _must_roll_back(path: Path) -> bool:
    if not _journal(path).is_file():
        return False
    connection = _connect(path)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master")
    except sqlite3.OperationalError as error:
        return error.sqlite_errorcode == sqlite3.SQLITE_READONLY_ROLLBACK
    except sqlite3.DatabaseError:
        return False  # damaged: Optuna's attempt says so
    finally:
        connection.close()
    return False


def _journal(path: Path) -> Path:
    return path.with_name(f"{path.name}-journal")


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)

"""Opening a run's study for reading only, whatever state the run was left in."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy.exc import SQLAlchemyError

from policy_search.cells.errors import InputError
from policy_search.study.storage import SQLITE, check_url


@contextmanager
def stored_study(url: str, name: str) -> Iterator[optuna.Study]:
    """The study of that name behind a storage URL; its file is not written.

    Raises:
        InputError: the file is not there, holds no study of that name, or cannot be read as a database.
    """
    path = check_url(url)
    if not path.is_file():
        raise InputError(
            f"the trials should be in {path}, which is not there: bring the file back, or continue the run"
        )
    with _readable(path) as file:
        storage = None
        try:
            storage = RDBStorage(
                f"{SQLITE}{file}", engine_kwargs={"creator": lambda: _connect(file)}, skip_table_creation=True
            )
            study = optuna.load_study(study_name=name, storage=storage)
            study.get_trials(deepcopy=False)  # damage further in is found here, not half-way through a report
        except KeyError:
            raise InputError(f"{path} holds no study named {name!r}: it is not the storage of this run") from None
        except (StorageInternalError, SQLAlchemyError, RuntimeError, AssertionError) as error:
            text = " ".join(str(error.__cause__ or error).split())[:200]
            raise InputError(f"{path} cannot be read as a study database of this Optuna version ({text})") from None
        else:
            yield study
        finally:
            if storage is not None:
                storage.engine.dispose()


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

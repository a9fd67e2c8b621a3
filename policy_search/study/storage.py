"""Where trials are kept: an Optuna storage behind a URL."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from optuna.storages import RDBStorage
from sqlalchemy.exc import SQLAlchemyError

from policy_search.cells.errors import InputError

SQLITE = "sqlite:///"


def default_url(folder: Path) -> str:
    """The run folder's own database."""
    return f"{SQLITE}{(folder / 'study.db').resolve()}"


def open_storage(url: str) -> RDBStorage:
    """The storage behind a URL. This version keeps trials in SQLite, which one process at a time may write.

    Raises:
        InputError: see `check_url`, or a file that cannot be made, written or read as a database.
    """
    path = check_url(url)
    _require_database(path, url)
    try:
        return RDBStorage(url)
    except (SQLAlchemyError, RuntimeError, AssertionError) as error:
        text = " ".join(str(error).split())[:200]
        raise InputError(f"--storage {url}: not a study database of this Optuna version ({text})") from error


def check_url(url: str) -> Path:
    """The database file that a URL names; nothing is opened.

    Raises:
        InputError: another scheme, or no file name.
    """
    scheme, separator, _ = url.partition("://")
    if not separator:
        raise InputError(f"--storage {url}: expected a URL such as {SQLITE}study.db, found no scheme")
    if scheme != "sqlite":
        raise InputError(f"--storage {url}: storage {scheme!r} is not supported, expected {SQLITE}PATH")
    path = Path(url.removeprefix(SQLITE)) if url.startswith(SQLITE) else Path()
    if not path.name:
        raise InputError(f"--storage {url}: expected a file name after {SQLITE}, so that the run can be resumed")
    return path


def _require_database(path: Path, url: str) -> None:
    """Open the file for writing before Optuna does, whose errors do not say what to do."""
    if not path.parent.is_dir():
        raise InputError(f"--storage {url}: folder {path.parent} is missing; make it or name another")
    existed = path.exists()
    try:
        with sqlite3.connect(path) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        connection.close()
        if not existed:
            path.touch()
    except sqlite3.Error as error:
        raise InputError(
            f"--storage {url}: cannot open the file for writing ({error}). Name another file, or close what uses it."
        ) from error

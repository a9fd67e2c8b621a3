"""An SQLite study file: one process writes it, and it is noticed when the file goes away underneath."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import ClassVar

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import DBAPIError

from policy_search.cells.errors import InputError
from policy_search.study.storages.patience import StorageLostError

BUSY_SECONDS = 10.0  # that SQLite itself waits for another program's transaction
_PASSING = {  # primary result codes of SQLite that may pass by themselves
    sqlite3.SQLITE_BUSY: "locked by another program",
    sqlite3.SQLITE_LOCKED: "locked by another program",
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_IOERR: "reading or writing the disk failed",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened",
}


class ProcessLock:
    """Keeps other processes from writing a database: a lock on a file beside it, `study.db.lock`.

    The operating system frees it when the process ends, however it ends; a killed process leaves the file, which locks
    nobody out. Within one process the lock may be taken several times and is freed when each of them is released.
    """

    _held: ClassVar[dict[Path, tuple[int, int]]] = {}  # path -> file descriptor, how often it is taken
    _guard: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, database: Path, place: str, owner: str) -> None:
        """
        Args:
            database: the SQLite file, which need not exist.
            place: the storage as messages name it.
            owner: what the process does, for the sentence that others get.

        Raises:
            InputError: another process has it (the sentence names it), or the file cannot be written.
        """
        path = database.resolve()
        self._path = path.with_name(f"{path.name}.lock")
        self._released = False
        with self._guard:
            held = self._held.get(self._path)
            descriptor, count = held or (self._take(place, owner), 0)
            self._held[self._path] = (descriptor, count + 1)

    def release(self) -> None:
        """Let others in; a second call does nothing."""
        with self._guard:
            if self._released:
                return
            self._released = True
            held = self._held.pop(self._path, None)
            if held is None:
                return  # a forked child: the lock is its parent's
            descriptor, count = held
            if count > 1:
                self._held[self._path] = (descriptor, count - 1)
            else:
                self._path.unlink(missing_ok=True)  # while it is locked, see `_take`
                os.close(descriptor)

    def _take(self, place: str, owner: str) -> int:
        while True:
            try:
                descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except OSError as error:
                raise InputError(
                    f"--storage {place}: cannot open {self._path.name} beside it ({error.strerror}); name another file"
                ) from None
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                holder = _holder(os.pread(descriptor, 4096, 0))
                os.close(descriptor)
                raise InputError(
                    f"--storage {place}: in use by {holder}; SQLite takes one process. Wait for it, or use "
                    "postgresql://… for several."
                ) from None
            opened = os.fstat(descriptor)
            if _identity(self._path) == (opened.st_dev, opened.st_ino):
                break
            os.close(descriptor)  # its holder deleted it between our opening and locking it: this one locks nobody out
        note = {"process": os.getpid(), "host": socket.gethostname(), "owner": owner, "since": time.time()}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(note).encode(), 0)
        return descriptor

    @classmethod
    def _forget(cls) -> None:
        """In a forked child: it shares its parent's lock, and must not keep it when the parent is gone."""
        cls._guard = threading.Lock()
        for descriptor, _ in cls._held.values():
            os.close(descriptor)
        cls._held.clear()


os.register_at_fork(after_in_child=ProcessLock._forget)


def _holder(note: bytes) -> str:
    try:
        found = json.loads(note)
        since = time.localtime(found["since"])
        today = time.strftime("%Y-%m-%d", since) == time.strftime("%Y-%m-%d")
        details = [found["owner"], "since " + time.strftime("%H:%M" if today else "%Y-%m-%d %H:%M", since)]
        if found["host"] != socket.gethostname():
            details.insert(0, f"on {found['host']}")
        return f"process {found['process']} ({', '.join(d for d in details if d)})"
    except (ValueError, KeyError, TypeError):  # it has the lock and has not yet written who it is
        return "another process"


def connect(path: Path) -> sqlite3.Connection:
    """A connection that any thread may use, one at a time."""
    return sqlite3.connect(path, timeout=BUSY_SECONDS, check_same_thread=False)


def require_writable(path: Path, place: str) -> None:
    """Open the file for writing before Optuna does, whose errors do not say what to do.

    Raises:
        InputError: the folder is missing, or the file cannot be written or is not a database.
    """
    if not path.parent.is_dir():
        raise InputError(f"--storage {place}: folder {path.parent} is missing; make it or name another")
    try:
        with closing(connect(path)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        raise InputError(
            f"--storage {place}: cannot open the file for writing ({error}). Name another file, or close what uses it."
        ) from None


def passing_reason(error: BaseException) -> str | None:
    """What an error says of the file, if it may pass by itself (a lock, a full disk); None otherwise."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    if not isinstance(cause, DBAPIError) or not isinstance(cause.orig, sqlite3.Error):
        return None
    code = getattr(cause.orig, "sqlite_errorcode", 0) & 0xFF  # the primary code is the lowest byte
    return f"{_PASSING[code]}: {cause.orig}" if code in _PASSING else None


class Watch:
    """Notices that the database file was deleted, moved or replaced while it is in use.

    SQLite does not: it goes on writing to a file that has no name any more. The connection held here still reads what
    was written, which is kept under another name before the loss is reported.
    """

    def __init__(self, path: Path, place: str) -> None:
        self._path, self._place = path.resolve(), place
        self._connection = connect(self._path)
        self._connection.execute("SELECT count(*) FROM sqlite_master").fetchall()  # opens the file
        self._file = _identity(self._path)
        self._lock = threading.Lock()
        self._saved: str | None = None

    def check(self) -> None:
        """
        Raises:
            StorageLostError: the file is gone; says where its contents were saved.
        """
        if _identity(self._path) == self._file:
            return
        with self._lock:
            if self._saved is None:
                self._saved = self._rescue()
        raise StorageLostError(f"--storage {self._place}: {self._path} was deleted, moved or replaced. {self._saved}")

    def close(self) -> None:
        """Let the file go."""
        self._connection.close()

    def _rescue(self) -> str:
        target = self._path.with_name(f"{self._path.name}.rescued")
        try:
            with closing(sqlite3.connect(target)) as copy:
                self._connection.backup(copy)
        except sqlite3.Error as error:
            return f"Its contents could not be saved ({error}): bring the file back and repeat the command."
        return (
            f"What it held up to the last finished trial is in {target}: rename it to {self._path.name} (or bring the "
            "file back) and repeat the command."
        )


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino

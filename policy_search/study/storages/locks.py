"""One worker at a time: mutual exclusion between the workers of a study while they claim what to try next."""

from __future__ import annotations

import hashlib
import threading
from abc import ABC, abstractmethod
from collections import defaultdict

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from policy_search.study.storages.rdb import StudyStorage

_WAIT_MS = 1000  # the server is asked again after this, so that Ctrl-C gets through
_LOCK_NOT_AVAILABLE = "55P03"
_threads: dict[tuple[str, str], threading.Lock] = defaultdict(threading.Lock)


class ClaimLock(ABC):
    """A lock that is held. A context manager, which releases it at its end."""

    _answer: bool | None = None

    def release(self) -> bool:
        """Let the next worker in. A second call does nothing and answers the same.

        Returns:
            Whether nobody else was let in until now. False when the server was restarted meanwhile: it forgets its
            locks, so whatever was claimed under this one must be given up and claimed anew. Never raises for a lost
            connection.
        """
        if self._answer is None:
            self._answer = self._let_go()
        return self._answer

    @abstractmethod
    def _let_go(self) -> bool: ...

    def __enter__(self) -> ClaimLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def claim_lock(storage: StudyStorage, study_name: str) -> ClaimLock:
    """Wait until no other worker claims in this study, and keep the others out.

    PostgreSQL: an advisory lock on a connection of its own, which the server frees when its process is killed or its
    machine vanishes (then within a minute). SQLite, which one process has: a lock between its threads. Not reentrant.

    Raises:
        StorageLostError: the server is away for longer than the storage's patience.
    """
    if storage.separate_connection is None:
        return _ThreadLock(_threads[storage.place, study_name])
    return _AdvisoryLock(storage, study_name)


class _ThreadLock(ClaimLock):
    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self._lock.acquire()

    def _let_go(self) -> bool:
        self._lock.release()
        return True


class _AdvisoryLock(ClaimLock):
    def __init__(self, storage: StudyStorage, study_name: str) -> None:
        self._key = _key(study_name)
        self._connection: Connection = storage.patience.repeat(lambda: self._take(storage))

    def _take(self, storage: StudyStorage) -> Connection:
        assert storage.separate_connection is not None
        connection = storage.separate_connection()
        try:
            connection.exec_driver_sql(f"SET lock_timeout = {_WAIT_MS}")
            while True:
                try:
                    connection.exec_driver_sql(f"SELECT pg_advisory_lock({self._key})")
                    return connection
                except SQLAlchemyError as error:
                    if getattr(getattr(error, "orig", None), "pgcode", None) != _LOCK_NOT_AVAILABLE:
                        raise
        except BaseException:
            connection.close()  # frees the lock too, should Ctrl-C have come between
            raise

    def _let_go(self) -> bool:
        # The lock lives as long as its connection does. One that still answers has held it all the time.
        try:
            return bool(self._connection.exec_driver_sql(f"SELECT pg_advisory_unlock({self._key})").scalar_one())
        except SQLAlchemyError:
            return False
        finally:
            self._connection.close()


def _key(study_name: str) -> int:
    """A stable signed number of 64 bits."""
    digest = hashlib.sha256(f"policy-search claim {study_name}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)

"""System attributes of a study and its trials, several in one transaction.

Optuna writes one attribute a transaction, and the dashboard's helpers read all attributes of a study to write one
note. Both cost more with every trial, and a reader may see half of a note. Here a note with its pictures is one
transaction that reads nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from optuna.storages import BaseStorage, RDBStorage
from sqlalchemy import Connection, bindparam, text

T = TypeVar("T")
_UPSERT = (
    "INSERT INTO {table} ({owner}, key, value_json) VALUES (:owner, :key, :value) "
    "ON CONFLICT ({owner}, key) DO UPDATE SET value_json = excluded.value_json"
)


def write_attributes(
    storage: BaseStorage,
    study_id: int,
    attributes: Mapping[str, Any],
    *,
    remove: Sequence[str] = (),
    trials: Mapping[int, Mapping[str, Any]] | None = None,
) -> None:
    """Set system attributes in one transaction. Finished trials may be written, too.

    Args:
        storage: of the study, which lies in a database.
        study_id: of the study that `attributes` belong to.
        attributes: key -> JSON value.
        remove: keys of study attributes that go.
        trials: trial id -> its attributes.
    """
    database = _database(storage)
    gone = [key for key in remove if key not in attributes]

    def write() -> None:
        # The study's attributes come first and in the caller's order: who writes the first one makes all others wait,
        # so that two writers cannot wait for each other.
        with database.engine.begin() as connection:
            _upsert(connection, "study_system_attributes", "study_id", study_id, attributes)
            if gone:
                statement = text("DELETE FROM study_system_attributes WHERE study_id = :owner AND key IN :keys")
                statement = statement.bindparams(bindparam("keys", expanding=True))
                connection.execute(statement, {"owner": study_id, "keys": gone})
            for trial_id, own in (trials or {}).items():
                _upsert(connection, "trial_system_attributes", "trial_id", trial_id, own)

    _patiently(database, write)


def read_attributes(storage: BaseStorage, study_id: int, keys: Sequence[str]) -> dict[str, Any]:
    """Those of the study's system attributes that are there, without reading the others."""
    database = _database(storage)
    statement = text("SELECT key, value_json FROM study_system_attributes WHERE study_id = :owner AND key IN :keys")
    statement = statement.bindparams(bindparam("keys", expanding=True))

    def read() -> dict[str, Any]:
        with database.engine.connect() as connection:
            rows = connection.execute(statement, {"owner": study_id, "keys": list(keys)}).all()
        return {key: json.loads(value) for key, value in rows}

    return _patiently(database, read)


def trial_attributes(storage: BaseStorage, trial_id: int) -> dict[str, Any]:
    """A trial's system attributes as they are now; Optuna's cache keeps a finished trial as it was when it finished."""
    return _database(storage).get_trial_system_attrs(trial_id)


def _patiently(database: RDBStorage, attempt: Callable[[], T]) -> T:
    """Once, or as often as the study's own storage repeats what fails while its database is away."""
    patience = getattr(database, "patience", None)
    return attempt() if patience is None else patience.repeat(attempt)


def _upsert(connection: Connection, table: str, owner: str, owner_id: int, attributes: Mapping[str, Any]) -> None:
    rows = [{"owner": owner_id, "key": key, "value": json.dumps(value)} for key, value in attributes.items()]
    if rows:
        connection.execute(text(_UPSERT.format(table=table, owner=owner)), rows)


def _database(storage: BaseStorage) -> RDBStorage:
    """The database behind a storage; Optuna wraps the one that it is given into a cache."""
    inner = getattr(storage, "_backend", storage)
    if not isinstance(inner, RDBStorage):
        raise TypeError(f"a study of the dashboard lies in a database, not in {type(inner).__name__}")
    return inner

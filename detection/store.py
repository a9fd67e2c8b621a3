"""Results in SQLite: one row per source, policy, seed, configuration and tested cell type (design 7.4)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from detection.network import Frozen
from policy_search.cells.errors import InputError
from policy_search.cells.files import require_writable_folder

SCHEMA = 2
# What later schemas added to the columns of schema 1. Rows from before have no value there.
_ADDED = ("ar100", "ar500")


class Scores(Frozen):
    """Scores in 0 … 1 at the largest number of detections; None where nothing is defined (no cell of that size).

    Attributes:
        ap: mean over IoU 0.50 … 0.95; ap50, ap75 at one IoU; aps, apm, apl over areas below 324, between, from 961 px².
        ar: recall, mean over the same IoUs; ar100, ar500 at the two smaller numbers of detections an image. These two
            are None, too, in results stored before they were measured.
        images, cells, detections: how many were compared.
    """

    ap: float | None
    ap50: float | None
    ap75: float | None
    aps: float | None
    apm: float | None
    apl: float | None
    ar: float | None
    ar100: float | None = None
    ar500: float | None = None
    images: int
    cells: int
    detections: int


class Result(Scores):
    """One fine-tuned model on the test images of one cell type.

    Attributes:
        source: what it was trained on, as a canonical name (`A172`, `demo/A172`).
        policy_hash, policy: the transform's digest and what tables call it.
        config_hash: digest of all else that the result depends on (`FinetuneConfig.identity`).
        cell_type: tested on.
        seen: whether the model was trained on that type.
        train_fingerprint, test_fingerprint: digests of the images and labels.
        synthetic: whether any of these images come from the demo culture.
        note: what a reader of the number must know, or nothing.
        date: UTC, ISO 8601. seconds: training and testing of the whole run. versions: package → version, as JSON.
    """

    source: str
    policy_hash: str
    policy: str
    seed: int
    config_hash: str
    cell_type: str
    seen: bool
    train_fingerprint: str
    test_fingerprint: str
    synthetic: bool
    note: str = ""
    date: str
    seconds: float
    versions: str


_KEY = ("source", "policy_hash", "policy", "seed", "config_hash", "cell_type")
_COLUMNS = tuple(Result.model_fields)
# Without declared types SQLite keeps what it is given; `Result` checks it on the way out.
_CREATE = f"CREATE TABLE IF NOT EXISTS results ({', '.join(_COLUMNS)}, PRIMARY KEY ({', '.join(_KEY)}))"
_UPSERT = (
    f"INSERT INTO results ({', '.join(_COLUMNS)}) VALUES ({', '.join(f':{name}' for name in _COLUMNS)}) "
    f"ON CONFLICT ({', '.join(_KEY)}) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS if name not in _KEY)
)


class Store:
    """A file of results that several processes may write.

    An older schema is read as it is and brought up to date by the first who writes.

    Args:
        path: made when it is missing, unless `create` is False.

    Raises:
        InputError: missing, not a database, of another version, or in a folder that cannot be written.
    """

    def __init__(self, path: str | Path, *, create: bool = True) -> None:
        self.path = Path(path)
        if not create and not self.path.is_file():
            raise InputError(
                f"no results at {self.path}. Make some with `detect finetune`, or name another with --results."
            )
        if create:
            require_writable_folder(self.path.parent)
        with self._connection() as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version > SCHEMA:
                raise InputError(f"{self.path} has results of version {version}, this program knows up to {SCHEMA}")
            if create:
                connection.execute("PRAGMA journal_mode = WAL")
                _bring_up_to_date(connection)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        connection = None
        try:
            # Another process may hold the file while it writes: wait for it.
            connection = sqlite3.connect(self.path, timeout=60)
            connection.row_factory = sqlite3.Row
            with connection:
                yield connection
        except sqlite3.DatabaseError as error:
            raise InputError(f"{self.path} cannot be used as a database of results: {error}") from error
        finally:
            if connection is not None:
                connection.close()

    def put(self, results: Sequence[Result]) -> None:
        """Write all rows or none; a row with the same key is replaced."""
        with self._connection() as connection:
            _bring_up_to_date(connection)
            connection.executemany(_UPSERT, [result.model_dump() for result in results])

    def all(self) -> list[Result]:
        """Every row, by key."""
        with self._connection() as connection:
            rows = connection.execute(f"SELECT * FROM results ORDER BY {', '.join(_KEY)}").fetchall()
        return [Result.model_validate(dict(row)) for row in rows]

    def find(self, source: str, policy_hash: str, seed: int, config_hash: str) -> list[Result]:
        """The rows of one run, whatever its policy was called."""
        query = "SELECT * FROM results WHERE source = ? AND policy_hash = ? AND seed = ? AND config_hash = ?"
        with self._connection() as connection:
            rows = connection.execute(query, (source, policy_hash, seed, config_hash)).fetchall()
        return [Result.model_validate(dict(row)) for row in rows]


def _bring_up_to_date(connection: sqlite3.Connection) -> None:
    """Make the table, or add the columns that an older program did not know; others may try at the same time."""
    if connection.execute("PRAGMA user_version").fetchone()[0] == SCHEMA:
        return
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(_CREATE)
    there = {row["name"] for row in connection.execute("PRAGMA table_info(results)")}
    for name in _ADDED:
        if name not in there:
            connection.execute(f"ALTER TABLE results ADD COLUMN {name}")
    connection.execute(f"PRAGMA user_version = {SCHEMA}")
    connection.commit()

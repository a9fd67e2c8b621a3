"""Results in SQLite: one row per source, policy, seed, configuration and tested cell type, with its images (7.4)."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from detection.matches import ImageMatches
from detection.network import Frozen
from detection.store_images import CREATE as CREATE_IMAGES
from detection.store_images import RunKey, Tested, forget_other_images, images_of, replace_images, types_with_images
from policy_search.cells.errors import InputError
from policy_search.cells.files import require_writable_folder

__all__ = ["SCHEMA", "Result", "RunKey", "Scores", "Store"]

SCHEMA = 3  # 2: two columns; 3: the table of images
# What schema 2 added to the columns of schema 1. Rows from before have no value there.
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

    @property
    def key(self) -> RunKey:
        """Of the run that it belongs to."""
        return RunKey(self.source, self.policy_hash, self.seed, self.config_hash)


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
            if _disk_is_full(error, self.path.parent):
                raise InputError(
                    f"the disk of {self.path} is full: nothing was written to it. Make room, then give the same "
                    "command again."
                ) from error
            raise InputError(f"{self.path} cannot be used as a database of results: {error}") from error
        finally:
            if connection is not None:
                connection.close()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction on a file of this program's schema."""
        with self._connection() as connection:
            _bring_up_to_date(connection)
            yield connection

    def put(self, results: Sequence[Result], images: Mapping[str, Sequence[ImageMatches]] | None = None) -> None:
        """Write all rows or none; a row with the same key is replaced, and its images with it.

        Args:
            results: of one run if there are images.
            images: cell type → its test images, for exactly the types of `results`. Without them, those that are
                stored for the same test images stay, and those for others go.

        Raises:
            InputError: the file cannot be written, or the disk is full; nothing was written then.
            ValueError: results and images do not belong together.
        """
        if images is not None:
            types, runs = sorted(result.cell_type for result in results), {result.key for result in results}
            if types != sorted(images) or len(runs) > 1:
                raise ValueError(f"images of {sorted(images)}, results of {types} in {len(runs)} runs")
        tested = {r.cell_type: Tested(r.test_fingerprint, images[r.cell_type]) for r in results} if images else {}
        with self._writing() as connection:
            _put(connection, results, tested)

    def merge(self, other: str | Path) -> int:
        """Put every result of another file into this one, with its images, all or none; gives back their number.

        A row with the same key is replaced; doing it again changes nothing.

        Raises:
            InputError: the other is missing or no file of results, or this one cannot be written.
        """
        source = Store(other, create=False)
        if self.path.exists() and source.path.samefile(self.path):
            raise InputError(f"{self.path} cannot be merged into itself: name another file of results")
        with source._connection() as theirs:
            theirs.execute("BEGIN")  # one state of the other file, whoever writes to it meanwhile
            runs: dict[RunKey, list[Result]] = {}
            for result in _results(theirs):
                runs.setdefault(result.key, []).append(result)
            with self._writing() as connection:
                for key, results in runs.items():
                    _put(connection, results, images_of(theirs, key))
        return sum(map(len, runs.values()))

    def all(self) -> list[Result]:
        """Every row, by key."""
        with self._connection() as connection:
            return _results(connection)

    def find(self, source: str, policy_hash: str, seed: int, config_hash: str) -> list[Result]:
        """The rows of one run, whatever its policy was called."""
        where = "WHERE source = ? AND policy_hash = ? AND seed = ? AND config_hash = ?"
        with self._connection() as connection:
            return _results(connection, where, (source, policy_hash, seed, config_hash))

    def types_with_images(self, source: str, policy_hash: str, seed: int, config_hash: str) -> set[str]:
        """The cell types that `images` would give, without reading the images."""
        with self._connection() as connection:
            return types_with_images(connection, RunKey(source, policy_hash, seed, config_hash))

    def images(self, source: str, policy_hash: str, seed: int, config_hash: str) -> dict[str, list[ImageMatches]]:
        """Cell type → its images in the order of testing, for one run; types whose images were not kept are missing."""
        with self._connection() as connection:
            found = images_of(connection, RunKey(source, policy_hash, seed, config_hash))
        return {cell_type: list(tested.images) for cell_type, tested in found.items()}


def _disk_is_full(error: sqlite3.DatabaseError, folder: Path) -> bool:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK)
    # Without room for its index of the log (32 KB) SQLite speaks of input and output alone.
    unclear = code & 0xFF == sqlite3.SQLITE_IOERR
    return code == sqlite3.SQLITE_FULL or (unclear and shutil.disk_usage(folder).free < 1 << 18)


def _results(connection: sqlite3.Connection, where: str = "", values: tuple[object, ...] = ()) -> list[Result]:
    rows = connection.execute(f"SELECT * FROM results {where} ORDER BY {', '.join(_KEY)}", values)
    return [Result.model_validate(dict(row)) for row in rows]


def _put(connection: sqlite3.Connection, results: Sequence[Result], images: Mapping[str, Tested]) -> None:
    """Within a transaction; `images` by cell type, of one run."""
    connection.executemany(_UPSERT, [result.model_dump() for result in results])
    for result in results:
        if result.cell_type in images:
            replace_images(connection, result.key, result.cell_type, images[result.cell_type])
        else:
            forget_other_images(connection, result.key, result.cell_type, result.test_fingerprint)


def _bring_up_to_date(connection: sqlite3.Connection) -> None:
    """Make the tables, or add what an older program did not know; others may try at the same time."""
    if connection.execute("PRAGMA user_version").fetchone()[0] == SCHEMA:
        return
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(_CREATE)
    there = {row["name"] for row in connection.execute("PRAGMA table_info(results)")}
    for name in _ADDED:
        if name not in there:
            connection.execute(f"ALTER TABLE results ADD COLUMN {name}")
    connection.execute(CREATE_IMAGES)
    connection.execute(f"PRAGMA user_version = {SCHEMA}")
    connection.commit()

"""The table of test images in the file of results: what was found in each, for bootstraps without the model."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from detection.matches import ImageMatches
from policy_search.cells.errors import InputError


class RunKey(NamedTuple):
    """What a result is stored under: source name, the policy's content hash, seed, and the hash of all else."""

    source: str
    policy_hash: str
    seed: int
    config_hash: str


class Tested(NamedTuple):
    """Images of one cell type under one model.

    Attributes:
        fingerprint: of the test images, as in the result that they belong to.
        images: in the order of testing.
    """

    fingerprint: str
    images: Sequence[ImageMatches]


_RUN = RunKey._fields
_KEY = (*_RUN, "cell_type", "image")
# Scores are float32, little endian; hits are packed bits, the first in the highest place. `position` is the image's
# place among those of its type: detections of one score are counted in that order.
_COLUMNS = (*_KEY, "position", "well", "cells", "test_fingerprint", "scores", "hits")
CREATE = f"CREATE TABLE IF NOT EXISTS images ({', '.join(_COLUMNS)}, PRIMARY KEY ({', '.join(_KEY)}))"
_INSERT = f"INSERT INTO images ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"
_OF_RUN = " AND ".join(f"{name} = ?" for name in _RUN)


def replace_images(connection: sqlite3.Connection, key: RunKey, cell_type: str, tested: Tested) -> None:
    """Put the images of one tested type in the place of those that are there."""
    connection.execute(f"DELETE FROM images WHERE {_OF_RUN} AND cell_type = ?", (*key, cell_type))
    rows = []
    for position, image in enumerate(tested.images):
        scores = np.asarray(image.scores).astype("<f4", casting="same_kind").tobytes()
        hits = np.packbits(np.asarray(image.hits, bool)).tobytes()
        rows.append((*key, cell_type, image.image, position, image.well, image.cells, tested.fingerprint, scores, hits))
    connection.executemany(_INSERT, rows)


def forget_other_images(connection: sqlite3.Connection, key: RunKey, cell_type: str, fingerprint: str) -> None:
    """Remove what was found in test images that are no longer those of the result."""
    query = f"DELETE FROM images WHERE {_OF_RUN} AND cell_type = ? AND test_fingerprint <> ?"
    connection.execute(query, (*key, cell_type, fingerprint))


def images_of(connection: sqlite3.Connection, key: RunKey) -> dict[str, Tested]:
    """Cell type → what was found in its images; nothing where a file has no such table.

    Raises:
        InputError: an entry is damaged.
    """
    if not _there(connection):
        return {}
    query = f"SELECT * FROM images WHERE {_OF_RUN} ORDER BY cell_type, position"
    images: dict[str, list[ImageMatches]] = {}
    fingerprints: dict[str, str] = {}
    for row in connection.execute(query, key):
        images.setdefault(row["cell_type"], []).append(_matches(row))
        fingerprints[row["cell_type"]] = row["test_fingerprint"]
    return {cell_type: Tested(fingerprints[cell_type], found) for cell_type, found in images.items()}


def types_with_images(connection: sqlite3.Connection, key: RunKey) -> set[str]:
    """Cell types whose images are there."""
    if not _there(connection):
        return set()
    return {row[0] for row in connection.execute(f"SELECT DISTINCT cell_type FROM images WHERE {_OF_RUN}", key)}


def _there(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'images'").fetchone() is not None


def _matches(row: sqlite3.Row) -> ImageMatches:
    try:
        scores = np.frombuffer(row["scores"], "<f4").astype(np.float32)
        packed = np.frombuffer(row["hits"], np.uint8)
        if len(packed) != -(-len(scores) // 8):
            raise ValueError(f"{len(scores)} scores and {len(packed)} bytes of hits")
        hits = np.unpackbits(packed, count=len(scores)).astype(bool)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"what is stored of the image {row['image']!r} of {row['cell_type']} is damaged ({error}): run its "
            "fine-tune again with --force"
        ) from error
    return ImageMatches(str(row["image"]), str(row["well"]), int(row["cells"]), scores, hits)

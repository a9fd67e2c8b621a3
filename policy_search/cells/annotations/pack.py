"""The compact copy of an annotation file: one file, read piecewise, in which damage is noticed.

    magic | fragments (`fragment.pack`) | tail: JSON and numpy arrays | trailer: where the tail is, CRC-32s, magic

The trailer and the tail are checked when the copy is opened, each fragment when it is read. Bytes are read with
`pread`, not through a memory map: a file that somebody cuts off meanwhile is then an error, not the process's end.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import weakref
import zlib
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from policy_search.cells.annotations import fragment
from policy_search.cells.annotations.entries import ANNOTATIONS, IMAGES, Entry, append, checked_images, image_table

MAGIC = b"COCO copy 2\n\0\0\0\0"
# Per fragment: position of its image among the image ids, where it stands, its CRC-32.
_FRAGMENT = np.dtype([("image", "<i8"), ("offset", "<i8"), ("length", "<i8"), ("crc", "<u4")])
_TRAILER = struct.Struct("<QQQI16s")  # tail's offset, length of its JSON, length of its arrays, CRC-32, magic
# Annotations held back to be sorted by image: 40 MB. Files list an image's annotations together, or nearly so.
PENDING = 16_384


class DamagedError(Exception):
    """A copy that is cut off, altered, or of another version."""


def write(file: BinaryIO, content: Iterable[tuple[str, Any]], path: Path) -> None:
    """Write a copy.

    Args:
        file: to write to, at its beginning.
        content: of the annotation file (`stream.pieces`).
        path: of the annotation file, for messages.

    Raises:
        DataError: an entry lacks what it needs.
    """
    writer = _Writer(file)
    images: list[Entry] = []
    rest: Entry = {}
    for key, value in content:
        if key == IMAGES:
            images.append(value)
        elif key == ANNOTATIONS:
            writer.add(value, path)
        else:
            rest[key] = value
    writer.close(checked_images(images, path), rest)


class _Writer:
    """Fragments, as annotations come."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._at = file.write(MAGIC)
        self._pending: dict[Any, list[Entry]] = {}
        self._held = 0
        self._places: dict[Any, int] = {}  # by image id, in order of first appearance
        self._digests: dict[int, Any] = {}  # by place
        self._fragments: list[tuple[int, int, int, int]] = []

    def add(self, entry: Entry, path: Path) -> None:
        append(self._pending, entry, path)
        self._places.setdefault(entry["image_id"], len(self._places))
        self._held += 1
        if self._held >= PENDING:
            # The image that is being read goes on: kept back, so that it stays in one piece.
            last = entry["image_id"]
            kept = self._pending.pop(last) if len(self._pending) > 1 else []
            self._flush()
            self._held = len(kept)
            if kept:
                self._pending[last] = kept

    def _flush(self) -> None:
        for image_id, entries in self._pending.items():
            data, text = fragment.pack(entries)
            place = self._places[image_id]
            opening = b", " if place in self._digests else b"["
            self._digests.setdefault(place, hashlib.sha256()).update(opening + text)
            self._fragments.append((place, self._at, len(data), zlib.crc32(data)))
            self._at += self._file.write(data)
        self._pending = {}

    def close(self, images: list[Entry], rest: Entry) -> None:
        self._flush()
        digests = [self._digests[place] for place in range(len(self._places))]
        for digest in digests:
            digest.update(b"]")
        described = fragment.dumps([images, rest, list(self._places)])
        table = np.array(self._fragments, _FRAGMENT)
        table = table[np.argsort(table["image"], kind="stable")]  # an image's fragments together, in file order
        arrays = table.tobytes() + b"".join(digest.digest() for digest in digests)
        tail = described + arrays
        self._file.write(tail)
        self._file.write(_TRAILER.pack(self._at, len(described), len(arrays), zlib.crc32(tail), MAGIC))


class Pack:
    """A copy that is open for reading, by any number of threads and forked processes.

    Attributes:
        images: the `images` entries, by their COCO id.
        replaced: see `Content`.
        rest: every key of the file but `images` and `annotations`.
        places: image id → position, for the images that have annotations, in order of first appearance.
    """

    def __init__(self, read: Callable[[int, int], bytes], size: int) -> None:
        """Open a copy of `size` bytes; `read` gives so many bytes at an offset.

        Raises:
            DamagedError: cut off, altered, or of another version.
        """
        self._read = read
        end = size - _TRAILER.size
        if end < len(MAGIC) or read(len(MAGIC), 0) != MAGIC:
            raise DamagedError
        offset, described, arrays, crc, magic = _TRAILER.unpack(self._exactly(end, _TRAILER.size))
        if magic != MAGIC or offset + described + arrays != end:
            raise DamagedError
        tail = self._exactly(offset, described + arrays)
        if zlib.crc32(tail) != crc:
            raise DamagedError
        images, self.rest, ids = json.loads(tail[:described])
        self.images, self.replaced = image_table(images)
        self.places: dict[Any, int] = {image_id: place for place, image_id in enumerate(ids)}
        digest_size = hashlib.sha256().digest_size
        count = (arrays - digest_size * len(ids)) // _FRAGMENT.itemsize
        self._table = np.frombuffer(tail, _FRAGMENT, count, described)
        self._digests = tail[described + count * _FRAGMENT.itemsize :]
        # (images + 1,): where each one's fragments begin in the table.
        self._starts = np.searchsorted(self._table["image"], np.arange(len(ids) + 1)).tolist()

    @classmethod
    def open(cls, path: Path) -> Pack:
        """A copy in a file. It can be read until it is let go of, even when its name is gone by then.

        Raises:
            OSError: not there.
            DamagedError: see `Pack`.
        """
        descriptor = os.open(path, os.O_RDONLY)
        try:
            pack = cls(partial(os.pread, descriptor), os.fstat(descriptor).st_size)
        except BaseException:
            os.close(descriptor)
            raise
        weakref.finalize(pack, os.close, descriptor)
        return pack

    @classmethod
    def held(cls, buffer: io.BytesIO) -> Pack:
        """A copy in memory."""
        view = buffer.getbuffer()
        return cls(lambda size, offset: bytes(view[offset : offset + size]), len(view))

    def _exactly(self, offset: int, size: int) -> bytes:
        data = self._read(size, offset)
        if len(data) != size:
            raise DamagedError
        return data

    def annotations(self, image_id: Any) -> list[Entry]:
        """An image's annotations in file order; raises KeyError, DamagedError."""
        place = self.places[image_id]
        found: list[Entry] = []
        for _, offset, length, crc in self._table[self._starts[place] : self._starts[place + 1]].tolist():
            data = self._exactly(offset, length)
            if zlib.crc32(data) != crc:
                raise DamagedError
            found += fragment.unpack(data)
        return found

    def digest(self, image_id: Any) -> str:
        """SHA-256 (hex) of an image's segmentations as JSON; raises KeyError."""
        place, size = self.places[image_id], hashlib.sha256().digest_size
        return self._digests[place * size : (place + 1) * size].hex()

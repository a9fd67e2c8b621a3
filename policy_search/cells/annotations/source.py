"""An annotation file's content: small files are parsed, large ones come from their compact copy, image by image."""

from __future__ import annotations

import hashlib
import io
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from policy_search.cells.annotations import folder as folders
from policy_search.cells.annotations import pack as packs
from policy_search.cells.annotations import stamps, stream
from policy_search.cells.annotations.entries import (
    ANNOTATIONS,
    IMAGES,
    Content,
    Entry,
    append,
    checked_images,
    image_table,
)
from policy_search.cells.annotations.pack import DamagedError, Pack
from policy_search.cells.errors import DataError
from policy_search.cells.fetch_watch import readable

SMALL = 1 << 20  # bytes; below, parsing takes less time than a person notices
LARGE = 50_000_000  # bytes; from here on, seconds in which a person would wonder


class PackedAnnotations(Mapping[Any, list[Entry]]):
    """Image id → its annotations in file order, read from the copy when asked for; each time a list of its own.

    Raises DataError when the copy turns out damaged and the annotation file is no longer what it was.
    """

    def __init__(self, path: Path, key: str, pack: Pack) -> None:
        self._path, self._key, self._pack = path, key, pack

    def __getitem__(self, image_id: Any) -> list[Entry]:
        try:
            return self._pack.annotations(image_id)
        except DamagedError:
            self._pack = self._again(image_id)
            return self._pack.annotations(image_id)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._pack.places)

    def __len__(self) -> int:
        return len(self._pack.places)

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._pack.places

    def __repr__(self) -> str:
        return f"PackedAnnotations({self._path}, {len(self)} images)"

    def digest(self, image_id: Any) -> str:
        """SHA-256 (hex) of an image's segmentations as JSON; raises KeyError."""
        return self._pack.digest(image_id)

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process opens the copy for itself.
        return _reopened, (self._path, self._key)

    def _again(self, image_id: Any) -> Pack:
        """A sound copy instead of a damaged one, which another process may have made already."""
        try:
            pack, key = _packed(self._path, stamps.file_key(self._path), lambda pack: pack.annotations(image_id))
        except OSError as error:
            raise DataError(f"the copy of {self._path} is damaged, and the file is gone: {error}") from error
        if key != self._key:
            raise _changed(self._path)
        return pack


def _reopened(path: Path, key: str) -> PackedAnnotations:
    pack, found = _packed(path, key)
    if found != key:
        raise _changed(path)
    return PackedAnnotations(path, key, pack)


def _changed(path: Path) -> DataError:
    return DataError(f"{path} was changed while it was in use: start again")


def key_of(path: Path) -> tuple[str, bytes | None]:
    """SHA-256 (hex) of a file, and its bytes if it is small; raises OSError."""
    stamp = stamps.stamp_of(path)
    if stamp.size < SMALL:
        data = path.read_bytes()
        return hashlib.sha256(data).hexdigest(), data
    folder = _folder()
    key = stamps.known_key(folder, stamp)
    if key is None:
        began = stamps.clock()
        key = stamps.file_key(path)
        stamps.remember(folder, path, stamp, began, key)
    return key, None


def read(path: Path, key: str, data: bytes | None) -> tuple[Content, str]:
    """What a file holds, and the digest of what was read: another one than `key` if the file changed meanwhile.

    Args:
        path: of the file.
        key, data: see `key_of`.

    Raises:
        DataError: not JSON, or without usable images and annotations; the message names the file.
        OSError: gone meanwhile.
    """
    if data is not None:
        return _parsed(data, path), key
    pack, key = _packed(path, key)
    return Content(pack.images, PackedAnnotations(path, key, pack), pack.replaced, pack.rest), key


def _parsed(data: bytes, path: Path) -> Content:
    """Content of a file that is small enough to be held in memory, by the same parser as of a large one."""
    images: list[Entry] = []
    grouped: dict[Any, list[Entry]] = {}
    rest: Entry = {}
    for key, value in stream.pieces(io.BytesIO(data).read, path):
        if key == IMAGES:
            images.append(value)
        elif key == ANNOTATIONS:
            append(grouped, value, path)
        else:
            rest[key] = value
    table, replaced = image_table(checked_images(images, path))
    return Content(table, grouped, replaced, rest)


def _folder() -> Path | None:
    return folders.cache_folder() if folders.limit_bytes() else None


def _packed(path: Path, key: str, check: Callable[[Pack], object] | None = None) -> tuple[Pack, str]:
    """The copy of a file, made unless there is one that passes the check, and the digest of what was read."""
    folder = _folder()
    if folder is not None:
        pack = folders.load(folder, key, check)
        if pack is not None:
            return pack, key
        try:
            with folders.sole_maker(folder):
                pack = folders.load(folder, key, check)  # made while this process waited
                if pack is not None:
                    return pack, key
                _announce(path, "it is read once, about a minute for 500 MB; then from a compact copy")
                made = folders.make(folder, partial(_fill, path))
                stamps.tidy(folder, folders.keys(folder))
                return made
        except folders.UnusableError as error:
            folders.warn_once(folder, str(error))
    memory = io.BytesIO()
    _announce(path, "about a minute for 500 MB")
    found = _fill(path, memory)
    return Pack.held(memory), found


def _announce(path: Path, what: str) -> None:
    """Tell the user what is going on, on standard error, before a large file is read whole."""
    size = path.stat().st_size
    if size >= LARGE:
        print(f"reading {path} ({readable(size)}): {what}", file=sys.stderr, flush=True)


def _fill(path: Path, target: BinaryIO) -> str:
    """Write the copy of a file; gives the digest of the very bytes that were parsed."""
    digest = hashlib.sha256()
    with path.open("rb") as file:

        def read_on(size: int) -> bytes:
            data = file.read(size)
            digest.update(data)
            return data

        packs.write(target, stream.pieces(read_on, path), path)
    return digest.hexdigest()

"""Which annotation file has which digest, so that half a gigabyte is not hashed again only to learn its name.

A file is known by its path, size, times and inode. As in git's index, they prove nothing for a file that was changed
just before it was hashed: a second change within one tick of the file system's clock would leave them as they are. Such
a file is hashed again, until it has rested.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from policy_search.cells.errors import InputError
from policy_search.cells.files import write_json

_FOLDER = "stamps"
_TICK = 2_000_000_000  # nanoseconds: the coarsest clock of a file system in use (FAT)
_ABANDONED = 3600  # seconds after which a stamp that somebody began to write is taken for abandoned


class Stamp(NamedTuple):
    """What a file is known by.

    Attributes:
        path: absolute.
        size: bytes.
        mtime_ns, ctime_ns: of its last change; the second cannot be set back.
        inode: of the file.
    """

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


def stamp_of(path: Path) -> Stamp:
    """Raises OSError."""
    found = path.stat()
    return Stamp(os.path.abspath(path), found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


class _Known(NamedTuple):
    stamp: Stamp
    hashed_ns: int  # when hashing began
    key: str

    def rested(self) -> bool:
        return max(self.stamp.mtime_ns, self.stamp.ctime_ns) + _TICK <= self.hashed_ns


_memory: dict[str, _Known] = {}


def known_key(folder: Path | None, stamp: Stamp) -> str | None:
    """The digest of a file that has not changed since it was hashed; None if that is not sure."""
    known = _memory.get(stamp.path)
    if folder is not None and (known is None or known.stamp != stamp or not known.rested()):
        known = _load(_file(folder, stamp.path))
    if known is None or known.stamp != stamp or not known.rested():
        return None
    _memory[stamp.path] = known
    return known.key


def remember(folder: Path | None, path: Path, before: Stamp, hashed_ns: int, key: str) -> None:
    """Keep a digest, if the file is still what it was `before` it was hashed."""
    try:
        if stamp_of(path) != before:
            return
    except OSError:
        return
    known = _Known(before, hashed_ns, key)
    _memory[before.path] = known
    if folder is None or not known.rested():
        return
    # Else the file is hashed again next time; whoever keeps the copy says that the folder is unusable.
    with suppress(InputError, OSError):
        write_json(_file(folder, before.path), {**before._asdict(), "hashed_ns": hashed_ns, "key": key})


def clock() -> int:
    """Now, in nanoseconds of the clock that stamps files."""
    return time.time_ns()


def file_key(path: Path) -> str:
    """SHA-256 (hex) of a file; raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tidy(folder: Path, present: set[str]) -> None:
    """Remove stamps whose copy is gone, and what killed processes left. For who holds the folder."""
    for path in (folder / _FOLDER).glob("*"):
        try:
            if path.name.startswith("."):
                gone = path.stat().st_mtime < time.time() - _ABANDONED
            else:
                known = _load(path)
                gone = known is None or known.key not in present
            if gone:
                path.unlink(missing_ok=True)
        except OSError:
            continue  # another process was faster


def _file(folder: Path, path: str) -> Path:
    return folder / _FOLDER / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:32]}.json"


def _load(path: Path) -> _Known | None:
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
        stamp = Stamp(*(found[name] for name in Stamp._fields))
        known = _Known(stamp, found["hashed_ns"], found["key"])
    except (OSError, ValueError, TypeError, KeyError):
        return None
    whole = isinstance(known.hashed_ns, int) and isinstance(known.key, str) and all(map(_whole, stamp[1:]))
    return known if whole else None


def _whole(value: Any) -> bool:
    return type(value) is int

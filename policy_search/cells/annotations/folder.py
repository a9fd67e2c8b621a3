"""The folder of compact copies: found by the digest of their file, made by one process at a time, bounded in size."""

from __future__ import annotations

import fcntl
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from policy_search.cells.annotations.pack import DamagedError, Pack
from policy_search.cells.errors import InputError

LIMIT = "POLICY_SEARCH_ANNOTATION_CACHE_MB"
LIMIT_MB = 4096
_WAIT = 1800.0  # seconds; a file of LIVECell's size takes about one minute
_SUFFIX = ".pack"


class UnusableError(Exception):
    """The folder cannot be used; the text says why. Work goes on without it."""


def cache_folder() -> Path:
    """Where copies are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "policy-search" / "annotations"


def limit_bytes() -> int:
    """What the copies may take together; 0 for none at all.

    Raises:
        InputError: the variable holds no whole number.
    """
    text = os.environ.get(LIMIT) or str(LIMIT_MB)
    if not text.isascii() or not text.isdigit():
        raise InputError(f"{LIMIT} should be a whole number of megabytes (0: keep nothing), found {text!r}")
    return int(text) << 20


def load(folder: Path, key: str, check: Callable[[Pack], object] | None = None) -> Pack | None:
    """The copy of the file with this digest; None where there is none, or a damaged one, or one of another version.

    Args:
        folder: of the copies.
        key: the digest.
        check: reads what has to be sound; raises DamagedError.
    """
    path = folder / f"{key}{_SUFFIX}"
    try:
        pack = Pack.open(path)
        if check is not None:
            check(pack)
    except (OSError, DamagedError):
        return None
    with suppress(OSError):  # another user's, or gone already
        os.utime(path)  # what was used last goes last
    return pack


@contextmanager
def sole_maker(folder: Path) -> Iterator[None]:
    """Holds the folder: only one process of a machine makes a copy at a time, the others find it when they get here.

    Raises:
        UnusableError: it cannot be made or locked, or another process holds it for too long.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / ".lock").open("a")
    except OSError as error:
        raise UnusableError(error.strerror or str(error)) from error
    with handle:
        give_up = time.monotonic() + _WAIT
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > give_up:
                    raise UnusableError(f"another process has held {folder / '.lock'} for half an hour") from None
                time.sleep(0.05)
            except OSError as error:  # a file system without locks
                raise UnusableError(error.strerror or str(error)) from error
        yield


def make(folder: Path, fill: Callable[[BinaryIO], str]) -> tuple[Pack, str]:
    """Write a copy and open it; gives the digest too. For who holds the folder.

    Args:
        folder: of the copies.
        fill: writes the copy and gives the digest of the file that it read.

    Raises:
        UnusableError: no room, or not writable; nothing is left behind.
    """
    _clear(folder)
    # Under a name of its own: which file was read is known at the end.
    scratch = folder / f".{os.getpid()}{_SUFFIX}"
    try:
        with scratch.open("wb", buffering=1 << 20) as file:
            key = fill(file)
        if scratch.stat().st_size > limit_bytes():
            raise UnusableError(f"the copy takes more than {LIMIT} allows")
        target = folder / f"{key}{_SUFFIX}"
        os.replace(scratch, target)
        _trim(folder, target)
        return Pack.open(target), key
    except OSError as error:
        raise UnusableError(error.strerror or str(error)) from error
    except DamagedError as error:
        raise UnusableError("what was written cannot be read back") from error
    finally:
        scratch.unlink(missing_ok=True)


def keys(folder: Path) -> set[str]:
    """Digests of the files that have a copy."""
    return {path.stem for path in folder.glob(f"[!.]*{_SUFFIX}")}


def _clear(folder: Path) -> None:
    """Remove what killed makers left: nobody else is making a copy."""
    for scratch in folder.glob(f".*{_SUFFIX}"):
        scratch.unlink(missing_ok=True)


def _trim(folder: Path, newest: Path) -> None:
    """Remove the copies that were used longest ago, until the others keep to the limit."""
    found = []
    for path in folder.glob(f"[!.]*{_SUFFIX}"):
        try:
            stamp = path.stat()
        except FileNotFoundError:
            continue
        found.append((path == newest, stamp.st_mtime_ns, stamp.st_size, path))
    total, limit = sum(size for _, _, size, _ in found), limit_bytes()
    for _, _, size, path in sorted(found):
        if total <= limit:
            return
        path.unlink(missing_ok=True)
        total -= size


_warned: set[str] = set()


def warn_once(folder: Path, reason: str) -> None:
    """Say that copies are not kept, once a process."""
    text = (
        f"annotations are not kept in {folder} ({reason}): large annotation files are read anew each time. "
        f"Set XDG_CACHE_HOME to a folder with room, or {LIMIT}=0 to do without."
    )
    if text not in _warned:
        _warned.add(text)
        warnings.warn(text, RuntimeWarning, stacklevel=2)

"""One fetch into a folder at a time: the others wait. Only user of filelock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from policy_search.cells.errors import InputError

FILE = ".fetch.lock"


@contextmanager
def sole_fetch(folder: Path, note: Callable[[str], None]) -> Iterator[None]:
    """Within, no other process that asks here fetches into the folder. A killed one does not stand in the way.

    Args:
        folder: must exist.
        note: told once if another is at work.

    Raises:
        InputError: the folder cannot be written.
    """
    lock = FileLock(folder / FILE)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            note(f"another process is fetching into {folder}; waiting for it")
            lock.acquire(poll_interval=0.2)
    except OSError as error:
        raise InputError(
            f"cannot write into {folder}: {error.strerror or error}. Choose another folder with --root."
        ) from error
    try:
        yield
    finally:
        lock.release()

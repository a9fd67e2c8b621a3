"""One process at a time in a run's folder."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from policy_search.cells.errors import InputError


@contextmanager
def sole_user(folder: Path) -> Iterator[None]:
    """Holds the folder; a process that ends in any way, killed too, lets go of it.

    Raises:
        InputError: another process trains there.
    """
    with (folder / ".lock").open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(
                f"another process trains in {folder}: wait until it is done, or choose another --out"
            ) from None
        yield

"""LIVECell for who names a type and has no LIVECell: fetched into the user cache, unless that is turned off."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from policy_search.cells.errors import DataError
from policy_search.cells.livecell import forget_images, nothing_missing
from policy_search.cells.types import CellType

OFFLINE = "POLICY_SEARCH_OFFLINE"


def turned_off() -> bool:
    """Whether the user forbids fetching without being asked."""
    return os.environ.get(OFFLINE, "") not in ("", "0")


def fetch_command(types: Sequence[str], split: str | None = None, root: str | Path | None = None) -> str:
    """What a user types to fetch some types; a root only where it is not found by itself."""
    words = ["policy-search", "data", "fetch", *types]
    words += ["--split", split] if split else []
    words += ["--root", str(root)] if root else []
    return shlex.join(words)


def complete(types: Sequence[CellType], split: str, root: Path) -> None:
    """Fetch what a folder lacks of some types and a split, with licence and progress on standard error.

    Asks no server where nothing is missing.

    Raises:
        DataError: no network, or what comes is damaged.
        InputError: the folder cannot be written, or has not enough space.
    """
    missing = [kind for kind in types if not is_complete(kind, split, root)]
    if not missing:
        return
    from policy_search.cells.fetch import fetch_livecell  # its libraries are needed here only
    from policy_search.cells.fetch_progress import FetchProgress

    names = [kind.name for kind in missing]
    try:
        with FetchProgress() as watch:
            watch.note(
                f"LIVECell's {', '.join(names)} ({split}) is not in {root}: fetching it ({OFFLINE}=1 forbids that)"
            )
            fetch_livecell(missing, [split], root, watch=watch)
    except DataError as error:
        raise DataError(f"{error} ({OFFLINE}=1 makes do with what is there.)") from error
    except KeyboardInterrupt:
        command = fetch_command(names, split)
        print(f"stopped; what has come is kept. The same command goes on, or: {command}", file=sys.stderr)
        raise


def is_complete(kind: CellType, split: str, root: Path) -> bool:
    """Whether the annotations of a type and split are there with all the images that they name.

    Raises:
        DataError: the annotation file is damaged.
    """
    if nothing_missing(root, kind.name, split):
        return True
    forget_images()  # another process may have put them there
    return nothing_missing(root, kind.name, split)

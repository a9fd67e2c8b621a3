"""Writing files so that nothing half-written is ever seen: write beside the target, then rename."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from policy_search.cells.errors import InputError


@contextmanager
def replacing(path: str | Path, *, durable: bool = False, option: str = "--out") -> Iterator[Path]:
    """A temporary path in the target's folder; on success it replaces `path`, on an exception it is removed.

    Args:
        path: the target.
        durable: wait until the disk has it, so that a power cut leaves the old file or the new one, never an empty one.
        option: that named the folder, for the message.

    Raises:
        InputError: the folder cannot be made or written.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=target.suffix, dir=target.parent)
    except OSError as error:
        raise InputError(
            f"cannot write {target}: {error.strerror or error}. Choose another folder with {option}."
        ) from error
    os.close(handle)
    scratch = Path(name)
    try:
        yield scratch
        # mkstemp makes files private; a result is as readable as any other file of this user.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(scratch, 0o666 & ~umask)
        if durable:
            _to_disk(scratch)
        os.replace(scratch, target)
        if durable:
            _to_disk(target.parent)
    finally:
        scratch.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def clear_scratch(path: str | Path) -> None:
    """Remove what a killed process left of `replacing(path)`. Only for who owns the folder: it may be in use."""
    target = Path(path)
    for scratch in target.parent.glob(f".{target.name}.*{target.suffix}"):
        scratch.unlink(missing_ok=True)


def write_text(path: str | Path, text: str, *, option: str = "--out") -> None:
    """Write a text file in one step (see `replacing`)."""
    with replacing(path, option=option) as scratch:
        scratch.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any, *, option: str = "--out") -> None:
    """Write JSON in one step, indented, refusing NaN and infinity (they are not JSON)."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n", option=option)


def require_writable_folder(path: str | Path, option: str = "--out") -> Path:
    """Make the folder and prove that it can be written, before any long work begins.

    Args:
        path: of the folder.
        option: that named it, for the message.

    Raises:
        InputError: it is a file, or cannot be made or written.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"cannot write into {folder}: {error.strerror or error}. Choose another folder with {option}."
        ) from error
    return folder

"""One whole file from a server into its place: resumed after a cut, checked, and only then under its name."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from policy_search.cells.errors import DataError, InputError
from policy_search.cells.fetch_watch import readable
from policy_search.cells.files import write_json
from policy_search.cells.remote import RemoteFile, Server
from policy_search.cells.remote_errors import Changed, NoRanges

TRIES = 3  # of a file that changes on the server while it is read, or arrives damaged
SPARE = 16 << 20  # bytes of a disk that stay free


def download(
    server: Server,
    file: RemoteFile,
    target: Path,
    check: Callable[[Path], None],
    advance: Callable[[int], None],
) -> RemoteFile:
    """Fetch a file.

    What has come lies in `<target>.part`, and in `<target>.part.json` of which version it is. A later call goes on
    there when the server still has that version.

    Args:
        server: to ask.
        file: what it says of the file.
        target: where it goes; what lies there is replaced when the new one is whole.
        check: raises DataError when the content at a path is not what it should be.
        advance: told of every byte that comes, in counts.

    Returns:
        What the file is that lies there now: `file`, or a newer version.

    Raises:
        DataError: it arrives damaged or keeps changing; nothing is left of it.
        Unreachable: no answer, or cut too often; what has come is kept.
        OSError: the disk.
    """
    part, note = part_files(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    trouble = DataError(f"{file.url} changes on the server while it is read; try again later")
    for _ in range(TRIES):
        done = resumable(file, target)
        if done == 0:
            write_json(note, asdict(file), option="--root")
        try:
            with part.open("r+b" if done else "wb") as out:
                out.seek(done)
                out.truncate()
                for piece in server.read(file, done):
                    out.write(piece)
                    out.flush()  # a killed process has kept all that came
                    advance(len(piece))
                os.fsync(out.fileno())
            same_content(file, part)
            check(part)
        except Changed:
            file = server.describe(file.url.removeprefix(server.base))
        except NoRanges:
            # It cannot go on in the middle: what is there is worth nothing.
            note.unlink(missing_ok=True)
        except DataError as error:
            if not _complete(file, part):
                raise
            trouble = DataError(f"{file.url} arrived damaged: {error}")
            note.unlink(missing_ok=True)
        else:
            os.replace(part, target)
            note.unlink(missing_ok=True)
            return file
    part.unlink(missing_ok=True)
    note.unlink(missing_ok=True)
    raise trouble


def part_files(target: Path) -> tuple[Path, Path]:
    """Where the bytes that have come lie, and what they belong to."""
    part = target.with_name(target.name + ".part")
    return part, part.with_name(part.name + ".json")


def resumable(file: RemoteFile, target: Path) -> int:
    """How many bytes of this version of a file lie there from before."""
    part, note = part_files(target)
    try:
        begun = json.loads(note.read_text(encoding="utf-8"))
        size = part.stat().st_size
    except (OSError, ValueError):
        return 0
    # Without a date or an ETag, nobody can tell whether the rest would fit.
    return size if begun == asdict(file) and file.validator and size <= file.size else 0


def same_content(file: RemoteFile, path: Path) -> None:
    """Compare a file's content with the digest of the server, where it gave one.

    Raises:
        DataError: they differ.
    """
    if not file.md5:
        return
    with path.open("rb") as content:
        found = hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != file.md5:
        raise DataError(f"its MD5 is {found}, the server says {file.md5}; something on the way changes it")


def require_space(folder: Path, size: int) -> None:
    """Whether so many more bytes fit on a folder's disk.

    Raises:
        InputError: they do not.
    """
    free = shutil.disk_usage(folder).free
    if size + SPARE > free:
        raise InputError(
            f"{readable(size)} are to be fetched into {folder}, and {readable(free)} are free there: make room, ask "
            "for fewer types or splits, or choose another folder with --root"
        )


def _complete(file: RemoteFile, part: Path) -> bool:
    return part.is_file() and part.stat().st_size == file.size

"""`fetched.json`: what was fetched into a folder, from where, when, and with which content."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from policy_search.cells.errors import DataError
from policy_search.cells.files import write_json

FILE = "fetched.json"
LICENCE = {
    "name": "CC BY-NC 4.0",
    "link": "https://creativecommons.org/licenses/by-nc/4.0/",
    "text": "LIVECell (Edlund et al., 2021) is licensed under CC BY-NC 4.0: name its authors; not for commercial use.",
}


@dataclass(frozen=True)
class FetchedFile:
    """One file.

    Attributes:
        sha256: of its content, in hex.
        size: in bytes.
        etag: of what it was taken from, when it was fetched; empty when the server gave none.
        url: what it was taken from; behind a `#` the entry of an archive.
        date: when, in UTC, ISO 8601.
    """

    sha256: str
    size: int
    etag: str
    url: str
    date: str


@dataclass
class Fetched:
    """The record of one folder.

    Attributes:
        folder: that it describes.
        files: path below the folder, with forward slashes → file.
        licence: what was shown to the user, and when; empty before.
    """

    folder: Path
    files: dict[str, FetchedFile] = field(default_factory=dict)
    licence: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, etag: str, url: str) -> None:
        """Record a file that is in place; `save` writes it down."""
        path = self.folder / name
        self.files[name] = FetchedFile(sha256_of(path), path.stat().st_size, etag, url, now())

    def problem(self, name: str) -> str | None:
        """What is wrong with a recorded file, or None. It is read whole."""
        entry, path = self.files[name], self.folder / name
        if not path.is_file():
            return f"{name} is missing"
        size = path.stat().st_size
        if size != entry.size:
            return f"{name} has {size} bytes; {entry.size} were fetched"
        return None if sha256_of(path) == entry.sha256 else f"{name} has another content than was fetched"

    def whole(self, name: str) -> bool:
        """Whether a file is recorded and is as it was fetched."""
        return name in self.files and self.problem(name) is None

    def save(self) -> None:
        """Write the record into its folder in one step."""
        files = {name: asdict(entry) for name, entry in sorted(self.files.items())}
        write_json(self.folder / FILE, {"licence": self.licence, "files": files})


def read_fetched(folder: Path) -> Fetched:
    """The record in a folder, empty where there is none.

    Raises:
        DataError: it is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return Fetched(folder)
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        keys = [f.name for f in fields(FetchedFile)]
        files = {name: FetchedFile(**{key: entry[key] for key in keys}) for name, entry in content["files"].items()}
        return Fetched(folder, files, dict(content["licence"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is damaged ({error}); `policy-search data fetch` writes it anew") from error


def verify_fetched(folder: Path) -> list[str]:
    """A sentence for each file that is not as it was fetched; empty when all is well. Asks no server."""
    try:
        record = read_fetched(folder)
    except DataError as error:
        return [str(error)]
    problems = (record.problem(name) for name in sorted(record.files))
    return [problem for problem in problems if problem is not None]


def sha256_of(path: Path) -> str:
    """Digest of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")

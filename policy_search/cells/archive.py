"""Images inside a zip, on a server or on the disk: which there are, and reading some. Only user of remotezip."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path, PurePosixPath

from remotezip import PartialBuffer, RemoteZip, RemoteZipError

from policy_search.cells.errors import DataError
from policy_search.cells.livecell import IMAGE_SUFFIXES
from policy_search.cells.remote import RemoteFile, Server

TAIL = 1 << 20  # bytes; the directory of LIVECell's 5,239 images fits
GAP = 512 * 1024  # bytes between two wanted images that are read rather than asked around: about two images
LARGEST = 64 << 20  # bytes; LIVECell's images have under 1 MiB

Span = tuple[int, int]


class Archive:
    """The images of a zip, by file name.

    Args:
        opened: the zip.
        name: its path or address, for messages.
        source: where a remote one gets its bytes.

    Attributes:
        images: file name → entry.

    Raises:
        DataError: an entry points out of the folder, is too large, or two of one name differ.
    """

    def __init__(self, opened: zipfile.ZipFile, name: str, source: RangeSource | None = None) -> None:
        self.name = name
        self._zip = opened
        self._source = source
        self.images: dict[str, zipfile.ZipInfo] = {}
        for entry in opened.infolist():
            _refuse_unsafe(entry, name)
            path = PurePosixPath(entry.filename)
            # macOS adds a `._` twin to each file.
            if entry.is_dir() or path.name.startswith("._") or path.suffix.lower() not in IMAGE_SUFFIXES:
                continue
            twin = self.images.setdefault(path.name, entry)
            if (twin.CRC, twin.file_size) != (entry.CRC, entry.file_size):
                raise DataError(
                    f"{name} holds two different images named {path.name}: {twin.filename}, {entry.filename}"
                )
        starts = [*sorted({entry.header_offset for entry in opened.infolist()}), opened.start_dir]
        self._ends = dict(pairwise(starts))

    def close(self) -> None:
        """Let go of the file or the connection."""
        self._zip.close()

    def span(self, entry: zipfile.ZipInfo) -> Span:
        """The bytes of an entry in the zip, header included: [start, stop)."""
        return entry.header_offset, self._ends[entry.header_offset]

    def length(self, entries: Iterable[zipfile.ZipInfo]) -> int:
        """Bytes of these entries in the zip."""
        return sum(stop - start for start, stop in map(self.span, entries))

    def read(
        self, entries: Sequence[zipfile.ZipInfo], advance: Callable[[int], None]
    ) -> Iterator[tuple[zipfile.ZipInfo, bytes | None]]:
        """Each entry with its content, in the order of the zip, checked against its CRC; None where that failed.

        Args:
            entries: to read. Neighbours come in one request.
            advance: told of each entry's bytes in the zip, in counts.

        Raises:
            Changed, NoRanges, DataError, Unreachable: see `Server.read`.
        """
        ordered = sorted(entries, key=lambda e: e.header_offset)
        if self._source:
            self._source.plan(list(runs(map(self.span, ordered))))
        for entry in ordered:
            try:
                content = self._zip.read(entry)
            except (zipfile.BadZipFile, zlib.error, EOFError, struct.error, RuntimeError, RemoteZipError):
                yield entry, None
            else:
                yield entry, content if len(content) == entry.file_size else None
            advance(self.length([entry]))


class RangeSource:
    """Bytes of a remote file for remotezip, which asks entry by entry: planned neighbours come in one request.

    Args:
        server: to ask.
        file: the zip.
    """

    def __init__(self, server: Server, file: RemoteFile) -> None:
        self._server, self._file = server, file
        self._runs: list[Span] = []
        self._stream: Iterator[bytes] = iter(())
        self._kept = bytearray()  # what came and was not handed over yet; its first byte is at _at
        self._at = self._end = 0

    def plan(self, spans: list[Span]) -> None:
        """From now on read each of these spans in one request."""
        self._runs = spans

    def fetch(self, data_range: tuple[int, int | None], stream: bool = False) -> PartialBuffer:
        """remotezip's question: bytes from first to last, both included; (-n, None) are the last n."""
        first, last = data_range
        size = self._file.size
        start, stop = (max(0, size + first), size) if last is None else (first, last + 1)
        if not 0 <= start < stop <= size or stop - start > 2 * LARGEST:
            raise DataError(f"{self._file.url} is damaged: its directory points at bytes {start}–{stop} of {size}")
        return PartialBuffer(io.BytesIO(self._bytes(start, stop)), start, stop - start, stream=False)

    def _bytes(self, start: int, stop: int) -> bytes:
        if not (self._at <= start and stop <= self._end):
            run = next((r for r in self._runs if r[0] <= start and stop <= r[1]), (start, stop))
            self._at, self._end = start, run[1]
            self._kept.clear()
            self._stream = self._server.read(self._file, start, run[1])
        while len(self._kept) < stop - self._at:
            self._kept += next(self._stream)
        wanted = bytes(self._kept[start - self._at : stop - self._at])
        del self._kept[: stop - self._at]
        self._at = stop
        return wanted


def runs(spans: Iterable[Span], gap: int = GAP) -> Iterator[Span]:
    """Spans [start, stop) in order, joined where at most `gap` bytes lie between two."""
    joined: Span | None = None
    for start, stop in sorted(spans):
        if joined and start - joined[1] <= gap:
            joined = joined[0], max(joined[1], stop)
            continue
        if joined:
            yield joined
        joined = start, stop
    if joined:
        yield joined


def open_remote(server: Server, file: RemoteFile) -> Archive:
    """A zip on a server. Reads its directory, one request as a rule.

    Raises:
        DataError: it is no zip, or holds what it should not (see `Archive`).
        Changed, NoRanges, Unreachable: see `Server.read`.
    """
    source = RangeSource(server, file)
    try:
        opened = RemoteZip(file.url, TAIL, fetcher=lambda *_, **__: source)
    except (zipfile.BadZipFile, RemoteZipError, struct.error, OSError) as error:
        raise DataError(
            f"{file.url} is no zip that can be read ({error}); try again later or another mirror"
        ) from error
    return Archive(opened, file.url, source)


def open_local(path: Path) -> Archive:
    """A zip on the disk. Raises DataError, see `open_remote`."""
    try:
        return Archive(zipfile.ZipFile(path), str(path))
    except zipfile.BadZipFile as error:
        raise DataError(
            f"{path} is no zip that can be read ({error}): remove it, and the images are fetched"
        ) from error


def place_of(entry: zipfile.ZipInfo) -> PurePosixPath:
    """Where an image goes below LIVECell's folder: its path in the zip, from `images` on."""
    parts = PurePosixPath(entry.filename).parts
    below = parts[parts.index("images") + 1 :] if "images" in parts[:-1] else parts
    return PurePosixPath("images", *below)


def _refuse_unsafe(entry: zipfile.ZipInfo, archive: str) -> None:
    path = PurePosixPath(entry.filename.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in entry.filename:
        raise DataError(f"{archive} is not to be trusted: its entry {entry.filename!r} points out of the folder")
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise DataError(f"{archive} is not to be trusted: its entry {entry.filename!r} is a link")
    if entry.file_size > LARGEST:
        raise DataError(
            f"{archive} is not LIVECell's: its entry {entry.filename!r} says it has {entry.file_size} bytes, "
            "its images have under 1 MiB"
        )

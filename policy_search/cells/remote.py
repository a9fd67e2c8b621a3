"""Files of a web server: described, and read in ranges through cuts, stalls and busy answers. Only user of requests."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from urllib.parse import urlsplit

import requests

from policy_search.cells.errors import DataError
from policy_search.cells.remote_errors import READ_ERRORS, Changed, NoRanges, Passing, Unreachable, reason, refusal

CHUNK = 256 * 1024
# Answers of a server that is busy or restarting. Any other refusal would be repeated word for word.
PASSING = {408, 425, 429, 500, 502, 503, 504}
LONGEST_PAUSE = 60.0  # seconds; a server that asks for more is asked again after this
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


@dataclass(frozen=True)
class Patience:
    """How long is waited, in seconds, and how often is tried.

    Attributes:
        connect: for a connection.
        stall: for the next byte of a running answer.
        tries: in a row without a new byte, before a file is given up.
        first_tries: as long as the server has never answered. Few, because without a network nothing helps.
        wait: before the second try; doubled each time, and varied by a half so that many do not come back at once.
        longest: wait between two tries.
    """

    connect: float = 6.0
    stall: float = 30.0
    tries: int = 6
    first_tries: int = 2
    wait: float = 0.5
    longest: float = 20.0


@dataclass(frozen=True)
class RemoteFile:
    """What a server says of a file.

    Attributes:
        url: that was asked for.
        size: in bytes.
        etag: of this version; empty when the server gives none.
        modified: its Last-Modified; empty when the server gives none.
        md5: of the content in hex, where the ETag is known to be one (S3, uploaded in one part, not encrypted by key).
    """

    url: str
    size: int
    etag: str = ""
    modified: str = ""
    md5: str = ""

    @property
    def validator(self) -> str:
        """What If-Range may hold: a strong ETag, else the date."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified


class Server:
    """One server, over one kept connection.

    Args:
        base: address below which paths are asked for.
        patience: time-outs and tries.
        note: told in a sentence when something is tried again.

    Attributes:
        asked: requests sent so far.
    """

    def __init__(self, base: str, patience: Patience | None = None, note: Callable[[str], None] | None = None) -> None:
        self.base = base.rstrip("/") + "/"
        self.asked = 0
        self._patience = patience or Patience()
        self._note = note or (lambda text: None)
        self._answered = False
        self._jitter = random.Random()
        self._session = requests.Session()
        # Ranges and lengths are of the file itself, so it must not come compressed.
        self._session.headers.update({"Accept-Encoding": "identity", "User-Agent": "policy-search"})

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.close()

    def describe(self, path: str) -> RemoteFile:
        """Size and version of the file at a path below the base.

        Raises:
            DataError: the server refuses, has no such file, or does not say how long it is.
            Unreachable: no answer.
        """
        url = self.base + path
        failures = 0
        while True:
            try:
                with self._send("HEAD", url, {}) as answer:
                    return _described(url, answer.headers)
            except Passing as error:
                failures += 1
                self._pause(url, failures, error)

    def read(self, file: RemoteFile, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """The bytes from `start` up to `stop` (default: the end), piece by piece.

        After a cut or a stall the rest is asked for, not the whole.

        Raises:
            Changed: the server has another version by now.
            NoRanges: the server sends the whole file where a part was asked for.
            DataError: it refuses, or the file is shorter than it says.
            Unreachable: too many tries without a new byte.
        """
        position, end, failures = start, file.size if stop is None else stop, 0
        while position < end:
            headers = {"Range": f"bytes={position}-{end - 1}"}
            if file.validator:
                headers["If-Range"] = file.validator
            try:
                with self._send("GET", file.url, headers) as answer:
                    _check(file, answer, position, end)
                    for piece in _pieces(answer, end - position):
                        position += len(piece)
                        failures = 0
                        yield piece
            except Passing as error:
                failures += 1
                self._pause(file.url, failures, error)

    def _send(self, method: str, url: str, headers: Mapping[str, str]) -> requests.Response:
        """One request. Raises Passing where another try makes sense, else DataError."""
        self.asked += 1
        wait = (self._patience.connect, self._patience.stall)
        try:
            answer = self._session.request(
                method, url, headers=headers, stream=method == "GET", timeout=wait, allow_redirects=True
            )
        except requests.exceptions.SSLError as error:
            raise DataError(f"no secure connection to {urlsplit(url).netloc}: {reason(error)}") from error
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            raise Passing(reason(error)) from error
        except requests.RequestException as error:
            raise DataError(f"{url} cannot be asked for: {error}") from error
        self._answered = True
        if answer.status_code in PASSING:
            answer.close()
            raise Passing(f"{answer.status_code} {answer.reason}", _retry_after(answer.headers))
        if answer.status_code not in (200, 206, 416):
            answer.close()
            raise DataError(refusal(url, answer.status_code, answer.reason))
        if answer.headers.get("Content-Type", "").startswith("text/html"):
            answer.close()
            raise DataError(
                f"{url}: a web page came instead of the file. A proxy or a log-in page may stand in between: "
                "open the address in a browser, or try another network"
            )
        return answer

    def _pause(self, url: str, failures: int, error: Passing) -> None:
        """Wait before the next try.

        Raises:
            Unreachable: that was the last one.
        """
        limit = self._patience.tries if self._answered else self._patience.first_tries
        if failures >= limit:
            raise Unreachable(url, str(error), failures) from error
        wait = min(self._patience.longest, self._patience.wait * 2 ** (failures - 1)) * self._jitter.uniform(0.5, 1.5)
        wait = max(wait, min(error.pause, LONGEST_PAUSE))
        self._note(f"{urlsplit(url).path.rpartition('/')[2]}: {error}; next try in {wait:.1f} s")
        time.sleep(wait)


def _described(url: str, headers: Mapping[str, str]) -> RemoteFile:
    if not headers.get("Content-Length", "").isdigit():
        raise DataError(f"{url}: the server does not say how long the file is, so that it could not be checked")
    etag = headers.get("ETag", "")
    plain = "aws:kms" not in headers.get("x-amz-server-side-encryption", "")
    amazon = headers.get("Server", "").startswith("AmazonS3") and plain
    md5 = etag.strip('"') if amazon and re.fullmatch(r'"[0-9a-f]{32}"', etag) else ""
    return RemoteFile(url, int(headers["Content-Length"]), etag, headers.get("Last-Modified", ""), md5)


def _check(file: RemoteFile, answer: requests.Response, start: int, stop: int) -> None:
    """Whether an answer is the part [start, stop) of the version that was described."""
    headers = answer.headers
    if headers.get("Content-Encoding", "identity") != "identity":
        raise DataError(f"{file.url}: the server sends it compressed although it was asked not to; use another mirror")
    if file.etag and headers.get("ETag", file.etag) != file.etag:
        raise Changed(file.url)
    if answer.status_code == 416:
        if headers.get("Content-Range", f"*/{file.size}").rpartition("/")[2] != str(file.size):
            raise Changed(file.url)
        raise DataError(f"{file.url}: the server said {file.size} bytes and has none after {start}; try again later")
    if answer.status_code == 206:
        part = _RANGE.fullmatch(headers.get("Content-Range", ""))
        if part and part[3] not in ("*", str(file.size)):
            raise Changed(file.url)
        if part is None or int(part[1]) != start:
            raise Passing("the server sent another part than was asked for")
    elif headers.get("Content-Length", str(file.size)) != str(file.size):
        raise Changed(file.url)
    elif (start, stop) != (0, file.size):
        raise NoRanges(file.url)


def _pieces(answer: requests.Response, length: int) -> Iterator[bytes]:
    """An answer's bytes as they come, `length` in all. Raises Passing when it ends before."""
    while length > 0:
        try:
            # read1 hands over what is there: nothing that came before a cut is lost.
            piece: bytes = answer.raw.read1(min(CHUNK, length), decode_content=False)
        except READ_ERRORS as error:
            raise Passing(reason(error)) from error
        if not piece:
            raise Passing("the connection was cut")
        length -= len(piece)
        yield piece


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that a busy server asks for; a date, its other form, counts as none."""
    value = headers.get("Retry-After", "")
    return float(value) if value.isdigit() else 0.0

"""A web server on 127.0.0.1 with files, ranges, a log of what it was asked, and the faults of real ones."""

from __future__ import annotations

import hashlib
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BASE = "/LIVECell_dataset_2021/"


@dataclass
class Fault:
    """What goes wrong with one answer to GET.

    Attributes:
        kind: cut (the connection ends after `after` bytes of the body), stall (nothing comes after them until the
            server ends), status (an error), html (a page with 200), flip (the byte after `after` is another, by
            `mask`), shift (a part that begins a byte later than was asked for), whole (200 in place of 206), empty
            (the connection ends before an answer), redirect (to the same file under moved/), change (the file is
            another one from now on), encoded (says that it is compressed).
        after: bytes of the body before it happens.
        status: for `status`.
        content: for `change`.
        headers: sent along with `status`.
    """

    kind: str
    after: int = 0
    status: int = 500
    content: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    mask: int = 0xFF


@dataclass
class Asked:
    """One request: method, path below the base, range [start, stop) or None, status and bytes of body sent."""

    method: str
    path: str
    range: tuple[int, int] | None
    status: int = 0
    sent: int = 0
    if_range: str = ""


class FlakyServer(ThreadingHTTPServer):
    """Files by path below `BASE`.

    Attributes:
        files: path → content.
        faults: path → faults of the next answers to GET, in order; afterwards all is well.
        always: path → fault of every answer to GET.
        sizes: path → what Content-Length of HEAD says in place of the truth.
        ranges: False ignores Range.
        if_range: False ignores If-Range.
        amazon: call itself AmazonS3, whose ETag is an MD5.
        etags: False sends neither ETag nor date.
        log: what was asked.
        connections: that were opened.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = dict(files)
        self.faults: dict[str, list[Fault]] = {}
        self.always: dict[str, Fault] = {}
        self.sizes: dict[str, int] = {}
        self.ranges = self.if_range = self.amazon = self.etags = True
        self.log: list[Asked] = []
        self.connections = 0
        self.ended = threading.Event()

    @property
    def url(self) -> str:
        """Of the base."""
        return f"http://127.0.0.1:{self.server_address[1]}{BASE}"

    def got(self, part: str = "") -> list[Asked]:
        """The GETs whose path contains `part`."""
        return [asked for asked in self.log if asked.method == "GET" and part in asked.path]

    def handle_error(self, request, client_address) -> None:
        """A client that went away is no news."""


class Handler(BaseHTTPRequestHandler):
    """Answers for `FlakyServer`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each answer waits 40 ms for its body
    server: FlakyServer

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def log_message(self, format: str, *args: object) -> None:
        """The log is `server.log`."""

    def version_string(self) -> str:
        return "AmazonS3" if self.server.amazon else "flaky"

    def do_HEAD(self) -> None:
        path, content = self._find()
        self._log(None, 200 if content is not None else 404)
        if content is None:
            self._head(404, 0)
        else:
            self._head(200, self.server.sizes.get(path, len(content)), self._version(content))

    def do_GET(self) -> None:
        path, content = self._find()
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        span = (int(wanted[1]), int(wanted[2]) + 1) if wanted else None
        asked = self._log(span, 404)
        if content is None:
            return self._head(404, 0)
        queue = self.server.faults.get(path, [])
        fault = queue.pop(0) if queue else self.server.always.get(path, Fault("none"))
        if fault.kind == "empty":
            return self._drop()
        if fault.kind == "status":
            asked.status = fault.status
            return self._head(fault.status, 0, fault.headers)
        if fault.kind == "redirect" and "moved/" not in self.path:
            asked.status = 302
            return self._head(302, 0, {"Location": f"{BASE}moved/{path}"})
        if fault.kind == "html":
            page = b"<html><body>Log in to use this network</body></html>"
            asked.status = 200
            self._head(200, len(page), {"Content-Type": "text/html; charset=utf-8"})
            self.wfile.write(page)
            return None
        if fault.kind == "change":
            content = self.server.files[path] = fault.content
        return self._send(content, span, fault, asked)

    def _send(self, content: bytes, span: tuple[int, int] | None, fault: Fault, asked: Asked) -> None:
        version = self._version(content)
        same = not self.server.if_range or self.headers.get("If-Range", version.get("ETag")) == version.get("ETag")
        if span and self.server.ranges and same and fault.kind != "whole":
            start, stop = span[0] + (fault.kind == "shift"), min(span[1], len(content))
            if start >= len(content):
                asked.status = 416
                return self._head(416, 0, {"Content-Range": f"bytes */{len(content)}"})
            status, body = 206, content[start:stop]
            version["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
        else:
            status, body = 200, content
        if fault.kind == "flip":
            body = body[: fault.after] + bytes([body[fault.after] ^ fault.mask]) + body[fault.after + 1 :]
        if fault.kind == "encoded":
            version["Content-Encoding"] = "gzip"
        asked.status = status
        self._head(status, len(body), version)
        part = body[: fault.after] if fault.kind in ("cut", "stall") else body
        self.wfile.write(part)
        self.wfile.flush()
        asked.sent = len(part)
        if fault.kind == "stall":
            self.server.ended.wait(60)
        if fault.kind in ("cut", "stall"):
            self._drop()
        return None

    def _find(self) -> tuple[str, bytes | None]:
        path = self.path.removeprefix(BASE).removeprefix("moved/")
        return path, self.server.files.get(path) if self.path.startswith(BASE) else None

    def _log(self, span: tuple[int, int] | None, status: int) -> Asked:
        path = self.path.removeprefix(BASE)
        asked = Asked(self.command, path, span, status, if_range=self.headers.get("If-Range", ""))
        self.server.log.append(asked)
        return asked

    def _version(self, content: bytes) -> dict[str, str]:
        return {"ETag": f'"{hashlib.md5(content).hexdigest()}"'} if self.server.etags else {}

    def _head(self, status: int, length: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()

    def _drop(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[FlakyServer]:
    """A running server, ended afterwards."""
    server = FlakyServer(files)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()

"""optuna-dashboard on a study's storage and pictures, for this machine alone."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from optuna.artifacts import FileSystemArtifactStore
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from policy_search.cells.errors import InputError
from policy_search.study.reports.data import read_config
from policy_search.study.storages import postgres
from policy_search.study.storages.schema import require_schema
from policy_search.study.storages.url import SQLITE, default_url, is_sqlite, postgres_url, redacted, sqlite_path

HOST = "127.0.0.1"
_NAMES = {HOST, "localhost"}
# `where` has no weight: what the page says about its own elements goes first.
_STYLE = b"<style>:where(#dashboard) div,:where(#dashboard) main{min-width:0}</style>"
_BUSY_SECONDS = 30  # that a click waits for a run that is writing the same SQLite file

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]


@dataclass(frozen=True)
class Opened:
    """What a dashboard shows.

    Attributes:
        storage: open, with its tables made.
        place: the storage as messages name it, without a password.
        study_id: of the study whose page is opened; None for the list of all studies.
        artifacts: folder of the pictures; None when it is not known.
    """

    storage: RDBStorage
    place: str
    study_id: int | None
    artifacts: Path | None

    def url(self, port: int) -> str:
        """The page to look at."""
        page = "" if self.study_id is None else f"/studies/{self.study_id}"
        return f"http://{HOST}:{port}/dashboard{page}"


def open_study(study: str | None, storage: str | None, artifacts: Path | None) -> Opened:
    """What a user named: a run folder, or a storage and perhaps the name of one of its studies.

    Args:
        study: a run folder; with `storage`, a study's name will do; None for all studies of a storage.
        storage: URL that replaces the run folder's.
        artifacts: folder that replaces the run folder's.

    Raises:
        InputError: neither is given, no such folder, a storage that cannot be opened, no study of that name in it.
    """
    if study is None and storage is None:
        raise InputError("nothing to show: name a run folder, or give --storage URL")
    if study is None or (storage is not None and not Path(study).is_dir()):
        opened, place = open_storage(str(storage))
        return Opened(opened, place, None if study is None else _study_id(opened, place, study), artifacts)
    folder = Path(study)
    config, _ = read_config(folder)
    opened, place = open_storage(storage or config.storage or default_url(folder))
    # The folder may have moved since the run wrote its configuration: its own artifacts move with it.
    pictures = artifacts or config.artifacts or folder / "artifacts"
    return Opened(opened, place, _study_id(opened, place, config.study_name), pictures)


def open_storage(url: str) -> tuple[RDBStorage, str]:
    """A storage that others may be writing, and its name without password. No table is made in it.

    Raises:
        InputError: not a URL, no such file, a server that cannot be reached, tables of another version of Optuna.
    """
    if not is_sqlite(url):
        parts = postgres_url(url)
        try:
            return _opened("postgresql+psycopg2://", postgres.connector(parts), redacted(url))
        except (SQLAlchemyError, StorageInternalError) as error:
            raise postgres.refusal(parts, url, error) from None
    path = sqlite_path(url)
    if not path.is_file():
        raise InputError(f"--storage {url}: there is no such file; is the run begun, and the folder the right one?")
    try:
        return _opened(f"{SQLITE}study.db", lambda: _connect(path), url)
    except (SQLAlchemyError, StorageInternalError) as error:
        reason = " ".join(str(getattr(error, "orig", None) or error.__cause__ or error).split())[:200]
        raise InputError(f"--storage {url}: cannot be read as a study database ({reason})") from None


def _opened(dialect: str, connect: Callable[[], Any], place: str) -> tuple[RDBStorage, str]:
    """Optuna's storage on these connections, once its tables are known to be there."""
    engine = create_engine(dialect, creator=connect, poolclass=NullPool)
    with engine.connect() as connection:
        if not require_schema(connection, place):
            raise InputError(f"--storage {place}: holds no study yet; is the run begun, and this its storage?")
    options = {"creator": connect, "pool_pre_ping": True}  # a server that was restarted meanwhile is found again
    return RDBStorage(dialect, engine_kwargs=options, skip_table_creation=True), place


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=_BUSY_SECONDS, check_same_thread=False)


def make_server_for(opened: Opened, port: int) -> WSGIServer:
    """A server that listens on the loopback address alone; `serve_forever` runs it.

    Raises:
        InputError: the port is in use, or not one that a user may listen on.
    """
    from optuna_dashboard import wsgi  # a second of loading that refusals need not wait for

    store = None if opened.artifacts is None else FileSystemArtifactStore(opened.artifacts)
    application = local_only(narrow(wsgi(opened.storage, artifact_store=store)))
    try:
        return make_server(HOST, port, application, server_class=_Server, handler_class=_Quiet)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise InputError(f"--port {port} is in use: end what uses it, or try --port {port + 1}") from None
        raise InputError(f"--port {port} cannot be listened on ({error.strerror}): try --port 8080") from None


def local_only(application: Application) -> Application:
    """Refuses requests for other host names.

    The dashboard can delete a study and asks nobody who they are. A web page open in the same browser could reach it
    under a name of its own that leads to 127.0.0.1; the browser sends that name along.
    """

    def checked(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if str(environ.get("HTTP_HOST", "")).rsplit(":", 1)[0] not in _NAMES:
            start_response("403 Forbidden", [("Content-Type", "text/plain; charset=utf-8")])
            return [f"This dashboard answers to http://{HOST} and http://localhost only.\n".encode()]
        return application(environ, start_response)

    return checked


def narrow(application: Application) -> Application:
    """Keeps a trial's page as wide as the window: one long attribute would stretch it, and the note with it."""

    def styled(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if not str(environ.get("PATH_INFO", "")).startswith("/dashboard"):
            return application(environ, start_response)
        begun: list[Any] = []
        parts = application(environ, lambda *arguments: begun.extend(arguments))
        try:
            page = b"".join(parts).replace(b"</head>", _STYLE + b"</head>", 1)
        finally:
            getattr(parts, "close", lambda: None)()
        status, headers = begun[:2]
        if page:
            headers = [(k, str(len(page)) if k.lower() == "content-length" else v) for k, v in headers]
        start_response(status, headers)
        return [page]

    return styled


def _study_id(storage: RDBStorage, place: str, name: str) -> int:
    found = {study.study_name: study._study_id for study in storage.get_all_studies()}
    if name not in found:
        there = ", ".join(repr(n) for n in list(found)[:5]) or "none"
        raise InputError(f"{place} holds no study named {name!r} (studies there: {there})")
    return int(found[name])


class _Server(ThreadingMixIn, WSGIServer):
    """One thread a request: a page asks for many things at once."""

    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    """Says nothing of each request."""

    def log_message(self, format: str, *args: Any) -> None: ...

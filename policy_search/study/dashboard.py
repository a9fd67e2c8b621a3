"""optuna-dashboard on a study's storage and pictures, for this machine alone."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from optuna.artifacts import FileSystemArtifactStore
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from policy_search.cells.errors import InputError
from policy_search.study import postgres
from policy_search.study.report_data import read_config
from policy_search.study.storage import default_url

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
    try:
        parts = make_url(url)
        place = parts.render_as_string(hide_password=True)
    except (ArgumentError, ValueError):
        raise InputError("--storage: expected a URL such as sqlite:///study.db or postgresql://…, found none") from None
    if parts.drivername == "postgresql":  # the driver is named: SQLAlchemy 2.1 reads the plain name as another one
        parts = parts.set(drivername="postgresql+psycopg2")
    options: dict[str, Any] = {}
    if parts.get_backend_name() == "sqlite":
        if not parts.database or not Path(parts.database).is_file():
            raise InputError(
                f"--storage {place}: there is no such file; is the run begun, and the folder the right one?"
            )
        options = {"connect_args": {"timeout": _BUSY_SECONDS}}
    try:
        storage = RDBStorage(
            parts.render_as_string(hide_password=False), engine_kwargs=options, skip_table_creation=True
        )
        storage.get_all_studies()
    except (NoSuchModuleError, ImportError) as error:
        raise InputError(
            f"--storage {place}: this kind of storage is not supported here ({error}); PostgreSQL needs the extra "
            "`postgres`"
        ) from None
    except (SQLAlchemyError, StorageInternalError, RuntimeError, AssertionError) as error:
        if parts.get_backend_name() == "postgresql" and isinstance(error, SQLAlchemyError | StorageInternalError):
            raise postgres.refusal(parts, url, error) from None
        reason = str(error.__cause__ or error)
        if parts.password:
            reason = reason.replace(str(parts.password), "***")
        raise InputError(
            f"--storage {place}: cannot be read as a study database of this Optuna version "
            f"({' '.join(reason.split())[:200]})"
        ) from None
    return storage, place


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

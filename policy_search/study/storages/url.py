"""Storage URLs: which are understood, and how they are shown without their password."""

from __future__ import annotations

import re
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from policy_search.cells.errors import InputError

SQLITE = "sqlite:///"
POSTGRES = "postgresql://"
_POSTGRES_SCHEMES = ("postgresql", "postgresql+psycopg2")
_EXPECTED = f"expected {SQLITE}PATH for one process or {POSTGRES}USER:PASSWORD@HOST/DATABASE for several"
_SECRET_OPTIONS = ("password", "sslpassword")


def default_url(folder: Path) -> str:
    """The run folder's own database."""
    return f"{SQLITE}{(folder / 'study.db').resolve()}"


def check_url(url: str) -> None:
    """Look at a storage URL; nothing is opened.

    Raises:
        InputError: a scheme, a file or a database name is missing, or the scheme is not one that is understood.
    """
    if is_sqlite(url):
        sqlite_path(url)
    else:
        postgres_url(url)


def is_sqlite(url: str) -> bool:
    """Whether the URL names an SQLite file; every other URL is read by `postgres_url`."""
    return url.partition("://")[0] == "sqlite"


def sqlite_path(url: str) -> Path:
    """The database file of an SQLite URL.

    Raises:
        InputError: no file name, a database in memory, or options after it.
    """
    name = url.removeprefix(SQLITE) if url.startswith(SQLITE) else ""
    path = Path(name)
    if not path.name or name == ":memory:" or name.startswith("file:"):
        raise InputError(f"--storage {url}: expected a file name after {SQLITE}, so that the run can be resumed")
    if re.search(r"\?\w+=[^/]*$", name):
        raise InputError(f"--storage {url}: options after the file name are not understood, expected {SQLITE}PATH")
    return path


def postgres_url(url: str) -> URL:
    """A PostgreSQL URL in its parts.

    Raises:
        InputError: no scheme, another scheme, no database, or text that is no URL. The password is never repeated.
    """
    shown = redacted(url)
    scheme, separator, _ = url.partition("://")
    if not separator:
        raise InputError(f"--storage {shown}: found no scheme, {_EXPECTED}")
    if scheme not in _POSTGRES_SCHEMES:
        raise InputError(f"--storage {shown}: storage {scheme!r} is not supported, {_EXPECTED}")
    try:
        parts = make_url(url)
    except (ArgumentError, ValueError):
        raise InputError(
            f"--storage {shown}: cannot be read as a URL, {_EXPECTED}; characters such as @ : / in a password are "
            "written %40 %3A %2F"
        ) from None
    if not parts.database:
        raise InputError(f"--storage {shown}: found no database name, {_EXPECTED}")
    # The driver is named: SQLAlchemy 2.1 reads plain `postgresql` as another one.
    return parts.set(drivername="postgresql+psycopg2")


def redacted(url: str) -> str:
    """The URL with *** in place of a password; also for text that is hardly a URL."""
    hidden = re.sub(r"(://[^:/@?]*:)[^/?]*@", r"\1***@", url)  # up to the last @: passwords may hold one
    if hidden == url:  # a / or ? in a password ends the host too early for the rule above
        hidden = re.sub(r"(://[^:/@?]*:)(?!\d+(?:/|$))(?!\*\*\*@).*@", r"\1***@", hidden)
    options = "|".join(_SECRET_OPTIONS)
    return re.sub(rf"([?&](?:{options})=)[^&]*", r"\1***", hidden)


def without_password(url: str) -> str:
    """The URL as it may be kept in a file. The server's own library finds the password in PGPASSWORD or ~/.pgpass."""
    if is_sqlite(url):
        return url
    parts = make_url(url).difference_update_query(_SECRET_OPTIONS)
    bare = URL.create(parts.drivername, parts.username, None, parts.host, parts.port, parts.database, parts.query)
    return bare.render_as_string()


def passwords(parts: URL) -> tuple[str, ...]:
    """Everything in a URL that messages must not hold."""
    found = [str(parts.password) if parts.password else "", *(str(parts.query.get(o, "")) for o in _SECRET_OPTIONS)]
    return tuple(text for text in found if text)

"""A PostgreSQL server: connections that fail in time, and why one cannot be had. The one file that needs psycopg2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from optuna.exceptions import StorageInternalError
from sqlalchemy import Connection, create_engine
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, PendingRollbackError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from policy_search.cells.errors import InputError
from policy_search.study.storages.url import passwords, redacted

CONNECT_SECONDS = 10
# A machine that vanished is noticed within a minute, here by us and there by the server, which then frees its locks.
_IDLE, _INTERVAL, _COUNT = 30, 10, 3
_SESSION = "; ".join(
    (
        "SET TIME ZONE 'UTC'",  # Optuna keeps heartbeats without a time zone, and machines compare them
        f"SET tcp_keepalives_idle = {_IDLE}",
        f"SET tcp_keepalives_interval = {_INTERVAL}",
        f"SET tcp_keepalives_count = {_COUNT}",
        # A server that answers before it has written loses finished trials when it is killed.
        "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'",
    )
)
_CREATION_LOCK = 0x706F6C696379  # any number that all processes agree on


def require_driver() -> Any:
    """The module psycopg2.

    Raises:
        InputError: it is not installed.
    """
    try:
        import psycopg2
    except ImportError:
        raise InputError(
            "--storage postgresql://… needs the driver psycopg2, which is not installed: "
            "install the extra, `pip install 'policy-search[postgres]'`"
        ) from None
    return psycopg2


def connector(parts: URL, *, read_only: bool = False) -> Callable[[], Any]:
    """A function that makes connections to the server of a URL.

    Raises:
        InputError: the driver is missing.
    """
    driver = require_driver()
    arguments, options = parts.get_dialect()().create_connect_args(parts)
    settings = {
        "connect_timeout": CONNECT_SECONDS,
        "application_name": "policy-search",
        "keepalives_idle": _IDLE,
        "keepalives_interval": _INTERVAL,
        "keepalives_count": _COUNT,
        "tcp_user_timeout": 1000 * (_IDLE + _INTERVAL * _COUNT),
        **options,
    }
    session = _SESSION + ("; SET default_transaction_read_only = on" if read_only else "")

    def connect() -> Any:
        connection = driver.connect(*arguments, **settings)
        try:
            with connection.cursor() as cursor:
                cursor.execute(session)
            connection.commit()
        except BaseException:
            connection.close()
            raise
        return connection

    return connect


def separate_connection(parts: URL) -> Connection:
    """A connection of its own for locks, in autocommit; closing it frees them. The caller closes it."""
    engine = create_engine(parts, creator=connector(parts), poolclass=NullPool, isolation_level="AUTOCOMMIT")
    return engine.connect()


def lock_creation(connection: Connection) -> None:
    """Wait until no other process makes or checks the tables; ends with the connection."""
    connection.exec_driver_sql("SET lock_timeout = '60s'")
    connection.exec_driver_sql(f"SELECT pg_advisory_lock({_CREATION_LOCK})")


def passing_reason(error: BaseException) -> str | None:
    """What an error says of the server, if it may pass by itself (gone, restarting, full); None otherwise."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    if isinstance(cause, PendingRollbackError):  # Optuna went on in a transaction whose connection was lost
        return "the connection was lost"
    if isinstance(cause, DBAPIError) and (
        cause.connection_invalidated or isinstance(cause, OperationalError | InterfaceError)
    ):
        return " ".join(str(cause.orig).split("\n\tIs the server")[0].split())[:200] or "the connection was lost"
    return None


def refusal(parts: URL, url: str, error: SQLAlchemyError | StorageInternalError) -> InputError:
    """The sentence for a server or database that cannot be used, never with a password in it."""
    if isinstance(error, StorageInternalError) and isinstance(error.__cause__, SQLAlchemyError):
        error = error.__cause__
    shown, text = redacted(url), _text(error)
    for secret in passwords(parts):
        if len(secret) > 3 and secret not in (parts.username, parts.host, parts.database):
            text = text.replace(secret, "***")
    where = f"{parts.host or 'this machine'}, port {parts.port or 5432}"
    state = getattr(getattr(error, "orig", None), "pgcode", None)
    low = text.lower()
    if "permission denied for database" in low:
        return InputError(f"--storage {shown}: the user {parts.username!r} may not use this database ({text})")
    if state == "42501" or "permission denied" in low:
        return InputError(
            f"--storage {shown}: the user {parts.username!r} may not make tables there ({text}). Let the database's "
            f'owner run `GRANT CREATE ON SCHEMA public TO "{parts.username}"`, or name a database of your own'
        )
    if "authentication failed" in low or "no password supplied" in low or 'role "' in low:
        return InputError(
            f"--storage {shown}: the server refuses this user or password ({text}). Check both; a password is taken "
            "from the URL, from the environment variable PGPASSWORD or from ~/.pgpass, and never kept in a run folder"
        )
    if "database" in low and "does not exist" in low:
        return InputError(
            f"--storage {shown}: the server has no database {parts.database!r}. Make it with "
            f"`createdb {parts.database}`, or name another"
        )
    if "could not translate host name" in low:
        return InputError(f"--storage {shown}: there is no machine named {parts.host!r} ({text}). Check the name")
    if not isinstance(error, OperationalError | InterfaceError):
        return InputError(f"--storage {shown}: cannot be used ({text}). Name another database")
    return InputError(f"--storage {shown}: no answer from {where} ({text}). Start the server, or check host and port")


def _text(error: Exception) -> str:
    original = getattr(error, "orig", None) or error
    return " ".join(str(original).split("\n\tIs the server")[0].split())[:200].rstrip(".")

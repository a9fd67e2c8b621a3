"""Which version of Optuna's tables a database holds, found without changing anything in it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.script import ScriptDirectory
from optuna.storages import _rdb
from optuna.storages._rdb import models
from optuna.version import __version__ as optuna_version
from sqlalchemy import Connection, inspect, text

from policy_search.cells.errors import InputError

_VERSION_TABLE = "alembic_version"
_OURS = {"studies", "trials", "version_info", _VERSION_TABLE}


def require_schema(connection: Connection, place: str) -> bool:
    """Whether Optuna's tables are in a database (True) or are still to be made (False).

    Raises:
        InputError: they are of an older or a newer Optuna, or other tables have their names.
    """
    tables = set(inspect(connection).get_table_names())
    if not tables & _OURS:
        return False
    found = _column(connection, "SELECT version_num FROM alembic_version") if _VERSION_TABLE in tables else []
    if len(found) == 1 and found[0] == _head() and tables >= _OURS:
        return True
    if not found and _unfinished(connection, tables):
        return False
    maker = _maker(connection) if "version_info" in tables else None
    if maker is None:
        raise InputError(
            f"--storage {place}: holds tables of another program ({', '.join(sorted(tables & _OURS))}), where a study "
            "database or an empty one was expected; name another, nothing was changed"
        )
    version = ", ".join(found) or "none"
    if not found or found[0] in _known():
        raise InputError(
            f"--storage {place}: made by Optuna {maker} with tables of version {version}, this is Optuna "
            f"{optuna_version} with version {_head()}; nothing was changed. Keep a copy and bring it up to date with "
            "`optuna storage upgrade --storage URL`, or name another storage"
        )
    raise InputError(
        f"--storage {place}: made by a newer Optuna ({maker}, tables of version {version}), this is Optuna "
        f"{optuna_version} with version {_head()}; nothing was changed. Update Optuna here, or name another storage"
    )


def _unfinished(connection: Connection, tables: set[str]) -> bool:
    """Whether somebody was killed between making the tables and writing down their version."""
    if not tables >= set(models.BaseModel.metadata.tables) or _maker_column_missing(connection):
        return False
    return all(v == models.SCHEMA_VERSION for v in _column(connection, "SELECT schema_version FROM version_info"))


def _maker(connection: Connection) -> str | None:
    if _maker_column_missing(connection):
        return None
    return next(iter(_column(connection, "SELECT library_version FROM version_info")), None)


def _maker_column_missing(connection: Connection) -> bool:
    return "library_version" not in {column["name"] for column in inspect(connection).get_columns("version_info")}


def _column(connection: Connection, query: str) -> list[Any]:
    return list(connection.execute(text(query)).scalars())


@cache
def _scripts() -> ScriptDirectory:
    config = Config()
    # A percent sign in the folder's name would be read as a variable.
    config.set_main_option("script_location", str(Path(_rdb.__file__).parent / "alembic").replace("%", "%%"))
    return ScriptDirectory.from_config(config)


@cache
def _head() -> str:
    return str(_scripts().get_current_head())


@cache
def _known() -> frozenset[str]:
    return frozenset(script.revision for script in _scripts().walk_revisions())

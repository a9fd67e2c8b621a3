"""PostgreSQL for tests: `postgres_server` is the server of the session, `postgres_url` a fresh database for one test,
`restless` a server for one test that may be stopped, killed and restarted. They skip when the machine has no server
program.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
from postgres_server import PASSWORD, NoServerError, Server

__all__ = ["PASSWORD", "Server"]


def _started() -> Server:
    """A server, or a skip."""
    pytest.importorskip("psycopg2")
    try:
        return Server()
    except NoServerError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """One server for the whole session; do not stop it."""
    server = _started()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def postgres_url(postgres_server: Server) -> str:
    """An empty database for one test."""
    return postgres_server.fresh()


@pytest.fixture
def restless() -> Iterator[Server]:
    """A server for one test, to be stopped and started at will."""
    server = _started()
    try:
        yield server
    finally:
        server.close()

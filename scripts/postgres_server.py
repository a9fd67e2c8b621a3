"""A real PostgreSQL server in a folder of its own, for tests and benches. Servers that already run are left alone."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

USER, PASSWORD = "tester", "s3cret-word"
# What makes a server quick and unsafe. It answers before it writes (`synchronous_commit=off`), as some servers are set
# up to: our own sessions must see to it that a finished trial outlasts a crash.
_CARELESS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "shared_buffers": "16MB",
             "autovacuum": "off"}  # fmt: skip
_numbers = itertools.count()


class NoServerError(Exception):
    """The machine has no server program that we could start; says what to do."""


class Server:
    """A PostgreSQL server on a free port of 127.0.0.1.

    Args:
        durable: write to the disk as a server does that is set up by its defaults; else wait for no disk.
        parent: where its folder is made; the system's place for temporary files when None.

    Raises:
        NoServerError: there is no server program, or nobody it could run as.
        RuntimeError: it does not start; says what it has logged.
    """

    def __init__(self, *, durable: bool = False, parent: Path | None = None) -> None:
        self._bin = _binaries()
        self._durable = durable
        self.port = _free_port()
        # Not in pytest's folder: the server's own user must be able to reach it.
        self.folder = Path(tempfile.mkdtemp(prefix="policy-search-pg-", dir=parent))
        self._user = _server_user()
        if self._user is not None:
            os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
        self.data = self.folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        word = self.folder / "word"
        word.write_text(PASSWORD)
        word.chmod(0o644)
        try:
            self._run(
                "initdb", "-D", str(self.data), "-U", USER, f"--pwfile={word}", "--auth=scram-sha-256",
                "--encoding=UTF8", "--locale=C", "--no-sync",
            )  # fmt: skip
            self.start()
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        """The database that every server has."""
        return self.url_of("postgres")

    def url_of(self, database: str, *, user: str = USER, password: str = PASSWORD) -> str:
        """The URL of a database on it."""
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def fresh(self) -> str:
        """The URL of a new, empty database."""
        name = f"test_{next(_numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url_of(name)

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run one statement as the server's owner and return its rows."""
        import psycopg2

        connection = psycopg2.connect(self.url_of(database))
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    @property
    def process(self) -> int:
        """The number of its first process, the parent of all others."""
        if self._process is None:
            raise RuntimeError("the server does not run")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        settings = {
            "port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "max_connections": "60",
            "password_encryption": "scram-sha-256", **({} if self._durable else _CARELESS),
        }  # fmt: skip
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        with (self.folder / "log").open("ab") as log:
            # The postmaster itself, no daemon: it is our child, and we know when it has ended.
            self._process = subprocess.Popen(
                [str(self._bin / "postgres"), "-D", str(self.data), *options],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.folder, **self._as_user(),
            )  # fmt: skip
        end = time.monotonic() + 60
        while self._ask("pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)) != 0:
            if not self.running or time.monotonic() > end:
                raise RuntimeError(f"PostgreSQL does not start: {(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self, *, immediate: bool = False) -> None:
        """Stop it: after cutting all connections off, or at once, as in a crash."""
        self._end(signal.SIGQUIT if immediate else signal.SIGINT)

    def restart(self, *, immediate: bool = True, away: float = 0.0) -> None:
        """Stop it, wait for `away` seconds, and start it."""
        self.stop(immediate=immediate)
        time.sleep(away)
        self.start()

    def kill(self) -> None:
        """End it with SIGKILL; its children notice by themselves."""
        self._end(signal.SIGKILL)

    def close(self) -> None:
        """End it and delete its folder."""
        self.stop(immediate=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(number)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _run(self, name: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._bin / name), *arguments], capture_output=True, text=True, cwd=self.folder, **self._as_user()
        )
        if done.returncode:
            raise RuntimeError(f"{name} failed: {done.stdout}{done.stderr}")

    def _ask(self, name: str, *arguments: str) -> int:
        return subprocess.run([str(self._bin / name), *arguments], cwd=self.folder).returncode

    def _as_user(self) -> dict[str, object]:
        if self._user is None:
            return {}
        return {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}


def _binaries() -> Path:
    """The folder of initdb and postgres."""
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: float(p.parent.name), reverse=True)
    for place in places:
        if all((place / name).is_file() for name in ("initdb", "postgres", "pg_isready")):
            return place
    raise NoServerError("no PostgreSQL server program: install Debian's package postgresql, or put initdb on PATH")


def _server_user() -> pwd.struct_passwd | None:
    """Whom the server runs as: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise NoServerError("PostgreSQL does not run as root, and there is no user postgres or nobody")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

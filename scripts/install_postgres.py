"""Bring PostgreSQL's server programs for the tests, where they are missing and can be had: root on Debian or Ubuntu.

Run: python scripts/install_postgres.py

Only the programs are wanted: the tests start servers of their own. The package's own server is neither made nor
started, and one that runs already is left alone. Where nothing can be installed a line says so, and those tests skip.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

# Debian's package makes and starts a server unless it reads otherwise here.
NO_SERVER = Path("/etc/postgresql-common/createcluster.d/policy-search-tests.conf")


def present() -> bool:
    """Whether the server programs are on the machine, where scripts/postgres_server.py looks for them."""
    return shutil.which("initdb") is not None or any(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


def install() -> None:
    """Install Debian's package.

    Raises:
        subprocess.CalledProcessError: apt-get fails.
    """
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    NO_SERVER.parent.mkdir(parents=True, exist_ok=True)
    NO_SERVER.write_text("create_main_cluster = false\n")
    try:
        for command in (["update"], ["install", "--yes", "--no-install-recommends", "postgresql"]):
            subprocess.run(["apt-get", "-qq", *command], check=True, env=environment)
    finally:
        NO_SERVER.unlink(missing_ok=True)


def main() -> None:
    """Install if need be; a failure is told and is none of `make test`."""
    if present():
        return
    advice = "tests on PostgreSQL will skip: install the package postgresql, or put its initdb on PATH"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        print(f"no PostgreSQL server program here; {advice}")
        return
    try:
        install()
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"PostgreSQL could not be installed ({error}); {advice}")


if __name__ == "__main__":
    main()

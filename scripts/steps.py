"""Run commands of this project one after another as a user would type them, timed; what is finished is not redone."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent


class Steps:
    """A journal of commands in a file: a script that is started again goes on where it stopped."""

    def __init__(self, journal: Path) -> None:
        self.journal = journal
        self._lock = threading.Lock()
        self.done: list[dict[str, Any]] = json.loads(journal.read_text()) if journal.is_file() else []

    def run(self, *command: str, always: bool = False) -> None:
        """Print and run a command; exit with its code when it fails. `always`: also when the journal has it."""
        if not always and any(step["command"] == list(command) for step in self.done):
            return
        print(f"\n$ {' '.join(command)}", flush=True)
        started = time.perf_counter()
        code = subprocess.run([str(BIN / command[0]), *command[1:]], cwd=ROOT).returncode
        if code:
            raise SystemExit(f"`{' '.join(command)}` failed with exit code {code}")
        seconds = time.perf_counter() - started
        print(f"({seconds:.0f} s)", flush=True)
        with self._lock:
            self.done = [step for step in self.done if step["command"] != list(command)]
            self.done.append({"command": list(command), "seconds": round(seconds, 1), "commit": commit()})
            self.journal.parent.mkdir(parents=True, exist_ok=True)
            self.journal.write_text(json.dumps(self.done, indent=1))

    def seconds(self) -> float:
        """Wall seconds of all commands in the journal, earlier starts of the script included."""
        return sum(step["seconds"] for step in self.done)


def commit() -> str:
    """The commit that is checked out, with a mark when files differ from it; empty outside of a repository."""
    words: Sequence[str] = ("git", "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*")
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True).stdout.strip()

"""Run commands of this project one after another as a user would type them, timed; what is finished is not redone."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
PACKAGES = ("albumentations", "faster-coco-eval", "kornia", "numpy", "optuna", "sal-detectron2", "torch", "torchvision")


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
        # Taken before: the tree may move on while a long command runs with the code it has loaded.
        at = commit()
        started = time.perf_counter()
        process = subprocess.Popen([str(BIN / command[0]), *command[1:]], cwd=ROOT)
        # wait4 alone tells what this one process and its children used.
        _, status, used = os.wait4(process.pid, 0)
        code = process.returncode = os.waitstatus_to_exitcode(status)
        if code:
            raise SystemExit(f"`{' '.join(command)}` failed with exit code {code}")
        seconds = time.perf_counter() - started
        cpu = used.ru_utime + used.ru_stime
        print(f"({seconds:.0f} s, {cpu:.0f} CPU s)", flush=True)
        with self._lock:
            self.done = [step for step in self.done if step["command"] != list(command)]
            step = {"command": list(command), "seconds": round(seconds, 1), "cpu": round(cpu, 1), "commit": at}
            self.done.append(step)
            self.journal.parent.mkdir(parents=True, exist_ok=True)
            self.journal.write_text(json.dumps(self.done, indent=1))

    def seconds(self) -> float:
        """Wall seconds of all commands in the journal, earlier starts of the script included."""
        return sum(step["seconds"] for step in self.done)


def environment(threads: int | None = None) -> dict[str, Any]:
    """Where figures come from: date, machine, threads a command, versions of what they depend on."""
    return {
        "date": datetime.date.today().isoformat(),
        "cores": os.cpu_count(),
        "threads": threads or os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def capture(*command: str) -> str:
    """Standard output of a command of this project, 80 columns wide."""
    done = subprocess.run(
        [str(BIN / command[0]), *command[1:]], cwd=ROOT, capture_output=True, text=True, check=True,
        env={**os.environ, "COLUMNS": "80"},
    )  # fmt: skip
    return done.stdout.rstrip()


def stored_results(database: Path) -> list[dict[str, Any]]:
    """Every row of a database of results."""
    with sqlite3.connect(database) as store:
        store.row_factory = sqlite3.Row
        return [dict(row) for row in store.execute("select * from results order by policy, cell_type")]


def write_result(name: str, text: str, facts: dict[str, Any]) -> None:
    """experiments/results/NAME.md and NAME.json."""
    base = ROOT / "experiments" / "results" / name
    base.parent.mkdir(parents=True, exist_ok=True)
    base.with_suffix(".md").write_text(text)
    base.with_suffix(".json").write_text(json.dumps(facts, indent=1, default=str) + "\n")
    print(f"wrote {base.relative_to(ROOT)}.md and .json")


def commit() -> str:
    """The commit that is checked out, with a mark when files differ from it; empty outside of a repository."""
    words: Sequence[str] = ("git", "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*")
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True).stdout.strip()

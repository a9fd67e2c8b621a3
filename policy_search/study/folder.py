"""The run folder: one owner at a time, one configuration, and everything in it written in one step.

config.json     the configuration, without a password, and the data's fingerprint
log.jsonl       one line per finished trial
trials/NNN/     policy.json of trial NNN
scores.jsonl    what this process has measured (see scorebook)
artifacts/      the dashboard's pictures (unless --artifacts says otherwise)
best.json       the winner
report.md       the leaderboard
study.db        the trials (unless --storage says otherwise)

The storage is the truth: log, policies and report are written anew from it.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from policy_search.augment import PolicyDocument, load_policy
from policy_search.cells.errors import InputError
from policy_search.cells.files import clear_scratch, require_writable_folder, write_json, write_text
from policy_search.config import CommandConfig


class RunFolder:
    """Paths and files of a run."""

    def __init__(self, path: Path) -> None:
        self._new = not Path(path).exists()
        self.path = require_writable_folder(path)

    @property
    def claimed(self) -> bool:
        """Whether a run has begun here."""
        return (self.path / "config.json").is_file()

    @property
    def has_trials(self) -> bool:
        """Whether a trial has been finished here."""
        return (self.path / "log.jsonl").is_file()

    @property
    def best(self) -> Path:
        """The winner's file."""
        return self.path / "best.json"

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Keep other processes out: two runs in one folder would overwrite each other's results.

        Raises:
            InputError: another run has it. The lock ends with its process, however that ends.
        """
        with (self.path / ".lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise InputError(
                    f"another run is working in {self.path}: wait for it, or choose another --out"
                ) from None
            for name in ("config.json", "log.jsonl", "best.json", "report.md"):
                clear_scratch(self.path / name)
            try:
                yield
            finally:
                if self._new and not self.claimed:  # refused before it began: nothing is left behind
                    (self.path / ".lock").unlink(missing_ok=True)
                    with suppress(OSError):
                        self.path.rmdir()

    def check(self, config: CommandConfig, fingerprint: str) -> None:
        """Whether the folder is this configuration's, or nobody's yet.

        Raises:
            InputError: it holds a run of another configuration or of other data; names the first difference.
        """
        file = self.path / "config.json"
        if file.is_file():
            self._compare(file, {**config.identity(), "fingerprint": fingerprint})

    def claim(self, config: CommandConfig, fingerprint: str) -> None:
        """Make the folder this configuration's. Raises: see `check`."""
        self.check(config, fingerprint)
        write_json(self.path / "config.json", {**config.model_dump(mode="json"), "fingerprint": fingerprint})

    def unclaim(self) -> None:
        """Take a claim back that no run has come of."""
        (self.path / "config.json").unlink(missing_ok=True)

    def _compare(self, file: Path, wanted: Mapping[str, Any]) -> None:
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{file} is damaged ({error}): choose another --out, or delete the folder") from error
        for key, value in wanted.items():
            if key not in found:
                raise InputError(
                    f"{self.path} holds a run of an earlier version of policy-search (it has no {key}), which this one "
                    "cannot continue. Choose another --out, or delete the folder to start over."
                )
            if found[key] != value:
                what = "the data has changed" if key == "fingerprint" else f"{key} was {found[key]!r}, now {value!r}"
                raise InputError(
                    f"{self.path} holds a run of another configuration ({what}). Choose another --out, delete the "
                    "folder to start over, or repeat the options of its config.json to continue it."
                )

    def save_policy(self, number: int, content: Mapping[str, Any]) -> None:
        """Keep a trial's policy, given as the content of its file."""
        write_json(self.path / "trials" / f"{number:03d}" / "policy.json", content)

    def has_policy(self, number: int) -> bool:
        """Whether a trial's policy is here."""
        return (self.path / "trials" / f"{number:03d}" / "policy.json").is_file()

    def policy(self, number: int) -> PolicyDocument:
        """A trial's policy, as saved."""
        return load_policy(self.path / "trials" / f"{number:03d}" / "policy.json")

    def write_log(self, lines: Iterable[str]) -> None:
        """Replace log.jsonl; it is written whole from the study, so a crash leaves no gap and no double line."""
        write_text(self.path / "log.jsonl", "".join(f"{line}\n" for line in lines))

    def write_report(self, text: str) -> None:
        """Replace report.md."""
        write_text(self.path / "report.md", text)

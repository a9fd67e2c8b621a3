"""Stands in for the command `detect`: answers from its command line, at once."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

from policy_search.augment import load_policy
from policy_search.cells import resolve


class FakeDetect:
    """Answers as `detect` does, with numbers made of policy, seed and domain, and keeps what it was asked."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.environments: list[dict[str, str]] = []
        self.fails, self.code = "", 1

    def __call__(self, command: list[str], *, env: dict[str, str], **options: Any) -> subprocess.CompletedProcess[str]:
        self.calls.append(command)
        self.environments.append(env)
        given = dict(zip(command[4::2], command[5::2], strict=True))
        out = Path(given["--out"])
        if self.fails:
            return subprocess.CompletedProcess(
                command, self.code, None, f"Traceback …\n  deep inside\n{self.fails}\n\n"
            )
        out.mkdir(parents=True, exist_ok=True)
        if command[3] == "pretrain":
            (out / "model.pth").write_bytes(b"base")
            return subprocess.CompletedProcess(command, 0, None, "")
        assert Path(given["--weights"]).read_bytes() == b"base"
        key = load_policy(given["--policy"]).content_hash + given["--seed"]
        rows = []
        for cell_type in resolve(given["--eval"], "test").cell_types:
            number = int(hashlib.sha256(f"{key}{cell_type}".encode()).hexdigest()[:6], 16)
            rows.append({"cell_type": cell_type, "ap50": number / 16**6})
        (out / "results.json").write_text(json.dumps(rows))
        return subprocess.CompletedProcess(command, 0, None, "")

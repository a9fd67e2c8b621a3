"""A folder with an experiment where `detect matrix` is called, in this process or another; trainings are faked."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from detection import cli
from detection.matrices.record import load_matrix
from detection.store import Store
from tests.detection.fake_matrix import faked

REPOSITORY = Path(__file__).parents[2]
EXPERIMENT = """
title = "T"
reference = "none"
seeds = [0, 1]
[searches.s]
steps = 12
[[rows]]
label = "none"
policy = "none"
paper = "none"
[[rows]]
label = "flipped"
policy = "flip"
[[rows]]
label = "ours"
policy = "search:s"
[scales.demo]
sources = ["demo/A172"]
pretrain = { iterations = 1 }
"""
# Without the search: its options are looked up in a process of their own, which takes a second.
TWO = EXPERIMENT.replace('[[rows]]\nlabel = "ours"\npolicy = "search:s"\n', "").replace(
    "[searches.s]\nsteps = 12\n", ""
)
ONE_SEED = TWO.replace("[0, 1]", "[0]")


class Place:
    """A folder with an experiment, and the command in it."""

    def __init__(self, folder: Path, text: str = TWO) -> None:
        self.folder = folder
        self.fake = folder / "fake"
        self.fake.mkdir(parents=True)
        self.environment = {
            **os.environ, "FAKE": str(self.fake), "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"
        }  # fmt: skip
        (folder / "e.toml").write_text(text)

    def begin(self, *words: str, module: str = "tests.detection.fake_matrix", **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", module, "matrix", "e.toml", *words], cwd=self.folder, env=self.environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
        )  # fmt: skip

    def run(self, *words: str, code: int = 0) -> str:
        """In this process, what `begin` does in another; gives back what it printed."""
        out, err = StringIO(), StringIO()
        with (
            chdir(self.folder), patch.dict(os.environ, self.environment), faked(), redirect_stdout(out),
            redirect_stderr(err), patch.object(sys, "argv", ["detect", "matrix", "e.toml", *words]),
            pytest.raises(SystemExit) as stop,
        ):  # fmt: skip
            cli.main()
        shown = out.getvalue() + err.getvalue()
        assert int(stop.value.code or 0) == code, shown
        return shown

    def behave(self, name: str, content: object) -> None:
        (self.fake / name).write_text(str(content))

    @property
    def calls(self) -> Counter[str]:
        file = self.fake / "calls"
        return Counter(file.read_text().splitlines() if file.exists() else [])

    def results(self) -> list[tuple[str, int]]:
        """Policy and seed of each row of the main store."""
        return sorted((row.policy, row.seed) for row in Store(self.folder / "runs/results.sqlite", create=False).all())

    @property
    def record(self):
        return load_matrix(self.folder / "runs/matrix/demo/e.json")


def until(true, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)

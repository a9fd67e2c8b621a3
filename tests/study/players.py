"""Real processes of one study for the tests of workers: owners and workers with a cheap objective, each with a trace.

They are forked from a server that has imported everything, so each begins at once; they can be killed and stopped.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from policy_search.augment import PolicyDocument
from policy_search.config import RunConfig
from policy_search.study import runner, worker
from policy_search.study.objective import Report, Score
from tests.conftest import write_livecell
from tests.study.rules import Rule, fake_learning

KILLED = 9  # exit code of a process that a deadly policy has ended
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([__name__])


class Traced(Rule):
    """The rule, slowly; every scoring is written down when it begins and when it ends.

    Args:
        trace: file of the lines.
        seconds: that a scoring of the first round takes; one of the second takes a third.
        deadly: a policy of this name ends the process.
    """

    def __init__(self, trace: Path, seconds: float, deadly: str = "") -> None:
        super().__init__()
        self._trace, self._seconds, self._deadly = trace, seconds, deadly

    def score(self, document: PolicyDocument, *, seed: int, report: Report | None = None) -> Score:
        self._say(f"begin {document.name} {seed}")
        if document.name == self._deadly:
            os._exit(KILLED)
        time.sleep(self._seconds if report is not None else self._seconds / 3)
        try:
            return super().score(document, seed=seed, report=report)
        finally:
            self._say(f"end {document.name} {seed}")

    def _say(self, line: str) -> None:
        with self._trace.open("a") as file:
            file.write(line + "\n")


def play(
    begin: Callable[[Rule, Callable[..., Any]], object], trace: Path, errors: Path, seconds: float, deadly: str
) -> None:
    """What a process does; see `Players`."""
    sys.stdout = sys.stderr = errors.open("w", buffering=1)
    runner.work = functools.partial(worker.work, poll=0.1)  # type: ignore[assignment]
    begin(Traced(trace, seconds, deadly), fake_learning)


def _own(config: RunConfig, adopt: bool, objective: Rule, learn: Callable[..., Any]) -> None:
    runner.run_study(config, objective=objective, learn=learn, progress=print, adopt=adopt)


def _join(url: str, name: str, out: Path, root: Path, objective: Rule, learn: Callable[..., Any]) -> None:
    done = runner.join_study(url, name, out=out, root=root, objective=objective, learn=learn, progress=print)
    print("did", *done)


class Player:
    """One process. Its trace says what it has begun and ended."""

    def __init__(self, begin: Callable[..., object], trace: Path, seconds: float, deadly: str) -> None:
        self.trace, self._errors = trace, trace.with_suffix(".err")
        self._process = _context.Process(target=play, args=(begin, trace, self._errors, seconds, deadly))
        self._process.start()

    @property
    def lines(self) -> list[str]:
        """Of the trace."""
        return self.trace.read_text().splitlines() if self.trace.is_file() else []

    @property
    def said(self) -> str:
        """What it has printed, and the error that ended it."""
        return self._errors.read_text() if self._errors.is_file() else ""

    @property
    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.exitcode

    @property
    def scoring(self) -> bool:
        """Whether it is in the middle of a scoring."""
        return bool(self.lines) and self.lines[-1].startswith("begin")

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def freeze(self, begun: int) -> None:
        """Stop it (SIGSTOP) in the middle of a scoring, once it has begun so many."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            assert self.code is None, self.said
            if self.scoring and sum(line.startswith("begin") for line in self.lines) >= begun:
                self.signal(signal.SIGSTOP)
                time.sleep(0.02)  # a process on another processor stops a little later
                if self.scoring:
                    return
                self.signal(signal.SIGCONT)
            time.sleep(0.01)
        raise AssertionError(f"never seen in the middle of scoring {begun}: {self.lines}")

    def kill(self, begun: int) -> None:
        """Kill it (SIGKILL) in the middle of a scoring, once it has begun so many."""
        self.freeze(begun)
        self.signal(signal.SIGKILL)
        self.join()
        assert self.scoring

    def join(self, seconds: float = 60) -> int:
        """Wait for its end; its exit code."""
        self._process.join(seconds)
        assert self.code is not None, f"still running after {seconds} s: {self.lines[-3:]} {self.said[-2000:]}"
        return self.code

    def succeed(self) -> None:
        """Wait for its good end."""
        assert self.join() == 0, self.said

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.join()


class Players:
    """The processes of a test.

    Attributes:
        folder: of run folders and traces.
        root: of the data.
    """

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder, self.root, self.all = folder, root, list[Player]()

    def config(self, url: str | None, out: str = "owner", **options: Any) -> RunConfig:
        """Of a small study."""
        values = {
            "data": "A172", "root": self.root, "out": self.folder / out, "trials": 14, "final_seeds": 2, "finalists": 2,
            "study": "x", "storage": url, "heartbeat": 1,
        }  # fmt: skip
        return RunConfig(**{**values, **options})

    def own(
        self, url: str | None, out: str = "owner", *, seconds: float = 0.3, deadly: str = "", adopt: bool = False,
        **options: Any,
    ) -> Player:  # fmt: skip
        """Start a process that runs the study in the folder `out`."""
        return self._start(functools.partial(_own, self.config(url, out, **options), adopt), seconds, deadly)

    def join(self, url: str, *, seconds: float = 0.3, deadly: str = "") -> Player:
        """Start a worker."""
        out = self.folder / f"worker{len(self.all)}"
        return self._start(functools.partial(_join, url, "x", out, self.root), seconds, deadly)

    def _start(self, begin: Callable[..., object], seconds: float, deadly: str) -> Player:
        player = Player(begin, self.folder / f"player{len(self.all)}.trace", seconds, deadly)
        self.all.append(player)
        return player

    def close(self) -> None:
        """End all that still run."""
        for player in self.all:
            player.close()


@pytest.fixture(scope="session")
def shared_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data of all studies."""
    return write_livecell(tmp_path_factory.mktemp("data"), {"A172": {"train": 2, "val": 1, "test": 1}}, cells=4)


@pytest.fixture
def players(tmp_path: Path, shared_root: Path) -> Iterator[Players]:
    """See `Players`."""
    started = Players(tmp_path, shared_root)
    yield started
    started.close()

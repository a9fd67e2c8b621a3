"""Where the time of a study goes: what scoring and learning policies takes is taken off, the machinery is left.

A clock runs while an objective scores or an inner search learns, and stands still while an objective reports, as what
it reports is written to the storage and judged there. Whatever this process spends besides is the machinery's.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from policy_search.augment import PolicyDocument
from policy_search.study.data import StudyData
from policy_search.study.making import Learn, Learnt
from policy_search.study.objective import Objective, Report, Score
from policy_search.study.runner import Progress
from policy_search.study.space import Knobs, TargetKnobs
from policy_search.study.verdict import Direction


@dataclass(frozen=True)
class Seconds:
    """An amount of time, or a moment: CPU seconds of this process with all its threads, and seconds on the wall."""

    cpu: float = 0.0
    wall: float = 0.0

    @staticmethod
    def now() -> Seconds:
        return Seconds(time.process_time(), time.perf_counter())

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(self.cpu + other.cpu, self.wall + other.wall)

    def __sub__(self, other: Seconds) -> Seconds:
        return Seconds(self.cpu - other.cpu, self.wall - other.wall)

    def __truediv__(self, number: float) -> Seconds:
        return Seconds(self.cpu / number, self.wall / number)


class Clock:
    """Adds up the time inside `running`, without that inside `paused` in it. For one thread."""

    def __init__(self) -> None:
        self.total = Seconds()
        self._since: Seconds | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        self._since = Seconds.now()
        try:
            yield
        finally:
            self._stop()

    @contextmanager
    def paused(self) -> Iterator[None]:
        self._stop()
        try:
            yield
        finally:
            self._since = Seconds.now()

    def _stop(self) -> None:
        if self._since is not None:
            self.total += Seconds.now() - self._since
            self._since = None


class Timed:
    """An objective whose scorings run on a clock; see `Objective`."""

    def __init__(self, objective: Objective, clock: Clock) -> None:
        self._objective, self._clock = objective, clock
        self.name: str = objective.name
        self.metrics: tuple[str, ...] = objective.metrics
        self.directions: tuple[Direction, ...] = objective.directions
        self.prunable: bool = objective.prunable

    def score(self, document: PolicyDocument, *, seed: int, report: Report | None = None) -> Score:
        def reported(share: float, value: float) -> None:
            assert report is not None
            with self._clock.paused():
                report(share, value)

        with self._clock.running():
            return self._objective.score(document, seed=seed, report=reported if report is not None else None)


def timed_learning(learn: Learn, clock: Clock) -> Learn:
    """An inner search that runs on a clock."""

    def timed(data: StudyData, knobs: Knobs | TargetKnobs, steps: int, seed: int) -> Learnt:
        with clock.running():
            return learn(data, knobs, steps, seed)

    return timed


class EnoughError(Exception):
    """The study has as many trials as were to be measured."""


@dataclass
class Journal:
    """What every finished trial took, told by `told`, the listener of a study.

    Attributes:
        clock: of the study's objective and learning.
        most: trials after which the study is ended.
        machinery, work: a row for each trial: time since the one before (or since the start) off and on the clock.
        server: CPU seconds of a database server so far, if there is one.
        served: its CPU seconds at the end of each trial.
        complete: trials that have a score.
        problem: why something is not on the dashboard.
    """

    clock: Clock
    most: int
    server: Callable[[], float] = lambda: 0.0
    machinery: list[Seconds] = field(default_factory=list)
    work: list[Seconds] = field(default_factory=list)
    served: list[float] = field(default_factory=list)
    complete: int = 0
    problem: str = ""

    def __post_init__(self) -> None:
        self._last, self._worked = Seconds.now(), self.clock.total

    def told(self, event: Progress) -> None:
        """
        Raises:
            EnoughError: after `most` trials.
            RuntimeError: a trial is not all on the dashboard; what is not done costs nothing.
        """
        if event.kind == "note" and event.message.startswith("the dashboard"):
            self.problem = event.message  # told within the trial, which what is raised here would only make fail
        if event.kind != "trial" or not event.message:
            return
        if self.problem:
            raise RuntimeError(self.problem)
        now, worked = Seconds.now(), self.clock.total
        self.work.append(worked - self._worked)
        self.machinery.append(now - self._last - self.work[-1])
        self.served.append(self.server())
        self.complete = event.done
        self._last, self._worked = Seconds.now(), worked
        if len(self.machinery) >= self.most:
            raise EnoughError


def server_seconds(postmaster: int) -> float:
    """CPU seconds of a PostgreSQL server with all its processes, ended ones included, from Linux' /proc."""
    ticks = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # Behind the name, which may hold blanks: state, parent, …; times are the 12th to 15th of these.
            words = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        if int(folder.name) == postmaster:
            ticks += sum(int(word) for word in words[11:15])
        elif int(words[1]) == postmaster:
            ticks += sum(int(word) for word in words[11:13])
    return ticks / os.sysconf("SC_CLK_TCK")

"""Tasks as processes of this machine, a few at a time."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from detection.tasks import Finished, Task

LOG = "log.txt"
LOCK = ".running"  # held by the process of a task, also after its engine was killed
TAIL = 8  # lines of the log in a message
_PAUSE = 0.05  # seconds between two looks at the processes
_PATIENCE = 120.0  # seconds that interrupted tasks get to save their state

Started = Callable[[Task], None]
Ended = Callable[[Task, Finished], None]


def words_here(task: Task) -> list[str]:
    """The command with this machine's folder and files in it."""
    words = [word.replace("{out}", str(task.out)) for word in task.words]
    for number, path in enumerate(task.inputs):
        words = [word.replace(f"{{{number}}}", str(path)) for word in words]
    return words


def tail(log: Path) -> str:
    """The last lines that a task printed."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(line for line in lines[-TAIL:] if line.strip())


@dataclass
class _Run:
    """A task that runs, or that waits for its next attempt."""

    task: Task
    attempts: int = 0
    process: subprocess.Popen[bytes] | None = None
    began: float = 0.0
    gpus: dict[str, float] = field(default_factory=dict)  # share taken of each


class LocalEngine:
    """Runs tasks as processes, `jobs` at a time; what they print goes to `log.txt` in their folder.

    A process whose engine is killed gets SIGINT where the system can do that (Linux), so that it saves its state and
    ends. Until it has ended it holds a lock in its folder, and the next engine waits for it.

    Args:
        jobs: processes at a time.
        retries: how often a task whose process was killed by a signal is started again.
        gpus: names for CUDA_VISIBLE_DEVICES; a task sees only those that it has a share of.
        cores: that are divided among the processes, as OMP_NUM_THREADS, unless that is set. None: all of this machine.
        programs: first word of a task → the words that start it here.
        environment: of the processes; None is this process's.
    """

    def __init__(
        self,
        jobs: int = 1,
        retries: int = 2,
        gpus: Sequence[str] = (),
        *,
        cores: int | None = None,
        programs: Mapping[str, Sequence[str]] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.jobs, self.retries = max(1, jobs), retries
        self._free = dict.fromkeys(gpus, 1.0)
        self._programs = dict(programs or {})
        self._environment = dict(os.environ if environment is None else environment)
        self._environment.setdefault("OMP_NUM_THREADS", str(max(1, (cores or _cores()) // self.jobs)))

    @property
    def threads(self) -> int:
        """Of each process."""
        first = self._environment["OMP_NUM_THREADS"].split(",")[0]
        return int(first) if first.isdigit() else 0

    def run(self, tasks: Sequence[Task], *, started: Started, finished: Ended) -> None:
        """See `detection.tasks.Engine`."""
        waiting, running = [_Run(task) for task in tasks], list[_Run]()
        try:
            while waiting or running:
                for run in [run for run in running if run.process is not None and run.process.poll() is not None]:
                    running.remove(run)
                    if not self._again(run):
                        finished(run.task, self._ended(run))
                    else:
                        run.process = None
                        waiting.insert(0, run)
                for run in list(waiting):
                    if len(running) >= self.jobs:
                        break
                    refused = self._begin(run)
                    if refused is not None:
                        waiting.remove(run)
                        finished(run.task, refused)
                    elif run.process is not None:
                        waiting.remove(run)
                        running.append(run)
                        if run.attempts == 1:
                            started(run.task)
                time.sleep(_PAUSE)
        except BaseException:
            _interrupt([run.process for run in running if run.process is not None])
            raise

    def _begin(self, run: _Run) -> Finished | None:
        """Start its process, if there is room and no former one in its folder; what is wrong if it can never start."""
        task = run.task
        share = self._share(task.gpus)
        if share is None:
            if task.gpus > len(self._free):
                return self._failed(run, f"{task.name} needs {task.gpus:g} GPUs, and there are {len(self._free)}")
            return None
        words = words_here(task)
        words[:1] = self._programs.get(words[0], words[:1])
        environment = dict(self._environment)
        if share:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(share)
        try:
            task.out.mkdir(parents=True, exist_ok=True)
            with (task.out / LOCK).open("a") as lock, (task.out / LOG).open("ab") as log:
                if not _taken(lock):
                    return None
                log.write(f"$ {' '.join(words)}\n".encode())
                log.flush()
                run.process = subprocess.Popen(
                    words, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment,
                    start_new_session=True, pass_fds=(lock.fileno(),), preexec_fn=_die_with_parent,
                )  # fmt: skip
        except OSError as error:
            return self._failed(run, f"{task.name} could not be started: {error.strerror or error} ({task.out})")
        run.attempts += 1
        run.began = time.perf_counter()
        run.gpus = share
        for name, part in share.items():
            self._free[name] -= part
        return None

    def _share(self, gpus: float) -> dict[str, float] | None:
        """Which GPUs to take, each with the part that is taken of it; None while there is no room."""
        if gpus == 0:
            return {}
        part = min(gpus, 1.0)
        free = [name for name, left in self._free.items() if left >= part - 1e-9]
        count = max(1, round(gpus))
        return dict.fromkeys(free[:count], part) if len(free) >= count else None

    def _again(self, run: _Run) -> bool:
        """Free its GPUs, and say whether it was killed and may be tried again."""
        for name, part in run.gpus.items():
            self._free[name] += part
        return run.process is not None and run.process.returncode < 0 and run.attempts <= self.retries

    def _ended(self, run: _Run) -> Finished:
        task, code = run.task, run.process.returncode if run.process is not None else 1
        if code < 0:
            name = signal.Signals(-code).name
            return self._failed(run, f"{task.name} was killed ({name}) {run.attempts} times{_quoted(task)}")
        if code > 0:
            return self._failed(run, f"{task.name} ended with exit code {code}{_quoted(task)}")
        missing = [name for name in task.outputs if not (task.out / name).is_file()]
        if missing:
            return self._failed(run, f"{task.name} ended without writing {missing[0]}{_quoted(task)}")
        return Finished(True, "", time.perf_counter() - run.began, run.attempts, socket.gethostname())

    def _failed(self, run: _Run, message: str) -> Finished:
        seconds = time.perf_counter() - run.began if run.began else 0.0
        return Finished(False, message, seconds, run.attempts, socket.gethostname())


def still_running(folder: Path) -> bool:
    """Whether a process of an engine that was killed still works in the folder of a task."""
    try:
        with (folder / LOCK).open("r") as lock:
            return not _taken(lock)
    except OSError:
        return False


def _cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quoted(task: Task) -> str:
    return f"; the end of {task.out / LOG}:\n{tail(task.out / LOG)}"


def _taken(lock: IO[str]) -> bool:
    """Take a lock that the process to come inherits; False while a process of a killed engine still has it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _interrupt(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """SIGINT once to each; those that have not saved their state and ended in time are killed, at once on a second
    Ctrl-C."""
    try:
        for process in processes:
            _signal(process, signal.SIGINT)
        end = time.monotonic() + _PATIENCE
        for process in processes:
            process.wait(max(0.0, end - time.monotonic()))
    except (KeyboardInterrupt, subprocess.TimeoutExpired):
        pass
    finally:
        for process in processes:
            if process.poll() is None:
                _signal(process, signal.SIGKILL)
                process.wait()


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    """To the process alone where it can save, to all of its session where it is to be gone."""
    try:
        if number == signal.SIGKILL:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
    except ProcessLookupError:
        pass


# Looked up before any fork: between fork and exec nothing may be loaded.
_PRCTL = getattr(ctypes.CDLL(None), "prctl", None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    if _PRCTL is not None:
        _PRCTL(_PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)

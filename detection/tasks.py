"""What an engine runs: one command with the files it reads, the folder it writes and the files wanted from there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol


class Task(NamedTuple):
    """One command, run in a process of its own wherever the engine has room.

    Attributes:
        name: for people, unique within a matrix: `finetune A172, flip, seed 1`.
        words: the command. `{out}` stands for the folder it writes, `{0}`, `{1}` … for its input files; where the
            engine runs it elsewhere, these are copies.
        inputs: files it reads that this matrix made or that the user named (policies, base models), not data sets:
            every machine has those.
        out: folder it writes on this machine. A task that is run again in the folder of a killed one goes on there.
        outputs: files under `out`, with `/`, that must be there when it is done; another engine brings these back.
        gpus: share of a GPU that it needs; 0 for the CPU.
    """

    name: str
    words: tuple[str, ...]
    inputs: tuple[Path, ...]
    out: Path
    outputs: tuple[str, ...]
    gpus: float = 0.0


class Finished(NamedTuple):
    """How a task ended.

    Attributes:
        ok: exit code 0 and every output there.
        message: what went wrong in one sentence with the last lines of its output; nothing when `ok`.
        seconds: wall time of the successful attempt, as measured where it ran.
        attempts: how often it was started.
        place: host name of the machine that ran it.
    """

    ok: bool
    message: str
    seconds: float
    attempts: int
    place: str


class Engine(Protocol):
    """Runs tasks that do not depend on each other."""

    def run(
        self, tasks: Sequence[Task], *, started: Callable[[Task], None], finished: Callable[[Task, Finished], None]
    ) -> None:
        """Run them all; call `started` and `finished` from the caller's thread, `finished` once for each task.

        A task that fails does not stop the others. A task whose process or machine was killed is tried again; one that
        ends by itself with an exit code is not. On Ctrl-C running tasks are interrupted, so that they save their state,
        and KeyboardInterrupt is raised again.
        """

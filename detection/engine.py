"""Tasks on a Ray cluster. The only file that knows Ray."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from detection.attempt import Begun, Order, Report, order_of, perform
from detection.cluster import ANSWER, connected
from detection.local_engine import LOG, TAIL
from detection.supervise import PATIENCE
from detection.tasks import Finished, Task
from policy_search.cells.errors import InputError
from policy_search.cells.files import replacing

ROOM_PATIENCE = 120.0  # seconds without any machine that is large enough, after which a task is given up
_LOOK = 0.5  # seconds between two looks at the cluster while nothing happens

Started = Callable[[Task], None]
Ended = Callable[[Task, Finished], None]


class RayEngine:
    """Runs each task as a Ray task that starts the command in a process of its own.

    A machine of the cluster needs this package at the same version, the data set in the folder that LIVECELL_ROOT names
    there, and room in its temporary folder (TMPDIR). Input files travel through Ray, each once for all tasks; outputs
    and the log come back and are placed in the task's folder, where the first output of the list appears last. What a
    killed task has saved stays on its machine, and the next attempt there goes on with it. What another engine left
    in the task's folder is not taken along.

    Args:
        address: of a cluster, `HOST:PORT`, or `auto` for the one that this machine belongs to. None starts one on this
            machine and ends it afterwards.
        retries: how often a task is started again whose command was killed by a signal, or whose machine was lost.
        cpus: that each task takes, and the number of its threads; None is one, as a matrix has many tasks.
        programs: first word of a task → the words that start it. A machine that lacks a program in that place looks for
            its name beside its own Python, then on PATH.

    Raises:
        InputError: Ray is not installed.
    """

    def __init__(
        self, address: str | None = None, retries: int = 2, cpus: float | None = None, *,
        programs: Mapping[str, Sequence[str]] | None = None,
    ) -> None:  # fmt: skip
        self.address, self.retries, self.cpus = address, retries, 1.0 if cpus is None else cpus
        self.programs = dict(programs or {})
        self._ray = _import_ray()
        self._places: dict[Task, str] = {}

    @property
    def threads(self) -> int:
        """Of each task."""
        return max(1, int(self.cpus))

    def place(self, task: Task) -> str:
        """Host name of the machine that runs it, or ran it last; nothing before it was started."""
        return self._places.get(task, "")

    def run(self, tasks: Sequence[Task], *, started: Started, finished: Ended) -> None:
        """See `detection.tasks.Engine`.

        Raises:
            InputError: no cluster answers, or none of its machines is large enough for a task.
        """
        if not tasks:
            return
        with connected(self._ray, self.address):
            session = _Session(self._ray, self, self._places, started, finished)
            try:
                session.run(tasks)
            except BaseException:
                session.interrupt()
                raise


@dataclass(eq=False)
class _Run:
    """A task that is not finished."""

    task: Task
    order: Order
    inputs: list[Any]  # Ray's references
    attempts: int = 0
    begun: bool = False  # this attempt
    said: bool = False  # that it was started
    place: str = ""
    node: str = ""
    since: float = field(default_factory=time.monotonic)  # when there last was a machine for it


class _Session:
    """One call of `RayEngine.run`."""

    def __init__(self, ray: Any, engine: RayEngine, places: dict[Task, str], started: Started, finished: Ended) -> None:
        self._ray, self._engine, self._places = ray, engine, places
        self._started, self._finished = started, finished
        self._attempt = ray.remote(_attempt)
        self._open: dict[Any, _Run] = {}  # by Ray's stream of what an attempt tells

    def run(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            if not self._fits(task):
                raise InputError(self._too_large(task))
        sent = _Sent(self._ray)
        for task in tasks:
            try:
                inputs = [sent(path) for path in task.inputs]
            except OSError as error:
                message = f"{task.name} could not be started: {error.filename}: {error.strerror or error}"
                self._finished(task, Finished(False, message, 0.0, 0, socket.gethostname()))
                continue
            words = (*self._engine.programs.get(task.words[0], task.words[:1]), *task.words[1:])
            order = order_of(task._replace(words=words), tuple(digest for digest, _ in inputs), self._engine.threads)
            self._submit(_Run(task, order, [reference for _, reference in inputs]))
        while self._open:
            ready, _ = self._ray.wait(list(self._open), timeout=_LOOK, fetch_local=False)
            for stream in ready:
                self._hear(stream)
            if not ready and not any(run.begun for run in self._open.values()):
                self._give_up_without_room()

    def interrupt(self) -> None:
        """Interrupt what runs, drop what waits, and keep what ends meanwhile; a second Ctrl-C waits no longer."""
        with suppress(KeyboardInterrupt, self._ray.exceptions.RayError):
            for stream in self._open:
                self._ray.cancel(stream)
            end = time.monotonic() + PATIENCE + 2 * ANSWER
            left = dict(self._open)
            while left and time.monotonic() < end:
                for stream in self._ray.wait(list(left), timeout=_LOOK, fetch_local=False)[0]:
                    told = self._next(stream)
                    if isinstance(told, Report) and told.code == 0:
                        with suppress(OSError, InputError):  # it will be run again
                            _keep(left[stream].task, told)
                    if not isinstance(told, Begun):
                        del left[stream]

    def _submit(self, run: _Run, *, again_at: str = "") -> None:
        """Hand it to Ray; `again_at` is a machine with half-done work, taken while it is alive."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        options: dict[str, Any] = {"num_cpus": self._engine.cpus, "num_gpus": run.task.gpus, "max_retries": 0}
        if again_at:
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(again_at, soft=True)
        run.attempts += 1
        run.begun = False
        remote = self._attempt.options(num_returns="streaming", name=run.task.name, **options)
        self._open[remote.remote(run.order, run.inputs)] = run

    def _next(self, stream: Any) -> Any:
        """The next thing that an attempt tells: Begun, a Report, or the exception that ended it."""
        try:
            return self._ray.get(next(stream))
        except (StopIteration, self._ray.exceptions.RayError) as error:
            return error

    def _hear(self, stream: Any) -> None:
        run, told = self._open[stream], self._next(stream)
        if isinstance(told, Begun):
            run.place, run.node, run.begun = told.place, told.node, True
            self._places[run.task] = run.place
            if not run.said:
                run.said = True
                self._started(run.task)
            return
        del self._open[stream]
        if isinstance(told, Report):
            self._ended(run, told)
        elif _own_failure(self._ray, told):
            cause = getattr(told, "cause", None) or told
            self._conclude(run, f"{run.task.name} could not be run on {run.place}: {cause}")
        elif run.attempts <= self._engine.retries:
            self._submit(run)
        else:
            self._conclude(run, f"{run.task.name} was lost {run.attempts} times, with its Ray process or its machine")

    def _ended(self, run: _Run, report: Report) -> None:
        task, missing = run.task, [name for name in run.task.outputs if name not in report.files]
        if report.code < 0 and run.attempts <= self._engine.retries:
            self._submit(run, again_at=run.node)
            return
        message = ""
        try:
            _keep(task, report)
        except (OSError, InputError) as error:
            message = f"{task.name} has ended, but what it made could not be kept: {error}"
        quoted = f"; the end of {task.out / LOG}:\n{_tail(report.log)}"
        if report.code < 0:
            message = f"{task.name} was killed ({signal.Signals(-report.code).name}) {run.attempts} times{quoted}"
        elif report.code > 0:
            message = f"{task.name} ended with exit code {report.code}{quoted}"
        elif missing:
            message = f"{task.name} ended without writing {missing[0]}{quoted}"
        self._conclude(run, message, report.seconds)

    def _conclude(self, run: _Run, message: str, seconds: float = 0.0) -> None:
        self._finished(run.task, Finished(not message, message, seconds, run.attempts, run.place))

    def _fits(self, task: Task) -> bool:
        """Whether a living machine is large enough, were it idle."""
        resources = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        return any(r.get("CPU", 0) >= self._engine.cpus and r.get("GPU", 0) >= task.gpus for r in resources)

    def _too_large(self, task: Task) -> str:
        gpus = f" and {task.gpus:g} GPUs" if task.gpus else ""
        return (
            f"no machine of the Ray cluster has the {self._engine.cpus:g} CPUs{gpus} that {task.name!r} needs: start "
            "one with `ray start --address=…`, or choose a smaller --gpus-per-run"
        )

    def _give_up_without_room(self) -> None:
        for stream, run in list(self._open.items()):
            if self._fits(run.task):
                run.since = time.monotonic()
            elif time.monotonic() - run.since > ROOM_PATIENCE:
                del self._open[stream]
                self._ray.cancel(stream)
                run.attempts -= 1
                self._conclude(run, self._too_large(run.task))


class _Sent:
    """Input files as Ray objects, each read and stored once."""

    def __init__(self, ray: Any) -> None:
        self._ray, self._known = ray, dict[Path, tuple[str, Any]]()

    def __call__(self, path: Path) -> tuple[str, Any]:
        """Digest and reference."""
        if path not in self._known:
            content = np.fromfile(path, np.uint8)
            self._known[path] = (hashlib.sha256(content).hexdigest(), self._ray.put(content))
        return self._known[path]


def _attempt(order: Order, inputs: list[Any]) -> Iterator[Any]:
    """Runs on a machine of the cluster: tells where it is, then how it ended."""
    import ray

    yield Begun(socket.gethostname(), ray.get_runtime_context().get_node_id())
    yield perform(order, lambda number: ray.get(inputs[number]))


def _own_failure(ray: Any, error: BaseException) -> bool:
    """Whether an attempt raised an exception, a full disk for instance; else its process or machine was lost."""
    return isinstance(error, ray.exceptions.RayTaskError) and not isinstance(
        error, (ray.exceptions.TaskCancelledError, ray.exceptions.WorkerCrashedError)
    )


def _keep(task: Task, report: Report) -> None:
    """Log and outputs into the task's folder. The first output is the result that others look for: it comes last."""
    files = [(name, report.files[name]) for name in reversed(task.outputs) if name in report.files]
    if report.code != 0 or len(files) < len(task.outputs):
        files = []  # half of them are no result
    for name, content in [(LOG, np.frombuffer(report.log, np.uint8)), *files]:
        with replacing(task.out / name) as scratch:
            content.tofile(scratch)


def _tail(log: bytes) -> str:
    return "\n".join(line for line in log.decode(errors="replace").splitlines()[-TAIL:] if line.strip())


def _import_ray() -> Any:
    # Nothing of a user's work is reported to anybody.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise InputError(
            "--engine ray needs Ray, which is not installed: pip install 'policy-search[cluster]'"
        ) from None
    return ray

"""One attempt at a task on a machine of a cluster: a folder of its own, copies of the input files, the command."""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detection import supervise
from detection.config import digest
from detection.local_engine import LOG, words_here
from detection.tasks import Task
from policy_search.cells.files import replacing

LOG_BYTES = 1 << 18  # of the end of a log that comes back
_PASSED = ("PATH", "PYTHONPATH", "LIVECELL_ROOT")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_PAUSE = 0.05  # seconds between two looks at the command
# Longer than an interrupted command gets to save its state.
_PATIENCE = supervise.PATIENCE + 30

Bytes = NDArray[np.uint8]


class Order(NamedTuple):
    """What a machine must know to run a task.

    Attributes:
        key: digest of the command and the contents of its input files. A later attempt at the same key on the same
            machine goes on in the same folder.
        words, outputs: see `Task`.
        names: file names of the inputs.
        threads: of the command.
        environment: PATH, PYTHONPATH and LIVECELL_ROOT where the matrix runs. folder: its working folder.
    """

    key: str
    words: tuple[str, ...]
    outputs: tuple[str, ...]
    names: tuple[str, ...]
    threads: int
    environment: Mapping[str, str]
    folder: str


class Begun(NamedTuple):
    """An attempt runs: host name of the machine, and its name in the cluster."""

    place: str
    node: str


class Report(NamedTuple):
    """How a command ended.

    Attributes:
        code: exit code; negative is the signal that killed it.
        seconds: wall time of the command.
        files: the outputs that are there, (bytes,) uint8 each. log: the end of what was printed.
    """

    code: int
    seconds: float
    files: dict[str, Bytes]
    log: bytes


def order_of(task: Task, digests: tuple[str, ...], threads: int) -> Order:
    """The order for a task whose input files have these digests, as seen from the machine that runs the matrix."""
    here = {name: os.environ[name] for name in _PASSED if os.environ.get(name)}
    for name in set(here) & {"PYTHONPATH", "LIVECELL_ROOT"}:
        here[name] = os.pathsep.join(os.path.abspath(entry) for entry in here[name].split(os.pathsep))
    key = digest({"words": task.words, "inputs": digests, "outputs": task.outputs})
    names = tuple(path.name for path in task.inputs)
    return Order(key, task.words, task.outputs, names, threads, here, os.getcwd())


def perform(order: Order, fetch: Callable[[int], Bytes]) -> Report:
    """Run the command and read its outputs; the folder goes when all of them are there, and stays otherwise.

    Args:
        fetch: content of an input file by its number.

    Raises:
        OSError: the folder cannot be written.
        RuntimeError: another process works at this very task, or the folder is another user's.
        KeyboardInterrupt: passed on, after the command was interrupted and has ended.
    """
    place = _own_folder() / order.key
    with _held(place) as lock:
        out = place / "out"
        out.mkdir(exist_ok=True)
        inputs = tuple(_brought(place / "in" / str(i) / name, i, fetch) for i, name in enumerate(order.names))
        words = words_here(Task("", order.words, inputs, out, order.outputs))
        began = time.perf_counter()
        with (out / LOG).open("ab") as log:
            log.write(f"$ {' '.join(words)}\n".encode())
            log.flush()
            code = _run(words, order, log, lock)
        seconds = time.perf_counter() - began
        files = {name: np.fromfile(out / name, np.uint8) for name in order.outputs if (out / name).is_file()}
        report = Report(code, seconds, files, (out / LOG).read_bytes()[-LOG_BYTES:])
        if code == 0 and len(files) == len(order.outputs):
            shutil.rmtree(place)
    return report


def _own_folder() -> Path:
    """Of this user, in the machine's temporary folder (TMPDIR); nobody else may read or prepare it."""
    folder = Path(tempfile.gettempdir()) / f"detect-tasks-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise RuntimeError(f"{folder} belongs to another user: set TMPDIR on this machine to a folder of your own")
    return folder


@contextmanager
def _held(place: Path) -> Iterator[IO[str]]:
    """The folder, made if need be, with a lock that the command inherits: a command whose attempt was given up keeps
    it until it has ended, and the next attempt waits for that."""
    end = time.monotonic() + _PATIENCE
    while True:
        place.mkdir(mode=0o700, exist_ok=True)
        try:
            lock = (place / ".running").open("a")
        except FileNotFoundError:  # who had it is done, and has removed it
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is(lock, place / ".running"):
                break
        except BlockingIOError:
            if time.monotonic() > end:
                lock.close()
                raise RuntimeError(f"another process works at the same task in {place}") from None
            time.sleep(_PAUSE)
        lock.close()
    with lock:
        yield lock


def _is(lock: IO[str], path: Path) -> bool:
    """Whether the open file is still the one of this name."""
    try:
        return os.path.samestat(os.fstat(lock.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _brought(path: Path, number: int, fetch: Callable[[int], Bytes]) -> Path:
    """An input file; one that a former attempt brought is whole."""
    if not path.is_file():
        content = fetch(number)
        with replacing(path) as scratch:
            content.tofile(scratch)
    return path


def _run(words: list[str], order: Order, log: IO[bytes], lock: IO[str]) -> int:
    """Exit code of the command. Whatever ends this function ends the command, too."""
    environment = _environment(order)
    found = shutil.which(words[0], path=environment["PATH"])
    if found is None:  # a program of the machine that runs the matrix, named by its place there
        found = shutil.which(Path(words[0]).name, path=environment["PATH"]) or words[0]
    keeper: subprocess.Popen[Any] = subprocess.Popen(
        [sys.executable, "-I", "-S", supervise.__file__, str(lock.fileno()), found, *words[1:]],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment, start_new_session=True,
        cwd=order.folder if os.path.isdir(order.folder) else None, pass_fds=(lock.fileno(),),
    )  # fmt: skip
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    told = b""
    try:
        while True:
            # Ray interrupts no blocking read.
            if select.select([keeper.stdout], [], [], _PAUSE)[0]:
                piece = os.read(keeper.stdout.fileno(), 64)
                if not piece:
                    break
                told += piece
    finally:
        keeper.stdin.close()
        keeper.stdout.read()  # to its end: then the command has ended
        keeper.stdout.close()
        keeper.wait()
    pid, _, code = told.decode().partition("\n")
    if code.strip():
        return int(code)
    if pid:  # the keeper itself was killed, and cannot end the command any more
        with suppress(ProcessLookupError):
            os.killpg(int(pid), signal.SIGKILL)
    return -signal.SIGKILL


def _environment(order: Order) -> dict[str, str]:
    """This machine's, with what the matrix's has and this one can use. The programs beside this Python come first."""
    environment = dict(os.environ)
    beside = str(Path(sys.executable).parent)
    paths = [
        beside,
        *order.environment.get("PATH", "").split(os.pathsep),
        *os.environ.get("PATH", "").split(os.pathsep),
    ]
    environment["PATH"] = os.pathsep.join(dict.fromkeys(path for path in paths if os.path.isdir(path)))
    modules = [*order.environment.get("PYTHONPATH", "").split(os.pathsep), os.environ.get("PYTHONPATH", "")]
    modules = [path for path in dict.fromkeys(modules) if path and all(map(os.path.exists, path.split(os.pathsep)))]
    if modules:
        environment["PYTHONPATH"] = os.pathsep.join(modules)
    root = order.environment.get("LIVECELL_ROOT", "")
    if "LIVECELL_ROOT" not in environment and os.path.isdir(root):
        environment["LIVECELL_ROOT"] = root
    return environment | dict.fromkeys(_THREADS, str(order.threads))

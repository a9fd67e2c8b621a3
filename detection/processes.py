"""One training in several processes, seen from the one that starts them (detectron2's `launch`)."""

from __future__ import annotations

import logging
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from typing import Any

import torch
from detectron2.engine import launch
from detectron2.utils import comm
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from detection.failures import ProcessFailedError, TrainingDivergedError, TrainingInterrupted
from detection.interrupts import stop_wanted
from detection.watcher import Watcher
from policy_search.cells.errors import InputError

# Rank 0 validates while the others wait. A rank that died is noticed at once, not by this.
PATIENCE = timedelta(days=30)
# Seconds that a rank which lost another waits before it ends, so that the first to fall is the one that is named.
GRACE = 3.0
_NAMED: dict[str, type[BaseException]] = {
    kind.__name__: kind for kind in (InputError, TrainingDivergedError, TrainingInterrupted)
}
Work = Callable[..., Any]
# It logs each rank that it ends; one sentence says all of that here.
logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)


def spread(work: Work, arguments: tuple[Any, ...], *, processes: int, device: str, watcher: Watcher) -> Any:
    """Run `work(*arguments, watcher, stop)` in every rank; gives back what rank 0 returns.

    Args:
        work: a function of a module, because it travels to new interpreters; so do arguments and result (pickle).
        device: `cpu`, or `cuda` for one GPU a process.

    Raises:
        InputError, TrainingDivergedError, TrainingInterrupted: as raised in a rank.
        ProcessFailedError: a rank ended in another way. The others are ended, too.
    """
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe(duplex=False) for _ in range(processes)]
    stop = context.Value("b", 0, lock=False)  # a rank that is killed cannot take a lock with it
    before = set(multiprocessing.active_children())
    heard = _Listener([reader for reader, _ in pipes], watcher)
    heard.start()
    senders = [sender for _, sender in pipes]
    threads = max(torch.get_num_threads() // processes, 1)
    try:
        with stop_wanted(lambda: setattr(stop, "value", 1)), _environment(device):
            given = (work, arguments, senders, stop, threads)
            launch(_in_rank, processes, dist_url="auto", args=given, timeout=PATIENCE)
    except (ProcessRaisedException, ProcessExitedException) as error:
        failure: Exception | None = error
    else:
        failure = None
    finally:
        for child in set(multiprocessing.active_children()) - before:
            child.kill()
        for sender in senders:
            sender.close()  # a message cut short by a kill ends here
        heard.join()
    if heard.named is not None:
        raise heard.named
    if failure is not None:
        raise ProcessFailedError(_sentence(failure, processes)) from failure
    return heard.result


def _in_rank(work: Work, arguments: tuple[Any, ...], senders: list[Connection], stop: Any, threads: int) -> None:
    """The whole life of one rank."""
    from detection import ranks

    starter = os.getppid()

    def ignore_unless_orphaned(number: int, frame: object) -> None:
        # Ctrl-C reaches all processes; the starter decides. When it dies, torch has this signal sent.
        if os.getppid() != starter:
            os._exit(1)

    signal.signal(signal.SIGINT, ignore_unless_orphaned)
    torch.set_num_threads(threads)
    number = ranks.rank()
    send = senders[number].send
    silent = Watcher()
    speaking = Watcher(
        step=lambda *values: send(("step", values)),
        say=lambda *values: send(("say", values)),
        validated=lambda *values: send(("validated", values)),
    )
    try:
        result = work(*arguments, speaking if number == 0 else silent, lambda: bool(stop.value))
        if number == 0:
            send(("result", (result,)))
        comm.synchronize()  # rank 0 serves the others' connections until all are done
    except (InputError, TrainingDivergedError, TrainingInterrupted) as error:
        kind = next(name for name, known in _NAMED.items() if isinstance(error, known))
        send(("failed", (kind, str(error))))
        raise
    except RuntimeError:
        if re.search(r"gloo|nccl|connection|distributed", traceback.format_exc(), re.IGNORECASE):
            time.sleep(GRACE)
        raise
    # Gloo's and torch's threads can outlive the interpreter and then abort the process ("terminate called without an
    # active exception"), which would turn a finished training into a failed one. Nothing is left to tidy up.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


class _Listener(threading.Thread):
    """Hands on what the ranks say; the first named failure and the result stay here."""

    def __init__(self, readers: list[Connection], watcher: Watcher) -> None:
        super().__init__(daemon=True)
        self.readers, self.watcher = readers, watcher
        self.named: BaseException | None = None
        self.result: Any = None

    def run(self) -> None:
        open_readers = list(self.readers)
        while open_readers:
            for reader in wait(open_readers):
                try:
                    kind, values = reader.recv()  # type: ignore[union-attr]
                except (EOFError, OSError):
                    open_readers.remove(reader)  # type: ignore[arg-type]
                    continue
                self._take(kind, values)

    def _take(self, kind: str, values: tuple[Any, ...]) -> None:
        if kind == "result":
            (self.result,) = values
        elif kind == "failed":
            name, message = values
            self.named = self.named or _NAMED[name](message)
        else:
            getattr(self.watcher, kind)(*values)


@contextmanager
def _environment(device: str) -> Iterator[None]:
    """What the ranks find in their environment.

    GPUs are hidden from ranks on the CPU: detectron2 would have them talk through the GPUs' library. detectron2 calls
    torch in ways that newer versions comment on while it is imported; nobody who trains can act on that.
    """
    values = {"PYTHONWARNINGS": "ignore::FutureWarning", **({"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {})}
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _sentence(failure: Exception, processes: int) -> str:
    """What a user needs to know."""
    if isinstance(failure, ProcessExitedException):
        how = f"was killed by {failure.signal_name}" if failure.signal_name else f"ended with code {failure.exit_code}"
        hint = ", perhaps for want of memory" if failure.signal_name == "SIGKILL" else ""
        return f"training process {failure.error_index + 1} of {processes} {how}{hint}; the others were ended"
    last = str(failure).strip().splitlines()[-1]
    index = getattr(failure, "error_index", 0)
    return f"training process {index + 1} of {processes} failed: {last}; the others were ended"

"""Runs one command in a process group of its own, which ends when the process that asked for it does.

Started as a script, without this package: `python supervise.py LOCK WORD…`. LOCK is a file descriptor that the command
inherits. Standard output gets the command's process id and, in a second line, its exit code, negative for a signal; the
command's own output goes to standard error. The end of standard input, also that of a killed parent, interrupts the
command (SIGINT), so that it saves its state; what is left after `PATIENCE` seconds is killed.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

PATIENCE = 120.0
NOT_FOUND = 127  # as shells have it


def main() -> int:
    """Exit code 0 whenever the command's was told."""
    lock, words = int(sys.argv[1]), sys.argv[2:]
    # Ray kills the children of a worker that it ends: a grandchild is left alone, and can let the command save first.
    if os.fork():
        os._exit(0)
    # Ray blocks SIGINT in its workers, and a child inherits that.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        command = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=sys.stderr.fileno(), pass_fds=(lock,), process_group=0,
            preexec_fn=_interrupted_without_keeper,
        )  # fmt: skip
    except OSError as error:
        sys.stderr.write(f"cannot start {words[0]}: {error.strerror or error}\n")
        print(f"0\n{NOT_FOUND}", flush=True)
        return 0
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.close(lock)
    print(command.pid, flush=True)
    threading.Thread(target=_end_with_parent, args=(command.pid,), daemon=True).start()
    code = command.wait()
    _signal(command.pid, signal.SIGKILL)  # what it left running
    with contextlib.suppress(BrokenPipeError):
        print(code, flush=True)
    return 0


# Looked up before the fork: between fork and exec nothing may be loaded.
_PRCTL = getattr(ctypes.CDLL(None), "prctl", None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


def _interrupted_without_keeper() -> None:
    # Without this process nobody else would end it.
    if _PRCTL is not None:
        _PRCTL(_PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)


def _end_with_parent(group: int) -> None:
    while os.read(0, 1):
        pass
    _signal(group, signal.SIGINT)
    time.sleep(PATIENCE)
    _signal(group, signal.SIGKILL)


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


if __name__ == "__main__":
    sys.exit(main())

"""The command `detect` as a process of its own: the study knows its command line, and none of its code."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys

from policy_search.cells.errors import InputError

# One thread, as everything in a study: the same result on any number of cores. LIVECell's place is not handed down:
# nothing but the files that are named in the arguments is to be found.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_WITHHELD = ("LIVECELL_ROOT",)
_INTERRUPTED = (130, -signal.SIGINT, -signal.SIGTERM)


class DetectError(RuntimeError):
    """`detect` ended with an error; the message is the last line of what it said."""


def require_detect() -> None:
    """Nothing is imported, only looked for.

    Raises:
        InputError: `detect` or what it needs is not installed.
    """
    for module in ("detection", "detectron2", "faster_coco_eval"):
        if importlib.util.find_spec(module) is None:
            raise InputError(
                f"--objective ap50 fine-tunes with the command `detect`, and {module} is not installed: run "
                "`make setup`, or choose another --objective"
            )


def detect(*arguments: str) -> None:
    """Run `detect` with these arguments and wait.

    Raises:
        DetectError: it ended with an exit code other than 0.
        KeyboardInterrupt: it was told to stop, as Ctrl-C tells all processes of a terminal: nothing is wrong then, and
            the policy is to be scored again.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _WITHHELD}
    environment |= dict.fromkeys(_THREADS, "1")
    done = subprocess.run(
        [sys.executable, "-m", "detection.cli", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    if done.returncode in _INTERRUPTED:
        raise KeyboardInterrupt
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        said = lines[-1].strip() if lines else "it said nothing"
        raise DetectError(f"`detect {arguments[0]}` ended with exit code {done.returncode}: {said}")

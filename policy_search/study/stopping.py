"""SIGINT and SIGTERM while a study runs: an exception that is not lost where a library hides it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_asked = False  # by a signal, within `stop_at_once`; signals belong to the process


@contextmanager
def stop_at_once() -> Iterator[None]:
    """Within, SIGINT and SIGTERM raise KeyboardInterrupt wherever the program is, and `stop_asked` says so afterwards.

    Where that exception comes up does not always get it out: not while an object is being collected, and a class that
    is being defined (a library imported late) makes a RuntimeError of it. The first is sent again; who catches other
    errors, or runs for long, asks `stop_asked` or calls `raise_if_asked`.

    Raises:
        ValueError: this is not the main thread.
    """
    global _asked

    def stop(number: int, frame: FrameType | None) -> None:
        global _asked
        _asked = True
        raise KeyboardInterrupt

    def again(lost: sys.UnraisableHookArgs) -> None:
        if issubclass(lost.exc_type, KeyboardInterrupt):
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        else:
            hook(lost)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    hook, sys.unraisablehook = sys.unraisablehook, again
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)
        _asked = False


def stop_asked() -> bool:
    """Whether a signal has come since `stop_at_once` was entered."""
    return _asked


def raise_if_asked() -> None:
    """Raises KeyboardInterrupt if `stop_asked`."""
    if _asked:
        raise KeyboardInterrupt

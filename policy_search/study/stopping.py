"""SIGINT and SIGTERM while a study runs: an exception that is not lost where a library hides it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

AGAIN = 0.1  # seconds after which a signal is sent again


@dataclass
class _State:
    """Signals belong to the process.

    Attributes:
        asked: a signal has come.
        lost: what it raised got nowhere, and nobody has seen yet that it came.
    """

    asked: bool = False
    lost: bool = False


_state = _State()


@contextmanager
def stop_at_once() -> Iterator[None]:
    """Within, SIGINT and SIGTERM raise KeyboardInterrupt wherever the program is, and `stop_asked` says so afterwards.

    Where that exception comes up does not always get it out: not while an object is being collected, and a class that
    is being defined (a library imported late) makes a RuntimeError of it. The first is sent again; who catches other
    errors, or runs for long, asks `stop_asked` or calls `raise_if_asked`.

    Raises:
        ValueError: this is not the main thread.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        _state.asked, _state.lost = True, False
        raise KeyboardInterrupt

    timers: list[threading.Timer] = []

    def again(lost: sys.UnraisableHookArgs) -> None:
        if not issubclass(lost.exc_type, KeyboardInterrupt):
            hook(lost)
            return
        _state.lost = True
        timers.append(threading.Timer(AGAIN, _send_again))
        timers[-1].start()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    hook, sys.unraisablehook = sys.unraisablehook, again
    try:
        yield
    finally:
        sys.unraisablehook = hook
        _state.lost = False
        for timer in timers:  # a signal that came later would end the process
            timer.cancel()
            timer.join()
        for number, handler in before.items():
            signal.signal(number, handler)
        _state.asked = False


def _send_again() -> None:
    # Who has seen meanwhile that a signal came is cleaning up, and is not to be disturbed.
    if _state.lost:
        os.kill(os.getpid(), signal.SIGINT)


def stop_asked() -> bool:
    """Whether a signal has come since `stop_at_once` was entered: who asks, stops."""
    _state.lost = False
    return _state.asked


def raise_if_asked() -> None:
    """Raises KeyboardInterrupt if `stop_asked`."""
    if stop_asked():
        raise KeyboardInterrupt

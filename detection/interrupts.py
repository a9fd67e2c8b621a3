"""Ctrl-C and SIGTERM as a wish to stop at the next good place."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_wanted(note: Callable[[], None] = lambda: None) -> Iterator[Callable[[], bool]]:
    """Within, the first SIGINT or SIGTERM makes the given function return True; a second one stops at once
    (KeyboardInterrupt). Outside the main thread signals cannot be caught, and the function returns False.

    Args:
        note: called at the first signal, in the signal's handler.
    """
    wanted = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal wanted
        if wanted:
            raise KeyboardInterrupt
        wanted = True
        note()

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: wanted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

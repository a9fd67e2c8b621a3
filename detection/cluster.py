"""A connection to a Ray cluster, or a cluster of this machine alone for as long as it is needed.

Ray itself is an argument here: `detection.engine` imports it.
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from policy_search.cells.errors import InputError

ANSWER = 5.0  # seconds that a cluster gets to answer


@contextmanager
def connected(ray: Any, address: str | None) -> Iterator[None]:
    """Within, Ray is connected; what was started here ends with it. An existing connection is used and left alone.

    Args:
        ray: the module.
        address: `HOST:PORT`, `auto`, or None for a cluster of this machine alone.

    Raises:
        InputError: no cluster answers, or it is of another version.
    """
    if ray.is_initialized():
        yield
        return
    if address is not None:
        _require_answer(address)
    quiet = {"logging_level": "ERROR", "log_to_driver": False, "configure_logging": False}
    on_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    try:
        if address is None:
            ray.init(address="local", include_dashboard=False, **quiet)
        else:
            ray.init(address=address, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(f"no connection to a Ray cluster at {address or 'this machine'}: {error}") from error
    try:
        if on_main:  # Ray sets its own, which ends the process
            signal.signal(signal.SIGTERM, before)
        yield
    finally:
        ray.shutdown()


def _require_answer(address: str) -> None:
    """Ray itself tries for minutes.

    Raises:
        InputError: nobody listens there, or the address is of another kind.
    """
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if "/" in address or not host or not port.isdigit():
        raise InputError(f"--address: expected HOST:PORT of a Ray cluster, or auto, got {address!r}")
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER).close()
    except OSError as error:
        raise InputError(
            f"--address: no Ray cluster answers at {address} ({error}): start one with `ray start --head`"
        ) from None

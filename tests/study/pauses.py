"""What a thread was made to wait for a storage, whatever the clock on the wall says."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest

from policy_search.study.storages import patience


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses of this thread, in seconds, as they are made."""
    made: list[float] = []
    own = threading.current_thread()

    def sleep(seconds: float) -> None:
        if threading.current_thread() is own:
            made.append(seconds)
        time.sleep(seconds)

    monkeypatch.setattr(
        patience, "time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic, strftime=time.strftime)
    )
    return made

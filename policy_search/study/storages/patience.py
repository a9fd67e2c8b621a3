"""Patience with a storage that does not answer: operations are repeated until it is back, or for too long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from policy_search.cells.errors import InputError

T = TypeVar("T")
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 2.0  # a worker must send its sign of life soon after the storage is back


class StorageLostError(InputError):
    """The storage did not answer for longer than a run waits, or what it holds is gone."""


def lost_storage(error: BaseException | None) -> StorageLostError | None:
    """The loss behind an error, or None.

    Optuna's `optimize` meets the loss again while it closes the trial and then raises an UnboundLocalError, to which
    the loss is the context.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, StorageLostError):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


class Patience:
    """Repeats what fails while a storage is away. All threads share the moment since when it is.

    Attributes:
        seconds: how long the storage may be away; 0 once somebody has stopped the process while it was.
    """

    def __init__(
        self,
        place: str,
        seconds: float,
        tell: Callable[[str], None] | None,
        reason: Callable[[BaseException], str | None],
        advice: str,
        watch: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Args:
            place: the storage as messages name it.
            seconds: how long it may be away before `StorageLostError` is raised.
            tell: is given one line when it goes and one when it is back; may be called from any thread.
            reason: what an error says of the storage; None for an error that repeating does not mend.
            advice: what to do when patience is over, a clause or two.
            watch: called before every attempt; raises `StorageLostError` when there is nothing to wait for.
        """
        self.seconds = seconds
        self._place, self._tell, self._reason, self._advice, self._watch = place, tell, reason, advice, watch
        self._since: float | None = None
        self._clock = ""
        self._failing = 0  # operations that have failed and are being repeated
        self._lock = threading.Lock()

    def repeat(self, attempt: Callable[[], T]) -> T:
        """What `attempt` returns as soon as it gets through. It must be safe to repeat.

        Raises:
            StorageLostError: the storage has been away for longer than `seconds`, counted from the first failure of
                any operation: one that starts after that tries once and fails at once.
        """
        pause, failed = FIRST_PAUSE, False
        try:
            while True:
                self._watch()
                try:
                    result = attempt()
                except (StorageInternalError, SQLAlchemyError) as error:
                    reason = self._reason(error)
                    if reason is None:
                        raise
                    left = self._away(reason, first=not failed)
                    failed = True
                    if left <= 0:
                        raise StorageLostError(
                            f"--storage {self._place}: no use since {self._clock} ({reason}). {self._advice}"
                        ) from error
                    try:
                        time.sleep(min(pause, left))
                    except KeyboardInterrupt:
                        self.seconds = 0  # who stops the run does not wait while the trial is closed either
                        raise
                    pause = min(2 * pause, LONGEST_PAUSE)
                else:
                    break
        finally:
            if failed:
                with self._lock:
                    self._failing -= 1
        if self._since is not None:
            self._back()
        return result

    def _away(self, reason: str, *, first: bool) -> float:
        """Seconds of patience that are left after a failure, the first or a later one of its operation."""
        with self._lock:
            now = time.monotonic()
            self._failing += first
            if self._since is None:
                self._since, self._clock = now, time.strftime("%H:%M:%S")
                self._say(f"{reason}; trying again for up to {self.seconds:g} s")
            return self._since + self.seconds - now

    def _back(self) -> None:
        with self._lock:
            # Others may still fail, say at writing to a full disk, which reading gets along with.
            if self._since is not None and not self._failing:
                away, self._since = time.monotonic() - self._since, None
                self._say(f"back after {away:.0f} s")

    def _say(self, line: str) -> None:
        if self._tell is not None and self.seconds > 0:
            self._tell(f"storage {self._place}: {line}")

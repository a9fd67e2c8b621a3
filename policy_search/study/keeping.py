"""Keeping a run folder up to its storage, also on a disk that is full for a while."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from policy_search.cells.errors import InputError
from policy_search.study import report
from policy_search.study.folder import RunFolder
from policy_search.study.slots import Slots
from policy_search.study.storage import StorageLostError
from policy_search.study.stored_policies import has_policy, policy_content
from policy_search.study.worker import StudyBrokenError


class Keeper:
    """Writes a policy file for every finished trial, and the log.

    Args:
        folder: of the run; None for a process that has no part in one: nothing is written then.
        tell: is given one line when the folder cannot be written any more.
    """

    def __init__(self, folder: RunFolder | None, tell: Callable[[str], None]) -> None:
        self._folder, self._tell = folder, tell
        self._kept: dict[int, tuple[int, str]] = {}  # slot -> its trial's number and line in the log
        self._failing = False

    def keep(self, slots: Slots) -> bool:
        """Write what is new; whether something was. A failure is told, and what it left out is written later."""
        if self._folder is None or not self._new(slots):
            return False
        try:
            self.write(slots)
            self._failing = False
        except (OSError, InputError) as error:
            if not self._failing:
                self._tell(f"{_unwritable(self._folder, error)}; all trials are kept in the storage, the run goes on")
            self._failing = True
        return True

    def write(self, slots: Slots) -> None:
        """Write what is new.

        Raises:
            OSError, InputError: the folder cannot be written.
        """
        if self._folder is None:
            return
        kept = dict(self._kept)
        for slot in self._new(slots):
            trial = slots.finished[slot]
            # A file that is there is whole, and of this slot: which policy that is never changes.
            if has_policy(trial) and (slot in kept or not self._folder.has_policy(slot)):
                self._folder.save_policy(slot, policy_content(trial))
            kept[slot] = trial.number, json.dumps(report.log_line(report.row_of(trial)), ensure_ascii=False)
        if kept != self._kept:
            self._folder.write_log(kept[slot][1] for slot in sorted(kept))
            self._kept = kept

    def _new(self, slots: Slots) -> list[int]:
        """Slots not written yet, or as another trial (a worker that came back was the first after all)."""
        kept = self._kept
        return [slot for slot, trial in slots.finished.items() if slot not in kept or kept[slot][0] != trial.number]


@contextmanager
def needed(folder: RunFolder) -> Iterator[None]:
    """Around the writing of results, without which a run is not finished.

    Raises:
        StudyBrokenError: instead of what says that the folder cannot be written.
    """
    try:
        yield
    except StorageLostError:
        raise
    except (OSError, InputError) as error:
        raise StudyBrokenError(
            f"{_unwritable(folder, error)}. All trials are kept in the storage: mend that, then policy-search resume "
            f"{folder.path}"
        ) from error


def _unwritable(folder: RunFolder, error: OSError | InputError) -> str:
    cause = error if isinstance(error, OSError) else error.__cause__
    reason = cause.strerror if isinstance(cause, OSError) else None
    return f"cannot write into {folder.path} ({reason or error})"

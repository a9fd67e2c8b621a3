"""Which policies of a study are done, which are under way, and which comes next: pure reading of its trials.

A study has *slots* 0, 1, 2, …: slot k is the k-th policy to be tried. What it tries depends on the study's seed, on k
and on the outcome of slots up to k - parallel, never on which process runs what when. A trial of the storage belongs
to a slot (its user attribute `slot`). A slot whose trial was interrupted gets another one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

SLOT = "slot"
ERROR = "error"  # why a trial failed by itself; one without it was cut off and is no result
INTERRUPTED = "interrupted"  # by its user, who is no reason to give a policy up
LOST = "its worker was lost"
MOST_LOST = 4  # trials of one slot whose worker vanished: a policy that kills its workers is given up


@dataclass(frozen=True)
class Slots:
    """Where a study stands.

    Attributes:
        finished: slot -> its result: the earliest trial that completed, was pruned, or failed by itself.
        pending: slot -> trial that is running or waits to be run.
    """

    finished: Mapping[int, FrozenTrial]
    pending: Mapping[int, FrozenTrial]

    @property
    def complete(self) -> int:
        """Slots that have a score."""
        return sum(trial.state == TrialState.COMPLETE for trial in self.finished.values())

    @property
    def first_free(self) -> int:
        """The lowest slot that is neither finished nor under way."""
        slot = 0
        while slot in self.finished or slot in self.pending:
            slot += 1
        return slot

    def seen(self, slot: int, parallel: int) -> dict[int, FrozenTrial]:
        """The finished slots that `slot` may learn from: all up to `slot` - `parallel`."""
        return {number: self.finished[number] for number in sorted(self.finished) if number <= slot - parallel}


def read_slots(trials: Iterable[FrozenTrial]) -> Slots:
    """The slots of a study's trials, in any order; trials without a slot are nobody's and left out."""
    finished: dict[int, FrozenTrial] = {}
    pending: dict[int, FrozenTrial] = {}
    lost: dict[int, list[FrozenTrial]] = {}
    for trial in sorted(trials, key=lambda t: t.number):
        slot = trial.user_attrs.get(SLOT)
        if slot is None:
            continue
        if not trial.state.is_finished():
            pending[slot] = trial
        elif trial.state != TrialState.FAIL or ERROR in trial.user_attrs:
            finished.setdefault(slot, trial)
        elif INTERRUPTED not in trial.user_attrs:
            lost.setdefault(slot, []).append(trial)
    for slot, group in lost.items():
        if len(group) >= MOST_LOST:
            finished.setdefault(slot, group[-1])
    # A worker that was slow to show signs of life may still be at a slot that another one has finished.
    return Slots(finished, {slot: trial for slot, trial in pending.items() if slot not in finished})


def next_slot(slots: Slots, wanted: int, parallel: int) -> int | None:
    """The slot that may be begun now; None while none may.

    A slot is begun only if it is needed whatever becomes of those under way, so a study ends with exactly `wanted`
    complete trials and with the same slots for any number of workers.
    """
    if slots.complete + len(slots.pending) >= wanted:
        return None
    slot = slots.first_free
    if min(slots.pending, default=slot) <= slot - parallel:
        return None
    return slot

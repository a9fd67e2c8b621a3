"""The loop of a worker: claim the next slot of a round, fill it, until the round is done. Any number run at once."""

from __future__ import annotations

import errno
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

import optuna
from optuna.storages import fail_stale_trials
from optuna.trial import FrozenTrial, TrialState

from policy_search.study.slots import ERROR, INTERRUPTED, SLOT, Slots, read_slots
from policy_search.study.stopping import raise_if_asked, stop_asked
from policy_search.study.storage import StorageLostError, StudyStorage, lost_storage
from policy_search.study.storages.locks import claim_lock

FULL = (errno.ENOSPC, errno.EDQUOT)
MOST_FAILURES = 6  # one after another in one process: then it is not the policies' fault


class _ClaimLostError(Exception):
    """The server was restarted while the claim was made: another worker may have claimed the same slot, or have taken
    the trial that was meant for this one, so that Optuna made a trial of no slot."""


class StudyBrokenError(RuntimeError):
    """Nothing can be scored any more; says what went wrong last."""


class Round(Protocol):
    """What a worker works on: an Optuna study whose trials fill slots."""

    @property
    def study(self) -> optuna.Study: ...

    def done(self, slots: Slots) -> bool:
        """Whether nothing is left to be begun or waited for."""
        ...

    def next_slot(self, slots: Slots) -> int | None:
        """The slot that may be begun now, None while none may."""
        ...

    def template(self, slot: int, slots: Slots) -> FrozenTrial:
        """The waiting trial of a slot that is begun, its parameters and the attribute `slot` included."""
        ...

    def perform(self, trial: optuna.Trial, slot: int, slots: Slots) -> float | Sequence[float]:
        """Fill a slot: the values of its trial. May raise, also `optuna.TrialPruned`."""
        ...

    def finished(self, trial: FrozenTrial, slots: Slots) -> None:
        """Called after a trial of this process; `slots` as they are now."""
        ...

    def watch(self, slots: Slots) -> None:
        """Called now and then while others work."""
        ...


def work(work_round: Round, storage: StudyStorage, *, tell: Callable[[str], None], poll: float = 1.0) -> Slots:
    """Fill slots until the round is done; wait where others are at the last ones.

    Args:
        work_round: what to do.
        storage: of the round's study.
        tell: is given lines to print.
        poll: seconds between looks at the storage while there is nothing to do.

    Returns:
        The slots of the finished round.

    Raises:
        StudyBrokenError: several trials failed one after another.
        StorageLostError: the storage cannot be reached any more.
    """
    study, failures, waiting = work_round.study, 0, False
    while True:
        raise_if_asked()  # a library may have swallowed the exception
        fail_stale_trials(study)  # of workers that show no sign of life; their slots are free then
        with claim_lock(storage, study.study_name) as lock:
            slots = slots_of(study)
            if work_round.done(slots):
                return slots
            queued = any(t.state == TrialState.WAITING for t in slots.pending.values())
            slot = None if queued else work_round.next_slot(slots)
            if slot is not None:
                study.add_trial(work_round.template(slot, slots))
            if queued or slot is not None:
                waiting = False
                # optimize, not ask and tell: signs of life are given inside optimize only. It takes the trial that
                # waits before its function begins, which is where the lock can go.
                error = _one_trial(work_round, storage, slots, lock.release)
                failures = failures + 1 if error else 0
                if failures >= MOST_FAILURES:
                    raise StudyBrokenError(
                        f"{failures} trials failed one after another, the last with {error}. Mend the cause and repeat "
                        "the command: it goes on with the next trial."
                    )
                continue
        if not waiting:
            tell("waiting for the trials of other workers")
            waiting = True
        work_round.watch(slots)
        time.sleep(poll)


def slots_of(study: optuna.Study) -> Slots:
    """Where the study stands now."""
    return read_slots(study.get_trials(deepcopy=False))


def _one_trial(work_round: Round, storage: StudyStorage, slots: Slots, release: Callable[[], bool]) -> str | None:
    """Run the trial that waits; why it failed by itself, if it did."""
    study, number, trial_id = work_round.study, -1, -1
    stop: StorageLostError | StudyBrokenError | None = None  # what ends the work; `optimize` would go on with the next

    def objective(trial: optuna.Trial) -> float | Sequence[float]:
        nonlocal number, trial_id, stop
        number, trial_id = trial.number, trial._trial_id
        started = time.perf_counter()
        ending: tuple[str, Any] | None = None
        try:
            slot = trial.user_attrs.get(SLOT)
            if not release() or slot is None or slot in slots.finished:
                raise _ClaimLostError
            return work_round.perform(trial, slot, slots)
        except StorageLostError as error:
            started = math.inf  # nothing more can be told
            stop = error
            raise
        except optuna.TrialPruned:
            raise
        except (KeyboardInterrupt, _ClaimLostError):
            ending = (INTERRUPTED, True)
            raise
        except Exception as error:
            if stop_asked():  # what a signal raised has become another error on its way
                ending = (INTERRUPTED, True)
                raise KeyboardInterrupt from error
            if isinstance(error, OSError) and error.errno in FULL:  # no policy's fault: its slot stays free
                ending = (INTERRUPTED, True)
                stop = StudyBrokenError(
                    f"a trial met a full disk ({error}). Make room and repeat the command; finished trials are kept."
                )
                raise
            ending = (ERROR, f"{type(error).__name__}: {error}")
            raise
        finally:
            if math.isfinite(started):
                last = {"seconds": time.perf_counter() - started}
                storage.set_trial_attrs(trial._trial_id, user=last if ending is None else last | dict([ending]))

    try:
        study.optimize(objective, n_trials=1, catch=(Exception,))
    except KeyboardInterrupt:
        _give_back(study, storage, trial_id, slots)
        raise
    except Exception as error:
        lost = lost_storage(error)
        if lost is not None:
            raise lost from None
        # Ctrl-C while Optuna closes a trial ends in another error, to which it is the context.
        if stop_asked() or isinstance(error.__context__, KeyboardInterrupt):
            _give_back(study, storage, trial_id, slots)
            raise KeyboardInterrupt from None
        # A trial may have been given to another worker, as this one had shown no sign of life (a laptop that was
        # asleep). Optuna says so in several ways, all of them after the fact.
        if number < 0 or not storage.get_trial(trial_id).state.is_finished():
            raise
    if stop is not None:
        raise stop
    trials = study.get_trials(deepcopy=False)
    trial = next(t for t in reversed(trials) if t.number == number)
    if SLOT in trial.user_attrs:
        work_round.finished(trial, read_slots(trials))
    return trial.user_attrs.get(ERROR) if trial.state == TrialState.FAIL else None


def _give_back(study: optuna.Study, storage: StudyStorage, trial_id: int, before: Slots) -> None:
    """Free the slot of an interrupted trial that Optuna had no time to close, or not even to hand over (id -1)."""
    own = [trial_id]
    if trial_id < 0:  # the claim lock is still held: what has begun to run since is our own
        others = {trial._trial_id for trial in before.pending.values() if trial.state == TrialState.RUNNING}
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        own = [trial._trial_id for trial in running if trial._trial_id not in others]
    with suppress(optuna.exceptions.UpdateFinishedTrialError):
        for each in own:
            storage.set_trial_attrs(each, user={INTERRUPTED: True})
            storage.set_trial_state_values(each, TrialState.FAIL)

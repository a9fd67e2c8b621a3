"""Slots: which come next, which are done; whatever the workers do, a study ends with the same ones."""

from __future__ import annotations

import random
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from policy_search.study.slots import MOST_LOST, Slots, next_slot, read_slots


def trial(number: int, state: TrialState, **attrs: Any) -> FrozenTrial:
    made = optuna.trial.create_trial(state=state, value=1.0 if state == TrialState.COMPLETE else None, user_attrs=attrs)
    made.number = number
    return made


def test_a_slot_is_what_its_trials_made_of_it() -> None:
    slots = read_slots(
        [
            trial(0, TrialState.COMPLETE, slot=0),
            trial(1, TrialState.FAIL, slot=1, error="ValueError: no"),
            trial(2, TrialState.FAIL, slot=2),  # killed, and begun again
            trial(3, TrialState.PRUNED, slot=3),
            trial(4, TrialState.RUNNING, slot=2),
            trial(5, TrialState.FAIL, slot=4, interrupted=True),
            trial(6, TrialState.WAITING, slot=5),
            trial(7, TrialState.COMPLETE),  # nobody's
        ]
    )
    assert {slot: t.number for slot, t in slots.finished.items()} == {0: 0, 1: 1, 3: 3}
    assert {slot: t.number for slot, t in slots.pending.items()} == {2: 4, 5: 6}
    assert slots.complete == 1
    assert slots.first_free == 4


def test_a_slot_that_was_done_twice_counts_once_and_as_the_first() -> None:
    """A worker that had shown no sign of life came back, after another one had done its trial again."""
    slots = read_slots([trial(3, TrialState.COMPLETE, slot=0), trial(1, TrialState.COMPLETE, slot=0)])
    assert slots.complete == 1
    assert slots.finished[0].number == 1
    late = read_slots([trial(1, TrialState.COMPLETE, slot=0), trial(3, TrialState.RUNNING, slot=0)])
    assert late.pending == {}


def test_a_policy_that_kills_its_workers_is_given_up_and_an_impatient_user_is_no_reason() -> None:
    dead = [trial(n, TrialState.FAIL, slot=0) for n in range(MOST_LOST)]
    assert read_slots(dead[:-1]).finished == {}
    assert read_slots(dead).finished[0].number == MOST_LOST - 1
    stopped = [trial(n, TrialState.FAIL, slot=0, interrupted=True) for n in range(10)]
    assert read_slots(stopped).finished == {}


def test_only_slots_far_enough_back_are_seen() -> None:
    slots = read_slots([trial(n, TrialState.COMPLETE, slot=n) for n in (0, 1, 2, 4, 5)])
    assert list(slots.seen(5, 1)) == [0, 1, 2, 4]
    assert list(slots.seen(5, 3)) == [0, 1, 2]
    assert list(slots.seen(3, 4)) == []


def outcome(slot: int) -> TrialState:
    """What becomes of a slot, whoever fills it."""
    return (TrialState.COMPLETE, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)[slot * 7 % 4]


def simulate(workers: int, parallel: int, wanted: int, seed: int) -> dict[int, FrozenTrial]:
    """Workers that claim, take their time, and die now and then; the finished slots at the end."""
    dice = random.Random(seed)
    trials: list[FrozenTrial] = []
    busy: list[int] = []
    for _ in range(10_000):
        slots = read_slots(trials)
        assert slots.complete <= wanted
        assert all(slot - min(slots.pending, default=slot) < parallel for slot in slots.pending)
        if slots.complete == wanted:
            assert not slots.pending
            return dict(slots.finished)
        slot = next_slot(slots, wanted, parallel) if len(busy) < workers else None
        if slot is not None and dice.random() < 0.7:
            assert all(n in slots.finished for n in range(slot - parallel + 1))  # all that it may see is there
            trials.append(trial(len(trials), TrialState.RUNNING, slot=slot))
            busy.append(len(trials) - 1)
        elif busy:
            number = busy.pop(dice.randrange(len(busy)))
            slot = trials[number].user_attrs["slot"]
            died = dice.random() < 0.1
            error = {} if died or outcome(slot) != TrialState.FAIL else {"error": "no"}
            trials[number] = trial(number, TrialState.FAIL if died else outcome(slot), slot=slot, **error)
            if died:
                trials[number].user_attrs["interrupted"] = True
    raise AssertionError("the study does not end")


@pytest.mark.parametrize("parallel", [1, 3, 8])
def test_any_number_of_workers_fills_the_same_slots_and_completes_exactly_what_was_wanted(parallel: int) -> None:
    alone = simulate(1, parallel, 20, 0)
    assert sum(t.state == TrialState.COMPLETE for t in alone.values()) == 20
    for seed in range(1, 25):
        shared = simulate(1 + seed % 9, parallel, 20, seed)
        assert {s: t.state for s, t in shared.items()} == {s: t.state for s, t in alone.items()}


def test_nothing_is_begun_that_may_not_be_needed() -> None:
    done = [trial(n, TrialState.COMPLETE, slot=n) for n in range(3)]
    under_way = trial(3, TrialState.RUNNING, slot=3)
    assert next_slot(read_slots([*done, under_way]), 4, 8) is None
    assert next_slot(read_slots([*done, under_way]), 5, 8) == 4
    assert next_slot(Slots({}, {}), 1, 1) == 0

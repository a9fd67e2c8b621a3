"""Hyperband for one slot, against Optuna's own pruner in a plain study that goes through the same trials in turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import optuna
import pytest
from optuna.pruners import HyperbandPruner
from optuna.trial import FrozenTrial, TrialState, create_trial

from policy_search.study.halving import Halving

SHARES = (0.25, 0.5)
NAME = "demo/A172 seed 0"
Direction = Literal["maximize", "minimize"]
Curve = Callable[[int], tuple[float, float, float]]  # slot -> the value at 25, 50 and 100 percent


def curves(seed: int, slots: int) -> Curve:
    """Noisy on the way, better known at the end."""
    rng = np.random.default_rng(seed)
    final = rng.normal(size=slots)
    noise = rng.normal(size=(slots, 2)) * (0.8, 0.4)
    return lambda slot: (final[slot] + noise[slot, 0], final[slot] + noise[slot, 1], final[slot])


def by_halving(
    curve: Curve, slots: int, direction: Direction, *, lag: int = 0, kept: frozenset[int] = frozenset()
) -> dict[int, FrozenTrial]:
    """Every slot in turn sees those up to `lag` slots before it; `kept` ones go on whatever they are told."""
    trials: dict[int, FrozenTrial] = {}
    for slot in range(slots):
        halving = Halving({k: t for k, t in trials.items() if k < slot - lag}, slot, direction, name=NAME)
        values = curve(slot)
        told = []
        for share, value in zip(SHARES, values, strict=False):
            told.append((round(100 * share), value))
            if halving.stop(share, value) and slot not in kept:
                trials[slot] = create_trial(
                    state=TrialState.PRUNED, intermediate_values=dict(told), system_attrs=halving.rungs
                )
                break
        else:
            trials[slot] = create_trial(value=values[2], intermediate_values=dict(told), system_attrs=halving.rungs)
    return trials


def by_optuna(curve: Curve, slots: int, direction: Direction, kept: frozenset[int] = frozenset()) -> list[FrozenTrial]:
    pruner = HyperbandPruner(min_resource=25, max_resource=100, reduction_factor=2)
    study = optuna.create_study(study_name=NAME, direction=direction, pruner=pruner)

    def objective(trial: optuna.Trial) -> float:
        values = curve(trial.number)
        for share, value in zip(SHARES, values, strict=False):
            trial.report(value, round(100 * share))
            if trial.should_prune() and trial.number not in kept:
                raise optuna.TrialPruned
        return values[2]

    study.optimize(objective, n_trials=slots)
    return study.trials


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize("kept", [frozenset[int](), frozenset(range(12))])
def test_equal_to_optunas_own_study(direction: Direction, kept: frozenset[int]) -> None:
    curve = curves(0, 60)
    found, wanted = by_halving(curve, 60, direction, kept=kept), by_optuna(curve, 60, direction, kept)
    assert [found[k].state for k in range(60)] == [t.state for t in wanted]
    assert [found[k].system_attrs for k in range(60)] == [t.system_attrs for t in wanted]
    states = [t.state for t in wanted]
    assert 10 < states.count(TrialState.PRUNED) < 40
    assert TrialState.PRUNED not in [states[k] for k in kept]


def test_the_worse_half_is_given_up_in_either_direction() -> None:
    """In the bracket that is judged at a quarter, a value worse than all seen is stopped, and a better one goes on."""
    seen = {k: create_trial(value=0.0, system_attrs={"completed_rung_0": float(k)}) for k in range(30)}
    brackets = set()
    for slot in range(30, 60):
        told = {
            direction: [Halving(seen, slot, direction, name=NAME).stop(0.25, value) for value in (-1.0, 31.0)]
            for direction in ("maximize", "minimize")
        }
        brackets.add(str(told))
    judged = {"maximize": [True, False], "minimize": [False, True]}
    let_go = {"maximize": [False, False], "minimize": [False, False]}
    assert brackets == {str(judged), str(let_go)}


def first_bracket() -> int:
    """A slot that is judged at a quarter."""
    return next(slot for slot in range(100) if Halving({}, slot, "maximize", name=NAME).stop(0.25, float("nan")))


def test_rungs_are_what_was_reported() -> None:
    slot = first_bracket()
    halving = Halving({}, slot, "maximize", name=NAME)
    assert halving.rungs == {}
    assert not halving.stop(0.1, 0.1)
    assert halving.rungs == {}
    assert not halving.stop(0.25, 0.2)  # the first of its bracket
    assert halving.rungs == {"completed_rung_0": 0.2}
    assert not halving.stop(0.5, 0.3)
    assert halving.rungs == {"completed_rung_0": 0.2, "completed_rung_1": 0.3}


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_a_value_that_is_no_number_is_given_up_and_judges_nobody(direction: Direction) -> None:
    halving = Halving({}, first_bracket(), direction, name=NAME)
    assert halving.stop(0.25, float("nan"))
    assert halving.rungs == {}


def test_the_bracket_depends_on_slot_and_name_alone() -> None:
    def judged(seen: dict[int, FrozenTrial], name: str) -> list[bool]:
        return [
            Halving({k: t for k, t in seen.items() if k < slot}, slot, "maximize", name=name).stop(0.25, float("nan"))
            for slot in range(60)
        ]

    some = {k: create_trial(value=1.0, system_attrs={"completed_rung_0": 1.0}) for k in (1, 4, 17, 30)}
    assert judged({}, NAME) == judged(some, NAME)
    assert judged({}, NAME) != judged({}, "another study")
    assert 0.2 < np.mean(judged({}, NAME)) < 0.6  # 4 of 10 in the long run


def test_equal_outcomes_give_equal_decisions_whatever_their_order() -> None:
    trials = by_halving(curves(3, 40), 40, "maximize", lag=3)
    slot, backwards = 43, dict(reversed(trials.items()))
    one, other = (Halving(seen, slot, "maximize", name=NAME) for seen in (trials, backwards))
    for share, value in ((0.25, 0.1), (0.5, 0.4)):
        assert one.stop(share, value) == other.stop(share, value)
    assert one.rungs == other.rungs


def test_what_was_seen_is_not_changed() -> None:
    trials = by_halving(curves(4, 20), 20, "maximize")
    before = {k: dict(t.system_attrs) for k, t in trials.items()}
    Halving(trials, 20, "maximize", name=NAME).stop(0.5, 0.0)
    assert {k: t.system_attrs for k, t in trials.items()} == before


@pytest.mark.parametrize("share", [0.0, -0.5, 1.2])
def test_shares_are_checked(share: float) -> None:
    with pytest.raises(ValueError, match=r"lies in \(0, 1\]"):
        Halving({}, 0, "maximize", name=NAME).stop(share, 0.5)

"""Plans of slots: the same for the same outcomes, complete, and learning within every family."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.samplers import TPESampler
from optuna.trial import FixedTrial, FrozenTrial, TrialState, create_trial

from policy_search.study.planning import LEAST_TRIALS, Planned, draw_family, draw_parameters, plan
from policy_search.study.space import FAMILIES, Space, propose, queue

ONE: tuple[Any, ...] = ("maximize",)
TWO: tuple[Any, ...] = ("maximize", "minimize")
SPACES = [Space(), Space(per_transform=True)]
Score = Callable[[Mapping[str, Any]], float]


def trial_of(params: Mapping[str, Any], space: Space, values: list[float] | None, **more: Any) -> FrozenTrial:
    kinds = {"family": CategoricalDistribution(FAMILIES), **space.distributions(params["family"])} if params else {}
    state = TrialState.FAIL if values is None else TrialState.COMPLETE
    return create_trial(**{"state": state, "params": dict(params), "distributions": kinds, "values": values, **more})


def study(slots: int, seed: int, space: Space, directions: tuple[Any, ...], lag: int = 3) -> dict[int, FrozenTrial]:
    """Every slot sees those up to `lag` slots before it; a fifth of the later ones fails or is pruned."""
    rng = np.random.default_rng(seed)
    trials: dict[int, FrozenTrial] = {}
    for slot in range(slots):
        seen = {k: t for k, t in trials.items() if k < slot - lag}
        params = plan(seen, slot, seed=seed, directions=directions, space=space).params
        values = [float(v) for v in rng.normal(size=len(directions))]
        luck = rng.random() if slot >= 12 else 1.0
        if luck < 0.1:
            trials[slot] = trial_of(params, space, None)
        elif luck < 0.2 and len(directions) == 1:
            told = {25: values[0]}
            trials[slot] = trial_of(params, space, None, state=TrialState.PRUNED, intermediate_values=told)
        else:
            trials[slot] = trial_of(params, space, values)
    return trials


@pytest.mark.parametrize("space", SPACES)
def test_the_queue_comes_first_whatever_is_seen(space: Space) -> None:
    for slot, queued in enumerate(queue(space)):
        seen = {k: trial_of(queue(space)[k].params, space, [0.5]) for k in range(slot)}
        for visible in ({}, seen):
            assert plan(visible, slot, seed=1, directions=ONE, space=space) == Planned(queued.params, queued.baseline)


@pytest.mark.parametrize("directions", [ONE, TWO])
@pytest.mark.parametrize("space", SPACES)
def test_plans_are_complete_and_of_plain_types(space: Space, directions: tuple[Any, ...]) -> None:
    trials = study(70, 0, space, directions)
    for slot, trial in trials.items():
        if slot < 12:
            continue
        params = trial.params
        proposal = propose(FixedTrial(params), slot, space)
        assert proposal.family == params["family"]
        kinds = space.distributions(params["family"])
        assert params.keys() == {"family", *kinds}
        for name, kind in kinds.items():
            assert type(params[name]) is (int if isinstance(kind, IntDistribution) else float)
            assert kind.low <= params[name] <= kind.high  # type: ignore[attr-defined]
    assert {t.params["family"] for k, t in trials.items() if k >= 12} == set(FAMILIES)
    assert len({str(t.params) for k, t in trials.items() if k >= 12}) == 58


@pytest.mark.parametrize("directions", [ONE, TWO])
def test_equal_outcomes_give_equal_plans_whatever_their_order(directions: tuple[Any, ...]) -> None:
    space = Space()
    trials = study(45, 1, space, directions)
    assert {k: t.params for k, t in study(45, 1, space, directions).items()} == {k: t.params for k, t in trials.items()}
    for of in (lambda planned: planned.params["family"], lambda planned: planned.params):
        assert len({str(of(plan(trials, 50, seed=k, directions=directions, space=space))) for k in range(40)}) > 1
    for slot in (45, 46, 47, 48):
        shuffled = list(trials.items())
        random.Random(slot).shuffle(shuffled)
        one, other = (plan(seen, slot, seed=5, directions=directions, space=space) for seen in (trials, dict(shuffled)))
        assert one == other


def test_nothing_but_outcome_and_parameters_of_the_seen_slots_matters() -> None:
    space = Space()
    trials = study(45, 3, space, ONE)
    # Another storage: other numbers, times, attributes.
    elsewhere = {
        k: trial_of(
            t.params, space, t.values, state=t.state, intermediate_values=t.intermediate_values,
            user_attrs={"seconds": k}, system_attrs={"policy_search:policy": "x"},
        )
        for k, t in trials.items()
    }  # fmt: skip
    for k, t in elsewhere.items():
        t.number = 1000 - k
    wanted = [plan(trials, slot, seed=4, directions=ONE, space=space) for slot in range(45, 60)]
    assert [plan(elsewhere, slot, seed=4, directions=ONE, space=space) for slot in range(45, 60)] == wanted
    # Fewer seen, another plan; Optuna's global state, and a plan in between, change none.
    fewer = {k: t for k, t in trials.items() if k < 30}
    assert [plan(fewer, slot, seed=4, directions=ONE, space=space) for slot in range(45, 60)] != wanted
    with pytest.raises(ValueError, match="slot 20 may see earlier slots only, found 44"):
        plan(trials, 20, seed=4, directions=ONE, space=space)
    assert optuna.logging.get_verbosity() == optuna.logging.INFO


def test_failed_trials_teach_no_values_but_count_as_tried() -> None:
    space = Space()
    trials = list(study(40, 6, space, ONE).values())
    failed = [trial_of({"family": "searched", **_middle(space, "searched")}, space, None) for _ in range(20)]
    seeds = [np.random.SeedSequence([0, k]) for k in range(20)]
    for s in seeds:
        assert draw_parameters("searched", trials + failed, s, ONE, space) == draw_parameters(
            "searched", trials, s, ONE, space
        )
    # A family of which every trial fails is not tried for ever: after the least number it is one among others.
    tried = [t for t in trials if t.params.get("family") != "choice_searched"]
    lost = {"family": "choice_searched", **_middle(space, "choice_searched")}
    short = [draw_family([*tried, trial_of(lost, space, None)], s, ONE) for s in seeds]
    enough = [draw_family([*tried, *[trial_of(lost, space, None)] * LEAST_TRIALS], s, ONE) for s in seeds]
    assert short == ["choice_searched"] * 20
    assert enough.count("choice_searched") < 20


def test_pruned_trials_teach_and_those_that_got_further_are_the_better_ones() -> None:
    space, rng = Space(), np.random.default_rng(9)
    trials = [trial_of({"family": "stacked", "stacked.p": 0.25}, space, [1.0])]
    for k in range(40):
        step, p = ((50, 0.2), (25, 0.8))[k % 2]
        params = {"family": "stacked", "stacked.p": p + float(rng.uniform(-0.1, 0.1))}
        told = {step: float(rng.uniform())}
        trials.append(trial_of(params, space, None, state=TrialState.PRUNED, intermediate_values=told))
    drawn = [draw_parameters("stacked", trials, np.random.SeedSequence(k), ONE, space) for k in range(40)]
    assert np.mean([params["stacked.p"] < 0.45 for params in drawn]) > 0.9


def _middle(space: Space, family: str) -> dict[str, Any]:
    return {
        name: 4 if isinstance(kind, IntDistribution) else (kind.low + kind.high) / 2  # type: ignore[attr-defined]
        for name, kind in space.distributions(family).items()
    }


def test_families_without_trials_are_tried_before_families_are_compared() -> None:
    space = Space()
    first = [trial_of(q.params, space, [0.5]) for q in queue(space)]
    drawn = [draw_family(first, np.random.SeedSequence([7, k]), ONE) for k in range(400)]
    # One searched trial, three stacks and seven choices are there: one, two and two are lacking.
    shares = {family: drawn.count(family) / 400 for family in FAMILIES}
    assert shares == pytest.approx(
        {"searched": 0.2, "stacked": 0, "choice": 0, "stacked_searched": 0.4, "choice_searched": 0.4}, abs=0.07
    )


def best_is(family: str) -> list[FrozenTrial]:
    """Twenty trials of each family, those of one always better."""
    rng = np.random.default_rng(0)
    space, trials = Space(), []
    for k in range(100):
        params = {"family": FAMILIES[k % 5], **_middle(space, FAMILIES[k % 5])}
        trials.append(trial_of(params, space, [float(rng.uniform()) + (params["family"] == family)]))
    return trials


@pytest.mark.parametrize("family", FAMILIES)
def test_the_better_family_is_drawn_most_and_none_dies_out(family: str) -> None:
    trials = best_is(family)
    drawn = [draw_family(trials, np.random.SeedSequence([8, k]), ONE) for k in range(400)]
    shares = {name: drawn.count(name) / 400 for name in FAMILIES}
    assert shares[family] > 0.7
    assert min(shares.values()) > 0.003


OPTIMUM = {
    "stacked": {"stacked.p": 0.3},
    "searched": {
        "searched.sub_policies": 5, "searched.distance": 4.0, "searched.floor": 0.2, "searched.variety": 0.7,
    },
}  # fmt: skip


def distance(params: Mapping[str, Any], space: Space) -> float:
    """From the family's optimum: root mean square over its parameters, each scaled to 0 … 1 as it is drawn."""
    family = params["family"]
    gaps = []
    for name, kind in space.distributions(family).items():
        values = np.array([params[name], OPTIMUM[family][name], kind.low, kind.high])  # type: ignore[attr-defined]
        value, best, low, high = np.log(values) if kind.log else values  # type: ignore[attr-defined]
        gaps.append((value - best) / (high - low))
    return float(np.sqrt(np.mean(np.square(gaps))))


def taken_in_turn(weak: str, better: str, seed: int, slots: int, by_planning: bool) -> float:
    """Two families in turn, one better by 1: mean distance of the weak one's last eight proposals from its optimum."""
    space, rng = Space(), np.random.default_rng(seed)
    sampler = TPESampler(seed=seed, multivariate=True, group=True, n_startup_trials=10)
    plain = optuna.create_study(direction="maximize", sampler=sampler)
    trials: list[FrozenTrial] = []
    for slot in range(slots):
        family = weak if slot % 2 else better
        if by_planning:
            params = draw_parameters(family, trials, np.random.SeedSequence([seed, slot]), ONE, space)
        else:
            plain.enqueue_trial({"family": family})
            asked = plain.ask()
            propose(asked, slot, space)
            params = asked.params
        value = float((family == better) - distance(params, space) + 0.03 * rng.normal())
        trials.append(trial_of(params, space, [value]))
        if not by_planning:
            plain.tell(asked, value)
    return float(np.mean([distance(t.params, space) for t in trials if t.params["family"] == weak][-8:]))


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize(("weak", "better"), [("stacked", "searched"), ("searched", "stacked")])
def test_a_weak_family_learns_as_well_as_any(weak: str, better: str) -> None:
    """With as many trials of the weak family: one TPE over the whole space proposes no better than chance there."""
    ours, plain = ([taken_in_turn(weak, better, seed, 60, by) for seed in range(5)] for by in (True, False))
    assert np.mean(ours) < 0.22
    assert np.mean(ours) < 0.7 * np.mean(plain)


def test_two_directions_are_learnt_together() -> None:
    """Best at 0.2 for one and at 0.5 for the other metric: what lies between is on the front, three tenths of all."""
    space = Space()
    trials: list[FrozenTrial] = []
    for slot in range(50):
        params = draw_parameters("stacked", trials, np.random.SeedSequence([1, slot]), TWO, space)
        p = params["stacked.p"]
        trials.append(trial_of(params, space, [-((p - 0.2) ** 2), (p - 0.5) ** 2]))
    late = [t.params["stacked.p"] for t in trials[-25:]]
    assert np.mean([0.15 <= p <= 0.55 for p in late]) > 0.75
    assert min(late) < 0.3 < 0.4 < max(late)


def test_in_a_study_no_family_is_forgotten() -> None:
    """One family is better by far from the start; the others still get their trials in the second half."""
    space, trials, lag = Space(), dict[int, FrozenTrial](), 3
    for slot in range(120):
        seen = {k: t for k, t in trials.items() if k < slot - lag}
        params = plan(seen, slot, seed=0, directions=ONE, space=space).params
        trials[slot] = trial_of(params, space, [float(params.get("family") == "choice") + slot % 7 / 10])
    late = [t.params["family"] for k, t in trials.items() if k >= 60]
    assert min(late.count(family) for family in FAMILIES) >= 1
    assert late.count("choice") > 30

"""The standing of a study: who leads, by how much, and the Pareto front."""

from __future__ import annotations

import itertools

import numpy as np
import optuna
import pytest

from policy_search.study.standing import Entry, Standing, standing


def entry(number, name="p", values=(0.5,), *, baseline=False, state="complete", family="stacked"):
    return Entry(number, state, name, family, baseline, values)


def one(*entries, direction="maximize"):
    return Standing(("score",), (direction,), entries)


@pytest.mark.parametrize(("direction", "best", "rival"), [("maximize", "high", "flip"), ("minimize", "low", "none")])
def test_best_and_rival_follow_the_direction(direction, best, rival):
    stand = one(
        entry(0, "none", (0.3,), baseline=True),
        entry(1, "high", (0.9,)),
        entry(2, "flip", (0.5,), baseline=True),
        entry(3, "low", (0.1,)),
        entry(4, "lost", None, state="fail"),
        direction=direction,
    )
    assert (stand.best().name, stand.rival().name) == (best, rival)
    assert stand.count("complete") == 4


def test_equal_scores_stay_in_order_and_nothing_leads_an_empty_study():
    assert [e.number for e in one(entry(3), entry(1), entry(2)).ranked()] == [1, 2, 3]
    assert one(entry(0, values=None, state="running")).best() is None


def test_gain_is_positive_where_better():
    stand = Standing(("a", "b"), ("maximize", "minimize"), ())
    assert stand.gain((3.0, 3.0), (1.0, 1.0)) == (2.0, -2.0)


@pytest.mark.parametrize("directions", list(itertools.product(("maximize", "minimize"), repeat=2)))
def test_front_is_optunas(directions):
    """Optuna's own front over random points, ties and doubles among them."""
    rng = np.random.default_rng(5)
    study = optuna.create_study(directions=directions)
    for values in rng.integers(0, 6, (40, 2)).astype(float):
        study.add_trial(optuna.trial.create_trial(values=values.tolist()))
    stand = standing(study.trials, ("a", "b"), directions)
    assert {e.values for e in stand.front()} == {tuple(t.values) for t in study.best_trials}
    assert len({e.values for e in stand.front()}) == len(stand.front())


def test_interrupted_trials_and_the_one_left_out_do_not_count():
    study = optuna.create_study()
    for attrs in ({}, {"error": "ValueError: no"}):
        study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.FAIL, user_attrs=attrs))
    study.add_trial(optuna.trial.create_trial(value=1.0))
    study.ask()
    stand = standing(study.trials, ("a",), ("minimize",), without=3)
    assert [(e.number, e.state) for e in stand.entries] == [(1, "fail"), (2, "complete")]

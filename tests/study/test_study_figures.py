"""The dashboard's own figures are valid Plotly and show the standing."""

from __future__ import annotations

import json

import plotly.graph_objects as go
import pytest

from policy_search.study.standing import Entry, Standing
from policy_search.study.study_figures import study_figures


def entry(number, name, family, values, domains=None):
    return Entry(number, "complete", name, family, family == "naive", values, domains or {})


@pytest.fixture
def single():
    entries = (
        entry(0, "none", "naive", (0.5,), {"blur": 0.5}),
        entry(1, "crop", "naive", (0.6,), {"blur": 0.6}),
        entry(2, "a", "stacked", (0.4,)),
        entry(3, "b", "odd family", (0.7,), {"blur": 0.7, "noise": 0.1}),
        entry(4, "c", "stacked", (0.65,)),
        Entry(5, "pruned", "d", "stacked", False, None),
    )
    return Standing(("matched",), ("maximize",), entries)


def traces(text):
    """Through Plotly's own checks."""
    return {trace.name: trace for trace in go.Figure(json.loads(text)).data}


def test_scores_by_family_with_the_baselines_as_lines(single):
    found = traces(study_figures(single)["scores"])
    assert tuple(found["stacked"].x) == (2, 4)
    assert tuple(found["stacked"].y) == (0.4, 0.65)
    assert tuple(found["none"].y) == (0.5, 0.5)
    assert tuple(found["best naive: crop"].y) == (0.6, 0.6)
    assert (tuple(found["best learnt so far"].x), tuple(found["best learnt so far"].y)) == ((2, 3, 4), (0.4, 0.7, 0.7))
    assert found["odd family"].marker.color not in (found["stacked"].marker.color, found["naive"].marker.color)


def test_the_best_so_far_falls_where_low_is_better(single):
    found = traces(study_figures(Standing(("loss",), ("minimize",), single.entries))["scores"])
    assert tuple(found["best learnt so far"].y) == (0.4, 0.4)
    assert "best naive: crop" not in found


def test_domains_of_the_leader_beside_the_naive_ones(single):
    found = traces(study_figures(single)["domains"])
    assert {name: tuple(bar.y) for name, bar in found.items()} == {"none": (0.5,), "crop": (0.6,), "b": (0.7, 0.1)}


def test_several_metrics_give_the_front(single):
    entries = (
        entry(0, "a", "stacked", (1.0, 3.0)),
        entry(1, "b", "choice", (2.0, 2.0)),
        entry(2, "c", "x", (1.0, 1.0)),
    )
    figures = study_figures(Standing(("affinity", "diversity"), ("maximize",) * 2, entries))
    front = traces(figures["pareto"])["Pareto front"]
    assert set(zip(front.x, front.y, strict=True)) == {(1.0, 3.0), (2.0, 2.0)}


def test_no_score_no_figure_and_many_trials_a_small_one():
    assert study_figures(Standing(("m",), ("maximize",), ())) == {}
    many = tuple(entry(i, f"stacked_t{i:03d}", "stacked", (0.5 + i / 1e5,)) for i in range(2000))
    assert len(study_figures(Standing(("m",), ("maximize",), many))["scores"]) < 60_000

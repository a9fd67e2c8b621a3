"""The hand-made SVG of losses: its numbers, its ticks, and that it is XML."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET

import pytest

from policy_search.study.loss_figure import LEFT, MOST_POINTS, RIGHT, WIDTH, loss_svg, nice_ticks, thinned

SVG = "{http://www.w3.org/2000/svg}"


def curves(svg):
    """Points of the data paths (legend marks and axes have other forms)."""
    found = []
    for path in ET.fromstring(svg).iter(f"{SVG}path"):
        if "L" in path.get("d") or "h.5" in path.get("d"):
            found.append([(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.-]+) ([\d.-]+)", path.get("d"))])
    return found


def words(svg):
    return ["".join(text.itertext()) for text in ET.fromstring(svg).iter(f"{SVG}text")]


def test_points_stand_where_their_values_say():
    """Affine in both directions: three values, the middle one a quarter of the way up."""
    (points,) = curves(loss_svg({"probe": (0.0, 1.0, 4.0)}))
    (x0, y0), (x1, y1), (x2, y2) = points
    assert (x0, x2) == pytest.approx((LEFT, WIDTH - RIGHT), abs=0.1)
    assert x1 == pytest.approx((x0 + x2) / 2, abs=0.1)
    assert (y0 - y1) / (y0 - y2) == pytest.approx(0.25, abs=0.01)
    assert y2 < y0  # larger is higher up


def test_stages_have_panels_and_series_a_legend():
    svg = loss_svg({"search: distance": [1, 2], "search: spread": [2, 3], "probe": [1, 0]})
    assert len(curves(svg)) == 3
    assert {"distance", "spread", "probe"} <= set(words(svg))
    assert [w for w in words(svg) if "(" in w] == ["search (critic's units)", "training (loss)"]


def test_the_axis_counts_steps_only_where_they_are_known():
    svg = loss_svg({"probe": [3.0, 1.0]}, steps={"probe": (-60, 199)})
    assert "gradient step" in words(svg)
    assert {"-50", "0", "50", "100", "150"} <= set(words(svg))
    assert "% of the training" in words(loss_svg({"probe": [3.0, 1.0]}))


def test_names_are_escaped():
    assert "a<b & c" in words(loss_svg({"a<b & c": [1.0, 2.0]}))


def test_gaps_break_the_line_and_nothing_finite_is_refused():
    svg = loss_svg({"probe": [1.0, math.nan, 3.0, 2.0]})
    assert len(curves(svg)[0]) == 3
    assert len(re.findall(r"M[\d.]+ [\d.]+h\.5", svg)) == 2
    assert "nan" not in svg
    assert "nan" not in loss_svg({"flat": [2.0, 2.0], "short": [1.0]})
    with pytest.raises(ValueError, match="no finite loss"):
        loss_svg({"probe": [math.inf], "other": []})


def test_long_curves_are_means_of_their_runs():
    pairs = thinned([float(i) for i in range(1000)])
    assert len(pairs) <= MOST_POINTS
    assert all(place == pytest.approx(value) for place, value in pairs)  # of a straight line, the mean is the middle
    assert thinned([1.0, math.nan, 3.0, 5.0], most=2) == [(0.5, 1.0), (2.5, 4.0)]


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(0, 1, [0, 0.5, 1]), (-3, 12, [0, 5, 10]), (0.011, 0.029, [0.015, 0.02, 0.025])]
)
def test_ticks_are_round_and_inside(low, high, expected):
    assert nice_ticks(low, high, 3) == pytest.approx(expected)


def test_same_losses_same_picture():
    losses = {"probe": [1.0, 0.5, 0.25]}
    assert loss_svg(losses) == loss_svg(dict(losses))

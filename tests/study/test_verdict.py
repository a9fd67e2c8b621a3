"""The judgement on hand-made scores."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from policy_search.study.finals import choose
from policy_search.study.report import TrialRow
from policy_search.study.verdict import Finalist, judge, paired_interval


def finalist(name: str, *scores: float, baseline: bool = False) -> Finalist:
    return Finalist(name, "naive" if baseline else "choice", name, baseline, scores)


def test_interval_is_the_one_sample_t_interval() -> None:
    values = [0.1, 0.3, 0.2, 0.25]
    wanted = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert paired_interval(values) == pytest.approx((np.mean(values), wanted.low, wanted.high))
    wider = stats.ttest_1samp(values, 0).confidence_interval(1 - 0.05 / 3)
    assert paired_interval(values, comparisons=3)[1:] == pytest.approx((wider.low, wider.high))
    with pytest.raises(ValueError, match="at least 2"):
        paired_interval([0.1])


def test_a_clear_winner() -> None:
    verdict = judge(
        [
            finalist("a", 0.30, 0.41, 0.52),
            finalist("b", 0.20, 0.20, 0.20),
            finalist("flip", 0.20, 0.31, 0.42, baseline=True),
            finalist("none", 0.10, 0.10, 0.10, baseline=True),
        ]
    )
    assert verdict.winner.name == "a"
    assert verdict.reference.name == "flip"
    assert verdict.beats
    assert (verdict.margin, verdict.low, verdict.high) == pytest.approx((0.1, 0.1, 0.1))
    assert "It beats the best baseline" in verdict.sentence


def test_pairs_are_what_counts() -> None:
    """Scores overlap widely between the seeds, the difference at one seed is steady; and the other way round."""
    steady = judge([finalist("a", 0.1, 0.5, 0.9), finalist("none", 0.08, 0.479, 0.881, baseline=True)])
    assert steady.beats
    shuffled = judge([finalist("a", 0.1, 0.5, 0.9), finalist("none", 0.881, 0.08, 0.479, baseline=True)])
    assert not shuffled.beats
    assert shuffled.margin == pytest.approx(steady.margin)


def test_ahead_by_less_than_the_interval_is_said_plainly() -> None:
    verdict = judge([finalist("a", 0.30, 0.20, 0.40), finalist("none", 0.28, 0.25, 0.30, baseline=True)])
    assert verdict.winner.name == "a"
    assert not verdict.beats
    assert verdict.low < 0 < verdict.margin
    assert "Nothing beats the baseline by more than the interval" in verdict.sentence


def test_the_baseline_wins_when_it_is_better_or_equal() -> None:
    for scores in ((0.1, 0.2), (0.3, 0.3)):
        verdict = judge([finalist("a", *scores), finalist("flip", 0.3, 0.3, baseline=True)])
        assert verdict.winner.name == "flip"
        assert not verdict.beats
        assert "best.json is that baseline" in verdict.sentence


def test_no_learnt_policy() -> None:
    verdict = judge([finalist("none", 0.1, 0.2, baseline=True)])
    assert verdict.challenger is None
    assert verdict.winner.name == "none"
    assert "No learnt policy finished" in verdict.sentence


def test_more_candidates_need_more_proof() -> None:
    scores = (0.30, 0.33, 0.315)
    reference = finalist("none", 0.29, 0.31, 0.30, baseline=True)
    assert (
        judge([finalist("a", *scores), reference]).low
        > judge([finalist("a", *scores), finalist("b", 0, 0, 0), finalist("c", 0, 0, 0), reference]).low
    )


def test_smaller_can_be_better() -> None:
    verdict = judge([finalist("a", 0.10, 0.21), finalist("none", 0.30, 0.40, baseline=True)], direction="minimize")
    assert verdict.winner.name == "a"
    assert verdict.margin == pytest.approx(0.195)


def row(number: int, name: str, score: float | None, *, baseline: bool = False, digest: str | None = None) -> TrialRow:
    family = "naive" if baseline else "choice"
    return TrialRow(number, "complete", name, family, baseline, digest or name, score, {}, 1.0, None, None)


def test_second_round_takes_the_best_of_both_kinds_once_each() -> None:
    rows = [
        row(5, "a", 0.9),
        row(6, "a again", 0.9, digest="a"),
        row(1, "flip", 0.8, baseline=True),
        row(7, "flip found again", 0.8, digest="flip"),
        row(8, "b", 0.7),
        row(2, "crop", 0.6, baseline=True),
        row(0, "none", 0.5, baseline=True),
        row(9, "failed", None),
    ]
    assert [r.name for r in choose(rows, 2)] == ["a", "b", "flip", "none"]
    assert [r.name for r in choose(rows, 3)] == ["a", "b", "flip", "crop", "none"]
    assert [r.name for r in choose(rows, 1)] == ["a", "flip", "none"]
    assert [r.name for r in choose(rows[:1], 3)] == ["a", "none"]

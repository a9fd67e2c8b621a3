"""A study in which something cannot be scored."""

from __future__ import annotations

import json

import pytest

from policy_search.augment import PolicyDocument
from policy_search.study.objective import Report, Score
from policy_search.study.worker import StudyBrokenError
from tests.study.rules import Rule, Run, log


def test_a_failing_trial_does_not_stop_the_study(study: Run) -> None:
    outcome = study(Rule(fail="flip"))
    rows = {row["name"]: row for row in log(outcome)}
    assert rows["flip"]["state"] == "fail"
    assert rows["flip"]["error"] == "RuntimeError: out of luck"
    assert rows["flip"]["score"] is None
    assert sum(row["state"] == "complete" for row in log(outcome)) == 14
    assert "RuntimeError: out of luck" in (outcome.folder / "report.md").read_text()
    assert "flip" not in [f.name for f in outcome.finalists]


def test_a_finalist_that_fails_on_a_fresh_seed_is_left_out(study: Run) -> None:
    class FailsLater(Rule):
        def score(self, document: PolicyDocument, *, seed: int, report: Report | None = None) -> Score:
            if report is None and document.name in ("none", "searched_t002"):
                raise RuntimeError("not this time")
            return super().score(document, seed=seed, report=report)

    outcome = study(FailsLater(), trials=4)
    assert {f.name for f in outcome.finalists} == {"random_choice", "stacked_p0.5"}
    assert "not this time" in (outcome.folder / "report.md").read_text()


def test_nothing_that_can_be_scored_is_an_error_with_the_reason(study: Run) -> None:
    class Hopeless(Rule):
        def score(self, document: PolicyDocument, *, seed: int, report: Report | None = None) -> Score:
            raise RuntimeError("no memory")

    with pytest.raises(StudyBrokenError, match=r"6 trials failed one after another.*no memory.*repeat the command"):
        study(Hopeless(), "broken", trials=2)
    # The cause is mended: it goes on behind the trials that failed.
    outcome = study(Rule(), "broken", trials=2)
    assert [row["state"] for row in log(outcome)] == ["fail"] * 6 + ["complete"] * 2
    assert outcome.best.provenance.family == "naive"


def test_no_naive_strategy_in_the_second_round_is_an_error_with_the_reason(study: Run) -> None:
    class OnlyOnce(Rule):
        def score(self, document: PolicyDocument, *, seed: int, report: Report | None = None) -> Score:
            if report is None:
                raise RuntimeError("no memory")
            return super().score(document, seed=seed, report=report)

    with pytest.raises(StudyBrokenError, match=r"no naive strategy could be scored.*no memory"):
        study(OnlyOnce(), trials=2, final_seeds=2)


def test_a_score_that_is_not_finite_is_a_failure(study: Run) -> None:
    class NotANumber(Rule):
        def score(self, document: PolicyDocument, *, seed: int, report: Report | None = None) -> Score:
            score = super().score(document, seed=seed)
            return score if document.name != "random_choice" else Score((float("nan"),))

    outcome = study(NotANumber(), trials=4)
    assert [row["state"] for row in log(outcome)] == ["complete", "fail", "complete", "complete", "complete"]
    assert "nan" in log(outcome)[1]["error"]
    json.loads(outcome.best_path.read_text())

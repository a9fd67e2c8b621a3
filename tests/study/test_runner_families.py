"""What a study tries: several metrics, families over searched policies and over targets, what a slot may see."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from policy_search.augment import load_policy
from policy_search.cells.errors import InputError
from policy_search.study import runner
from tests.conftest import write_livecell
from tests.study.rules import Rule, Run, Twofold, log
from tests.study.test_artifacts import note_of


def test_several_metrics_show_a_front_and_the_second_round_has_one_judge(
    study: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    twofold, judge = Twofold(), Rule(0.1)
    monkeypatch.setattr(runner, "judge_of", lambda objective, config, data: judge)
    outcome = study(twofold, trials=16, finalists=2)
    values = {row["trial"]: row["values"] for row in log(outcome)}
    front = {
        k for k, v in values.items()
        if not any(all(a >= b for a, b in zip(w, v, strict=True)) and w != v for w in values.values())
    }  # fmt: skip
    text = (outcome.folder / "report.md").read_text()
    marked = {int(line.split("|")[1]) for line in text.splitlines() if "on the Pareto front" in line}
    assert marked == front
    # One metric decides in the end, on seeds that no trial had.
    assert {name for name, _ in judge.scored} == {f.name for f in outcome.finalists}
    assert outcome.verdict.beats
    learnt = [row.number for row in outcome.rows if not row.baseline]
    assert {f.name for f in outcome.finalists if not f.baseline} <= {
        row.name for row in outcome.rows if row.number in learnt[:2]
    }  # fmt: skip


@pytest.mark.parametrize(("target", "best_family"), [((), "searched"), (("BV2",), "targeted")])
def test_families_over_sub_policies_take_those_of_the_best_search_they_may_see(
    study: Run, root: Path, target: tuple[str, ...], best_family: str
) -> None:
    write_livecell(root, {"BV2": {"train": 3}}, cells=4, seed=1)
    outcome = study(Rule(0.1), trials=34, final_seeds=2, finalists=1, target=target)
    stored = optuna.load_study(study_name="A172 seed 0", storage=f"sqlite:///{outcome.folder / 'study.db'}")
    rows = {row["trial"]: row for row in log(outcome)}
    made = [t for t in stored.trials if "over" in t.user_attrs]
    assert {t.params["family"] for t in made} == {"stacked_searched", "choice_searched"}
    for trial in made:
        slot = trial.user_attrs["slot"]
        learnt = [r for r in rows.values() if r["family"] in ("searched", "targeted") and r["values"]]
        best_seen = max((r for r in learnt if r["trial"] <= slot - 4), key=lambda r: r["score"])
        assert trial.user_attrs["over"] == best_seen["trial"]
        assert f"Made of the sub-policies of {best_seen['name']}." in note_of(stored, trial)
    assert {rows[t.user_attrs["over"]]["family"] for t in made} == {best_family}


def test_targets_are_learnt_from(study: Run, root: Path) -> None:
    write_livecell(root, {"BV2": {"train": 3}}, cells=4, seed=1)
    outcome = study(Rule(0.1), trials=5, target=("BV2",))
    rows = log(outcome)
    assert [row["name"] for row in rows[:4]] == ["none", "random_choice", "searched_t002", "targeted_t003"]
    policy = load_policy(outcome.folder / "trials" / "003" / "policy.json")
    branches = policy.transform["transforms"][0]["transforms"]
    assert branches[2]["p"] / branches[1]["p"] in [pytest.approx(3 / (1 + n)) for n in range(5)]
    assert rows[3]["family"] == "targeted"
    with pytest.raises(InputError, match="target was"):
        study(Rule(0.1), trials=5)


def test_parallel_decides_what_is_seen_and_so_belongs_to_the_study(study: Run) -> None:
    one, many = study(Rule(0.1), "one", trials=16, parallel=1), study(Rule(0.1), "many", trials=16, parallel=8)
    assert log(one)[:12] == log(many)[:12]  # the queue
    with pytest.raises(InputError, match="parallel was 1, now 8"):
        study(Rule(0.1), "one", trials=16, parallel=8)

"""A whole study on generated data with a cheap objective: order, repeatability, resuming, best.json."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from policy_search.augment import PolicyDocument, choice, load_policy
from policy_search.config import RunConfig
from policy_search.study.making import Learnt
from policy_search.study.objective import Report, Score
from policy_search.study.runner import Progress, StudyOutcome, join_study, run_study
from policy_search.study.space import Space, queue
from tests.conftest import write_livecell
from tests.study.rules import Rule, Run, best, fake_learning, log


def test_first_trials_are_the_queue_and_every_trial_leaves_its_policy(study: Run) -> None:
    told: list[Progress] = []
    outcome = study(Rule(), progress=told.append)
    rows = log(outcome)
    assert [row["trial"] for row in rows] == list(range(len(rows)))
    assert sum(row["state"] == "complete" for row in rows) == 14
    wanted = [q.baseline or "searched_t002" for q in queue(Space())]
    assert [row["name"] for row in rows[:12]] == wanted
    learnt = len(rows) - len(wanted)
    assert [row["baseline"] for row in rows] == [name != "searched_t002" for name in wanted] + [False] * learnt
    for row in rows:
        policy = load_policy(outcome.folder / "trials" / f"{row['trial']:03d}" / "policy.json")
        assert policy.content_hash == row["hash"]
    done = np.cumsum([row["state"] == "complete" for row in rows]).tolist()
    assert [(p.done, p.total) for p in told if p.kind == "trial"] == [(i, 14) for i in done]
    assert [p.done for p in told if p.kind == "final"] == list(range(1, len(outcome.finalists) * 3 + 1))


def test_all_trials_share_one_seed_and_the_second_round_has_fresh_ones(study: Run) -> None:
    rule = Rule()
    outcome = study(rule, final_seeds=3, finalists=2)
    first = {seed for _, seed in rule.scored[:13]}
    assert len(first) == 1
    again = rule.scored[-len(outcome.finalists) * 3 :]
    assert {seed for _, seed in again}.isdisjoint(first)
    by_policy: dict[str, list[int]] = {}
    for name, seed in again:
        by_policy.setdefault(name, []).append(seed)
    seeds = list(by_policy.values())
    assert all(s == seeds[0] for s in seeds)
    assert len(set(seeds[0])) == 3


def test_same_seed_same_trials_same_best(study: Run) -> None:
    first, second, other = study(Rule(0.1), "a"), study(Rule(0.1), "b"), study(Rule(0.1), "c", seed=1)
    assert log(first) == log(second)
    assert best(first) == best(second)
    assert log(other)[12:] != log(first)[12:]
    assert first.best.content_hash != other.best.content_hash


@pytest.mark.parametrize("stop_at", [0, 5, 12, 16])
def test_an_interrupted_run_continues_as_if_nothing_had_happened(study: Run, stop_at: int) -> None:
    whole = Rule(0.1)
    expected = study(whole, "whole")
    broken, continued = Rule(0.1, stop_at=stop_at), Rule(0.1)
    with pytest.raises(KeyboardInterrupt):
        study(broken, "broken")
    outcome = study(continued, "broken")
    assert log(outcome) == log(expected)
    assert best(outcome) == best(expected)
    assert broken.scored + continued.scored == whole.scored


def test_a_finished_run_is_not_done_again_and_can_be_continued(study: Run) -> None:
    first = study(Rule(0.1))
    rows, winner = log(first), best(first)
    again = Rule(0.1)
    second = study(again)
    assert again.scored == []
    assert best(second) == winner
    longer = study(Rule(0.1), trials=16)
    assert log(longer)[: len(rows)] == rows
    assert sum(row["state"] == "complete" for row in log(longer)) == 16


def test_a_process_that_was_killed_leaves_no_trial_running(study: Run, tmp_path: Path) -> None:
    first = study(Rule(0.1), "killed", trials=3)
    stored = optuna.load_study(study_name="A172 seed 0", storage=f"sqlite:///{first.folder / 'study.db'}")
    for slot, name in ((3, "stacked_p0.5"), (4, "stacked_p0.8")):
        attrs = {"slot": slot, "name": name, "family": "naive", "is_baseline": True}
        stored.enqueue_trial(queue(Space())[slot].params, user_attrs=attrs)
    stored.ask()  # slot 3 is running, and nobody will ever finish it; slot 4 is queued, and was never begun
    outcome = study(Rule(0.1), "killed")
    assert log(outcome) == log(study(Rule(0.1), "whole"))
    assert best(outcome)["transform"] == best(study(Rule(0.1), "whole"))["transform"]


def test_learnt_policies_win_only_when_they_are_better(study: Run) -> None:
    better = study(Rule(0.1), "better")
    assert better.verdict.beats
    assert better.best.provenance.family in ("searched", "stacked", "choice")
    worse = study(Rule(-0.1), "worse")
    assert not worse.verdict.beats
    assert worse.best.provenance.family == "naive"
    assert "No learnt policy beats the best baseline" in (worse.folder / "report.md").read_text()


def test_provenance_says_where_the_policy_comes_from(study: Run) -> None:
    outcome = study(Rule(0.1))
    found = load_policy(outcome.best_path)
    facts = found.provenance.model_dump()
    assert found.content_hash == outcome.verdict.winner.content_hash
    assert facts["data"] == "A172"
    assert facts["synthetic"] is False
    assert facts["score"] == pytest.approx(outcome.verdict.winner.mean)
    assert facts["score_interval"][0] < facts["score"] < facts["score_interval"][1]
    assert facts["against"]["beats"] is True
    assert facts["against"]["margin"] == pytest.approx(outcome.verdict.margin)
    assert facts["versions"]["albumentations"] == "2.0.8"
    assert log(outcome)[facts["trial"]]["hash"] == found.content_hash
    assert facts["settings"]["steps"] == 200


def test_four_trials_compare_something(study: Run) -> None:
    outcome = study(Rule(0.1), trials=4)
    assert [row["name"] for row in log(outcome)] == ["none", "random_choice", "searched_t002", "stacked_p0.5"]
    assert {f.name for f in outcome.finalists} == {"none", "random_choice", "stacked_p0.5", "searched_t002"}
    assert outcome.best.name == "searched_t002"


def test_one_trial_is_enough_to_end_well(study: Run) -> None:
    outcome = study(Rule(), trials=1)
    assert outcome.best.name == "none"
    assert outcome.verdict.challenger is None


def test_the_same_policy_is_not_scored_twice(study: Run) -> None:
    rule = Rule()
    outcome = study(
        rule,
        trials=24,
        learn=lambda data, knobs, steps, seed: Learnt(choice({"flip": 1.0})),
        final_seeds=2,
        finalists=1,
    )
    repeats = [row for row in log(outcome) if row["repeats"] is not None]
    assert repeats
    rows = log(outcome)
    for row in repeats:
        assert rows[row["repeats"]]["hash"] == row["hash"]
        assert rows[row["repeats"]]["score"] == row["score"]


def test_hopeless_policies_are_pruned_and_baselines_never(study: Run) -> None:
    outcome = study(Rule(-0.3), trials=20)
    states = {row["name"]: row["state"] for row in log(outcome)}
    assert all(states[q.baseline] == "complete" for q in queue(Space()) if q.baseline)
    assert "pruned" in states.values()


def test_optuna_stays_quiet_and_keeps_its_verbosity(
    study: Run, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    before = optuna.logging.get_verbosity()
    study(Rule(fail="random_choice"), trials=2)
    assert optuna.logging.get_verbosity() == before
    assert capsys.readouterr() == ("", "")


def rungs(outcome: StudyOutcome) -> dict[int, dict[str, float]]:
    """Slot -> what Hyperband has noted on its trial."""
    stored = optuna.load_study(study_name="A172 seed 0", storage=f"sqlite:///{outcome.folder / 'study.db'}")
    return {
        t.user_attrs["slot"]: {k: v for k, v in t.system_attrs.items() if k.startswith("completed_rung_")}
        for t in stored.trials
    }


def test_scores_in_the_book_are_as_good_as_measured_ones(study: Run, tmp_path: Path) -> None:
    """As after a run that lost its storage: nothing is measured again but what was given up, and nothing differs."""
    whole = study(Rule(-0.3), "whole", trials=20)
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "scores.jsonl").write_bytes((whole.folder / "scores.jsonl").read_bytes())
    again = Rule(-0.3)
    outcome = study(again, "again", trials=20)
    assert log(outcome) == log(whole)
    assert best(outcome) == best(whole)
    assert rungs(outcome) == rungs(whole)
    assert any(rungs(whole).values())
    assert {name for name, _ in again.scored} == {row["name"] for row in log(whole) if row["state"] == "pruned"}


def test_a_second_end_lists_no_task_twice(study: Run) -> None:
    outcome = study(Rule(0.1), trials=4, finalists=1)
    study(Rule(0.1), trials=4, finalists=2)
    stored = optuna.load_study(
        study_name="A172 seed 0 second round", storage=f"sqlite:///{outcome.folder / 'study.db'}"
    )
    tasks = [tuple(task) for task in stored.user_attrs["tasks"]]
    assert len(tasks) == len(set(tasks)) == len(stored.trials)


def test_a_worker_keeps_the_scores_of_two_studies_apart(root: Path, tmp_path: Path) -> None:
    """Same seed, same naive policies, other data: what it knows of one study says nothing of the other."""

    class Offset(Rule):
        def __init__(self, offset: float, stop_at: int = 10**9) -> None:
            super().__init__(stop_at=stop_at)
            self.offset = offset

        def score(self, document: PolicyDocument, *, seed: int, report: Report | None = None) -> Score:
            found = super().score(document, seed=seed, report=report)
            return Score((found.value + self.offset,), found.domains)

    other = write_livecell(tmp_path / "more", {"A172": {"train": 2, "val": 1}}, cells=4, seed=9)
    values = []
    for name, folder, offset in (("one", root, 0.0), ("two", other, 0.2)):
        url = f"sqlite:///{tmp_path / name}.db"
        config = RunConfig(data="A172", root=folder, out=tmp_path / name, storage=url, trials=2, final_seeds=2)
        with pytest.raises(KeyboardInterrupt):
            run_study(config, objective=Offset(offset, stop_at=0), learn=fake_learning)
        join_study(url, "A172 seed 0", out=tmp_path / "w", root=folder, objective=Offset(offset), learn=fake_learning)
        trials = optuna.load_study(study_name="A172 seed 0", storage=url).get_trials(states=(TrialState.COMPLETE,))
        values.append([t.value for t in trials])
    assert values[1] == pytest.approx([value + 0.2 for value in values[0]])

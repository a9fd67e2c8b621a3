"""A whole study on generated data with a cheap objective: order, repeatability, resuming, failures, best.json."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from policy_search.augment import PolicyDocument, choice, load_policy
from policy_search.cells.errors import InputError
from policy_search.config import RunConfig
from policy_search.study import runner
from policy_search.study.data import StudyData
from policy_search.study.making import Learn, Learnt
from policy_search.study.objective import Report, Score
from policy_search.study.runner import Progress, StudyOutcome, run_study
from policy_search.study.space import Knobs, Space, TargetKnobs, queue
from policy_search.study.verdict import Direction
from policy_search.study.worker import StudyBrokenError
from tests.conftest import write_livecell


class Rule:
    """An objective with a known answer: flips are good, the hash adds what looks like noise, seeds shift all alike."""

    name = "rule"
    metrics: tuple[str, ...] = ("rule",)
    directions: tuple[Direction, ...] = ("maximize",)
    prunable = True

    def __init__(self, bonus: float = 0.0, fail: str = "", stop_at: int = 10**9) -> None:
        self.bonus, self.fail, self.stop_at = bonus, fail, stop_at
        self.scored: list[tuple[str, int]] = []

    def score(self, document: PolicyDocument, *, seed: int, report: Report | None = None) -> Score:
        if len(self.scored) == self.stop_at:
            raise KeyboardInterrupt
        self.scored.append((document.name, seed))
        if document.name == self.fail:
            raise RuntimeError("out of luck")
        value = 0.5 + 0.001 * (int(document.content_hash[:4], 16) / 65535) + seed % 7 / 100
        if document.provenance.family not in ("naive", ""):
            value += self.bonus
        if report is not None:
            report(0.25, value / 4)
            report(0.5, value / 2)
        return Score((value,), {"all": value})


def fake_learning(data: StudyData, knobs: Knobs | TargetKnobs, steps: int, seed: int) -> Learnt:
    """Stands in for the inner search: a policy that depends on all that it is given."""
    if isinstance(knobs, TargetKnobs):
        targets = sum(len(images) for images in data.targets.values())
        return Learnt(choice({"flip": knobs.sub_policies, "crop": targets, "lateral_stretch": 1 + seed % 5}))
    document = choice({"flip": knobs.sub_policies, "crop": knobs.distance, "color_jitter": 1 + seed % 5})
    return Learnt(document, {"critic distance": (3.0, 2.0, 1.0)})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_livecell(tmp_path / "data", {"A172": {"train": 2, "val": 1, "test": 1}}, cells=4)


@pytest.fixture
def study(root: Path, tmp_path: Path) -> Callable[..., StudyOutcome]:
    def run(
        objective: Rule,
        out: str = "run",
        learn: Learn = fake_learning,
        progress: Callable[[Progress], None] | None = None,
        **options: Any,
    ) -> StudyOutcome:
        values = {"data": "A172", "root": root, "out": tmp_path / out, "trials": 14, "final_seeds": 3, **options}
        return run_study(RunConfig(**values), objective=objective, learn=learn, progress=progress)

    return run


def log(outcome: StudyOutcome) -> list[dict[str, Any]]:
    lines = (outcome.folder / "log.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    for row in rows:
        row.pop("seconds")
    return rows


def best(outcome: StudyOutcome) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(outcome.best_path.read_text())
    content["policy_search"].pop("seconds")
    return content


def test_first_trials_are_the_queue_and_every_trial_leaves_its_policy(study: Callable[..., StudyOutcome]) -> None:
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


def test_all_trials_share_one_seed_and_the_second_round_has_fresh_ones(study: Callable[..., StudyOutcome]) -> None:
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


def test_same_seed_same_trials_same_best(study: Callable[..., StudyOutcome]) -> None:
    first, second, other = study(Rule(0.1), "a"), study(Rule(0.1), "b"), study(Rule(0.1), "c", seed=1)
    assert log(first) == log(second)
    assert best(first) == best(second)
    assert log(other)[12:] != log(first)[12:]
    assert first.best.content_hash != other.best.content_hash


@pytest.mark.parametrize("stop_at", [0, 5, 12, 16])
def test_an_interrupted_run_continues_as_if_nothing_had_happened(
    study: Callable[..., StudyOutcome], stop_at: int
) -> None:
    whole = Rule(0.1)
    expected = study(whole, "whole")
    broken, continued = Rule(0.1, stop_at=stop_at), Rule(0.1)
    with pytest.raises(KeyboardInterrupt):
        study(broken, "broken")
    outcome = study(continued, "broken")
    assert log(outcome) == log(expected)
    assert best(outcome) == best(expected)
    assert broken.scored + continued.scored == whole.scored


def test_a_finished_run_is_not_done_again_and_can_be_continued(study: Callable[..., StudyOutcome]) -> None:
    first = study(Rule(0.1))
    rows, winner = log(first), best(first)
    again = Rule(0.1)
    second = study(again)
    assert again.scored == []
    assert best(second) == winner
    longer = study(Rule(0.1), trials=16)
    assert log(longer)[: len(rows)] == rows
    assert sum(row["state"] == "complete" for row in log(longer)) == 16


def test_a_process_that_was_killed_leaves_no_trial_running(study: Callable[..., StudyOutcome], tmp_path: Path) -> None:
    first = study(Rule(0.1), "killed", trials=3)
    stored = optuna.load_study(study_name="A172 seed 0", storage=f"sqlite:///{first.folder / 'study.db'}")
    for slot, name in ((3, "stacked_p0.5"), (4, "stacked_p0.8")):
        attrs = {"slot": slot, "name": name, "family": "naive", "is_baseline": True}
        stored.enqueue_trial(queue(Space())[slot].params, user_attrs=attrs)
    stored.ask()  # slot 3 is running, and nobody will ever finish it; slot 4 is queued, and was never begun
    outcome = study(Rule(0.1), "killed")
    assert log(outcome) == log(study(Rule(0.1), "whole"))
    assert best(outcome)["transform"] == best(study(Rule(0.1), "whole"))["transform"]


def test_another_configuration_is_refused(study: Callable[..., StudyOutcome], root: Path) -> None:
    study(Rule(), trials=2)
    with pytest.raises(InputError, match=r"steps was 200, now 7.*Choose another --out"):
        study(Rule(), trials=2, steps=7)
    next(root.glob("images/*/A172/*_B1_*")).write_bytes(next(root.glob("images/*/A172/*_A1_*")).read_bytes())
    with pytest.raises(InputError, match="the data has changed"):
        study(Rule(), trials=2)


def test_a_failing_trial_does_not_stop_the_study(study: Callable[..., StudyOutcome]) -> None:
    outcome = study(Rule(fail="flip"))
    rows = {row["name"]: row for row in log(outcome)}
    assert rows["flip"]["state"] == "fail"
    assert rows["flip"]["error"] == "RuntimeError: out of luck"
    assert rows["flip"]["score"] is None
    assert sum(row["state"] == "complete" for row in log(outcome)) == 14
    assert "RuntimeError: out of luck" in (outcome.folder / "report.md").read_text()
    assert "flip" not in [f.name for f in outcome.finalists]


def test_a_finalist_that_fails_on_a_fresh_seed_is_left_out(study: Callable[..., StudyOutcome]) -> None:
    class FailsLater(Rule):
        def score(self, document: PolicyDocument, *, seed: int, report: Report | None = None) -> Score:
            if report is None and document.name in ("none", "searched_t002"):
                raise RuntimeError("not this time")
            return super().score(document, seed=seed, report=report)

    outcome = study(FailsLater(), trials=4)
    assert {f.name for f in outcome.finalists} == {"random_choice", "stacked_p0.5"}
    assert "not this time" in (outcome.folder / "report.md").read_text()


def test_nothing_that_can_be_scored_is_an_error_with_the_reason(study: Callable[..., StudyOutcome]) -> None:
    class Hopeless(Rule):
        def score(self, document: PolicyDocument, *, seed: int, report: Report | None = None) -> Score:
            raise RuntimeError("no memory")

    with pytest.raises(StudyBrokenError, match=r"6 trials failed one after another.*no memory.*repeat the command"):
        study(Hopeless(), "broken", trials=2)
    # The cause is mended: it goes on behind the trials that failed.
    outcome = study(Rule(), "broken", trials=2)
    assert [row["state"] for row in log(outcome)] == ["fail"] * 6 + ["complete"] * 2
    assert outcome.best.provenance.family == "naive"


def test_no_naive_strategy_in_the_second_round_is_an_error_with_the_reason(study: Callable[..., StudyOutcome]) -> None:
    class OnlyOnce(Rule):
        def score(self, document: PolicyDocument, *, seed: int, report: Report | None = None) -> Score:
            if report is None:
                raise RuntimeError("no memory")
            return super().score(document, seed=seed, report=report)

    with pytest.raises(InputError, match=r"no naive strategy could be scored.*no memory"):
        study(OnlyOnce(), trials=2, final_seeds=2)


def test_a_score_that_is_not_finite_is_a_failure(study: Callable[..., StudyOutcome]) -> None:
    class NotANumber(Rule):
        def score(self, document: PolicyDocument, *, seed: int, report: Report | None = None) -> Score:
            score = super().score(document, seed=seed)
            return score if document.name != "random_choice" else Score((float("nan"),))

    outcome = study(NotANumber(), trials=4)
    assert [row["state"] for row in log(outcome)] == ["complete", "fail", "complete", "complete", "complete"]
    assert "nan" in log(outcome)[1]["error"]
    json.loads(outcome.best_path.read_text())


def test_learnt_policies_win_only_when_they_are_better(study: Callable[..., StudyOutcome]) -> None:
    better = study(Rule(0.1), "better")
    assert better.verdict.beats
    assert better.best.provenance.family in ("searched", "stacked", "choice")
    worse = study(Rule(-0.1), "worse")
    assert not worse.verdict.beats
    assert worse.best.provenance.family == "naive"
    assert "No learnt policy beats the best baseline" in (worse.folder / "report.md").read_text()


def test_provenance_says_where_the_policy_comes_from(study: Callable[..., StudyOutcome]) -> None:
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


def test_four_trials_compare_something(study: Callable[..., StudyOutcome]) -> None:
    outcome = study(Rule(0.1), trials=4)
    assert [row["name"] for row in log(outcome)] == ["none", "random_choice", "searched_t002", "stacked_p0.5"]
    assert {f.name for f in outcome.finalists} == {"none", "random_choice", "stacked_p0.5", "searched_t002"}
    assert outcome.best.name == "searched_t002"


def test_one_trial_is_enough_to_end_well(study: Callable[..., StudyOutcome]) -> None:
    outcome = study(Rule(), trials=1)
    assert outcome.best.name == "none"
    assert outcome.verdict.challenger is None


def test_the_same_policy_is_not_scored_twice(study: Callable[..., StudyOutcome]) -> None:
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


def test_hopeless_policies_are_pruned_and_baselines_never(study: Callable[..., StudyOutcome]) -> None:
    outcome = study(Rule(-0.3), trials=20)
    states = {row["name"]: row["state"] for row in log(outcome)}
    assert all(states[q.baseline] == "complete" for q in queue(Space()) if q.baseline)
    assert "pruned" in states.values()


@pytest.mark.parametrize("option", [{"trials": 0}, {"final_seeds": 1}, {"probe_crop": 100}, {"stepz": 3}])
def test_bad_options_are_named(option: dict[str, int], tmp_path: Path) -> None:
    name = "--" + next(iter(option)).replace("_", "-")
    with pytest.raises(InputError, match=name):
        RunConfig(data="A172", out=tmp_path, **option)


def test_a_folder_has_one_owner(study: Callable[..., StudyOutcome]) -> None:
    def second(event: Progress) -> None:
        if event.kind == "trial" and event.done == 1:
            with pytest.raises(InputError, match="another run is working"):
                study(Rule())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study(Rule(), progress=second)
    assert study(Rule(), trials=2).best_path.is_file()


def test_storage_of_another_study_is_refused(study: Callable[..., StudyOutcome], tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    study(Rule(), "one", trials=2, storage=url)
    with pytest.raises(InputError, match=r"a study named 'A172 seed 0' already.*policy-search worker.*another --study"):
        study(Rule(), "two", trials=2, storage=url)
    other = study(Rule(), "three", trials=2, storage=url, study="of my own", steps=9)
    assert other.best.provenance.study == "of my own"
    moved = tmp_path / "one" / "config.json"
    moved.write_text(moved.read_text().replace('"steps": 200', '"steps": 7'))
    with pytest.raises(InputError, match=r"of another configuration \(steps was 200, now 7\)"):
        study(Rule(), "one", trials=2, storage=url, steps=7)


def test_a_study_of_an_older_version_is_refused_and_left_alone(
    study: Callable[..., StudyOutcome], tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'old.db'}"
    old = optuna.create_study(storage=url, study_name="A172 seed 0", direction="maximize")
    old.set_user_attr("config", {"data": "A172"})
    old.add_trial(optuna.trial.create_trial(value=1.0, user_attrs={"slot": 0}))
    with pytest.raises(InputError, match=r"made by another version of policy-search \(schema 1, this one.* 2\)"):
        study(Rule(), storage=url)
    again = optuna.load_study(study_name="A172 seed 0", storage=url)
    assert again.user_attrs == {"config": {"data": "A172"}}
    assert len(again.trials) == 1
    foreign = optuna.create_study(storage=url, study_name="mine", direction="maximize")
    foreign.set_user_attr("about", "something else")
    with pytest.raises(InputError, match="was not made by policy-search"):
        study(Rule(), "other", storage=url, study="mine")


def test_a_run_folder_of_an_older_version_is_refused(study: Callable[..., StudyOutcome], tmp_path: Path) -> None:
    first = study(Rule(), trials=1)
    config = json.loads((first.folder / "config.json").read_text())
    del config["objective"]
    (first.folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"of an earlier version of policy-search \(it has no objective\)"):
        study(Rule(), trials=2)


class Twofold(Rule):
    """Two metrics that pull apart: what is good for one is bad for the other."""

    metrics = ("affinity", "diversity")
    directions: tuple[Direction, ...] = ("maximize", "maximize")
    prunable = False

    def score(self, document: PolicyDocument, *, seed: int, report: Report | None = None) -> Score:
        assert report is None  # Optuna cannot prune on several metrics
        self.scored.append((document.name, seed))
        first = int(document.content_hash[:4], 16) / 65535
        second = int(document.content_hash[4:8], 16) / 65535
        return Score((first, 1 - first**2 + 0.2 * second))


def test_several_metrics_show_a_front_and_the_second_round_has_one_judge(
    study: Callable[..., StudyOutcome], monkeypatch: pytest.MonkeyPatch
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


def test_families_over_searched_sub_policies_take_the_best_searched_one_they_may_see(
    study: Callable[..., StudyOutcome],
) -> None:
    outcome = study(Rule(0.1), trials=34, final_seeds=2, finalists=1)
    stored = optuna.load_study(study_name="A172 seed 0", storage=f"sqlite:///{outcome.folder / 'study.db'}")
    rows = {row["trial"]: row for row in log(outcome)}
    made = [t for t in stored.trials if "over" in t.user_attrs]
    assert {t.params["family"] for t in made} == {"stacked_searched", "choice_searched"}
    for trial in made:
        slot = trial.user_attrs["slot"]
        seen = [r for r in rows.values() if r["family"] == "searched" and r["values"] and r["trial"] <= slot - 4]
        assert trial.user_attrs["over"] == max(seen, key=lambda r: r["score"])["trial"]


def test_targets_are_learnt_from(study: Callable[..., StudyOutcome], root: Path) -> None:
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


def test_parallel_decides_what_is_seen_and_so_belongs_to_the_study(study: Callable[..., StudyOutcome]) -> None:
    one, many = study(Rule(0.1), "one", trials=16, parallel=1), study(Rule(0.1), "many", trials=16, parallel=8)
    assert log(one)[:12] == log(many)[:12]  # the queue
    with pytest.raises(InputError, match="parallel was 1, now 8"):
        study(Rule(0.1), "one", trials=16, parallel=8)


def test_optuna_stays_quiet_and_keeps_its_verbosity(
    study: Callable[..., StudyOutcome], caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    before = optuna.logging.get_verbosity()
    study(Rule(fail="random_choice"), trials=2)
    assert optuna.logging.get_verbosity() == before
    assert capsys.readouterr() == ("", "")

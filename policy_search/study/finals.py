"""The second round: the best learnt policies and the best baselines scored again on fresh seeds, in pairs.

It is a study of its own in the same storage, with a slot for each policy and seed, so that any number of workers can
share it and none is scored twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial, TrialState

from policy_search.augment import PolicyDocument, baseline
from policy_search.study.first_round import require_finite
from policy_search.study.objective import Objective
from policy_search.study.report import TrialRow
from policy_search.study.scorebook import ScoreBook
from policy_search.study.seeds import probe_seed
from policy_search.study.slots import ERROR, LOST, SLOT, Slots
from policy_search.study.stored_policies import get_policy, has_policy
from policy_search.study.verdict import Direction, Finalist, Verdict, judge, ranked
from policy_search.study.worker import StudyBrokenError

SUFFIX = " second round"
TASKS = "tasks"  # user attribute of the study: [policy hash, name, seed] of every slot


@dataclass(frozen=True)
class SecondRound:
    """The judgement, the finalists from best to worst, and why others failed (name → reason)."""

    verdict: Verdict
    finalists: tuple[Finalist, ...]
    failures: Mapping[str, str]


@dataclass(frozen=True)
class Task:
    """One scoring: a policy at a fresh seed."""

    content_hash: str
    name: str
    seed: int


class Finals:
    """See `worker.Round`. Every task is done once, whatever comes of it."""

    def __init__(
        self,
        study: optuna.Study,
        tasks: Sequence[Task],
        policies: Callable[[Task], PolicyDocument],
        judge_by: Objective,
        book: ScoreBook,
        finished: Callable[[Task, FrozenTrial, int], None] = lambda task, trial, done: None,
        watch: Callable[[int], None] = lambda done: None,
    ) -> None:
        self.study, self._policies = study, policies
        # Slots of this end of the study; an earlier end may have had others besides.
        listed = _listed(study)
        self._tasks = {listed.index(task): task for task in tasks}
        self.study.sampler = optuna.samplers.RandomSampler()  # there is nothing to sample
        self._judge, self._book, self._finished, self._watch = judge_by, book, finished, watch

    def done(self, slots: Slots) -> bool:
        return all(slot in slots.finished for slot in self._tasks)

    def next_slot(self, slots: Slots) -> int | None:
        free = (slot for slot in self._tasks if slot not in slots.finished and slot not in slots.pending)
        return next(free, None)

    def template(self, slot: int, slots: Slots) -> FrozenTrial:
        task = self._tasks[slot]
        attrs = {SLOT: slot, "name": task.name, "hash": task.content_hash, "seed": task.seed}
        return optuna.trial.create_trial(state=TrialState.WAITING, user_attrs=attrs)

    def perform(self, trial: optuna.Trial, slot: int, slots: Slots) -> float:
        task = _task_of(trial)
        known = self._book.get(task.content_hash, task.seed)
        if known is not None:
            return known.score.value
        score = self._judge.score(self._policies(task), seed=task.seed)
        require_finite(score)
        self._book.put(task.content_hash, task.seed, score, ())
        return score.value

    def finished(self, trial: FrozenTrial, slots: Slots) -> None:
        slot = trial.user_attrs[SLOT]
        if slot in slots.finished and slots.finished[slot].number == trial.number:
            self._finished(_task_of(trial), trial, self._count(slots))

    def watch(self, slots: Slots) -> None:
        self._watch(self._count(slots))

    def _count(self, slots: Slots) -> int:
        return sum(slot in slots.finished for slot in self._tasks)


def _listed(study: optuna.Study) -> list[Task]:
    return [Task(*entry) for entry in study.user_attrs.get(TASKS, [])]


def _task_of(trial: optuna.Trial | FrozenTrial) -> Task:
    attrs = trial.user_attrs
    return Task(attrs["hash"], attrs["name"], attrs["seed"])


def tasks_for(rows: Sequence[TrialRow], places: int, seeds: Sequence[int]) -> list[Task]:
    """What is to be scored again: every seed in turn, on it every finalist."""
    chosen = choose(rows, places)
    return [Task(row.content_hash or "", row.name, seed) for seed in seeds for row in chosen]


def fresh_seeds(seed: int, count: int) -> list[int]:
    """Seeds of the second round, none of them used in the first."""
    return [probe_seed(seed, 1 + i) for i in range(count)]


def list_tasks(study: optuna.Study, tasks: Sequence[Task]) -> None:
    """Enter what is not listed yet. Slots are positions in the list, so nothing in it is ever moved.

    To be called under the claim lock.
    """
    listed = _listed(study)
    missing = [task for task in tasks if task not in listed]
    if missing:
        study.set_user_attr(TASKS, [[task.content_hash, task.name, task.seed] for task in [*listed, *missing]])


def policies_of(first_round: Slots) -> Callable[[Task], PolicyDocument]:
    """Where the policies of tasks are: in the trials of the first round; `none` may have no trial there."""
    by_hash = {
        trial.user_attrs["hash"]: trial for trial in reversed(first_round.finished.values()) if has_policy(trial)
    }

    def find(task: Task) -> PolicyDocument:
        if task.content_hash in by_hash:
            return get_policy(by_hash[task.content_hash])
        return baseline(task.name)

    return find


def decide(
    rows: Sequence[TrialRow], places: int, scores: FinalScores, seeds: Sequence[int], direction: Direction
) -> SecondRound:
    """Judge the finalists. One that failed on a seed is out.

    Raises:
        StudyBrokenError: no baseline could be scored; says why.
    """
    finalists, failures = gather(rows, places, scores, seeds)
    if not any(f.baseline for f in finalists):
        reasons = "; ".join(f"{name}: {reason}" for name, reason in failures.items())
        raise StudyBrokenError(
            f"no naive strategy could be scored in the second round, so nothing can be compared ({reasons}). Mend the "
            "cause and begin anew with another --out."
        )
    return SecondRound(judge(finalists, direction), tuple(ranked(finalists, direction)), failures)


@dataclass(frozen=True)
class FinalScores:
    """What the second round has found so far: (policy hash, seed) → score, or → why there is none."""

    values: Mapping[tuple[str, int], float]
    errors: Mapping[tuple[str, int], str]
    seconds: float = 0.0


def scores_of(slots: Slots) -> FinalScores:
    """Read the slots of the second round."""
    values, errors, seconds = {}, {}, 0.0
    for trial in slots.finished.values():
        key = (trial.user_attrs["hash"], trial.user_attrs["seed"])
        seconds += trial.user_attrs.get("seconds", 0.0)
        if trial.state == TrialState.COMPLETE and trial.value is not None:
            values[key] = trial.value
        else:
            errors[key] = trial.user_attrs.get(ERROR, LOST)
    return FinalScores(values, errors, seconds)


def gather(
    rows: Sequence[TrialRow], places: int, scores: FinalScores, seeds: Sequence[int]
) -> tuple[list[Finalist], dict[str, str]]:
    """Finalists that are scored on every seed, in the order of the leaderboard, and the others: name → first reason."""
    finalists, failures = [], {}
    for row in choose(rows, places):
        keys = [(row.content_hash or "", seed) for seed in seeds]
        wrong = [scores.errors.get(key, "not scored") for key in keys if key not in scores.values]
        if wrong:
            failures[row.name] = wrong[0]
        else:
            found = tuple(scores.values[key] for key in keys)
            finalists.append(Finalist(row.name, row.family, row.content_hash or "", row.baseline, found))
    return finalists, failures


def choose(rows: Sequence[TrialRow], places: int) -> list[TrialRow]:
    """The best `places` learnt policies and `places` baselines (`none` always one of them), each policy once.

    Args:
        rows: the leaderboard, best first.
        places: at least 1.
    """
    learnt: dict[str, TrialRow] = {}
    naive: dict[str, TrialRow] = {}
    for row in rows:
        if row.score is None or row.content_hash is None:
            continue
        group = naive if row.baseline else learnt
        if row.content_hash not in naive and row.content_hash not in learnt:
            group[row.content_hash] = row
    none = [row for row in naive.values() if row.name == "none"]
    others = [row for row in naive.values() if row.name != "none"]
    if not none:
        # `none` was cut off by a small number of trials or failed: it is the reference all the same.
        document = baseline("none")
        none = [TrialRow(-1, "complete", "none", "naive", True, document.content_hash, None, {}, 0.0, None, None)]
    return [*list(learnt.values())[:places], *others[: max(places - 1, 1)], *none]

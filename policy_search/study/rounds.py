"""Both rounds of a study as one process works on them, alone or beside others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import optuna
from optuna.trial import FrozenTrial

from policy_search.config import RunConfig
from policy_search.study import report
from policy_search.study.artifacts import Gallery
from policy_search.study.data import StudyData
from policy_search.study.finals import (
    Finals,
    SecondRound,
    Task,
    decide,
    fresh_seeds,
    list_tasks,
    policies_of,
    scores_of,
    tasks_for,
)
from policy_search.study.first_round import Bench, FirstRound
from policy_search.study.folder import RunFolder
from policy_search.study.keeping import Keeper
from policy_search.study.making import Learn
from policy_search.study.notes import DataFacts, StudyFacts
from policy_search.study.objective import Objective
from policy_search.study.objectives import scored_on
from policy_search.study.opening import close_abandoned, open_second_round
from policy_search.study.scorebook import ScoreBook
from policy_search.study.slots import Slots
from policy_search.study.storage import StudyStorage
from policy_search.study.storages.locks import claim_lock
from policy_search.study.storages.url import is_sqlite
from policy_search.study.worker import slots_of, work

OFTEN = 20  # trials up to which the study's note is written after every one; then after as many


@dataclass(frozen=True)
class Progress:
    """What is told on the way: `kind` says of what, `done` of `total`, and a line to print (it may be empty)."""

    kind: Literal["note", "trial", "final"]
    done: int
    total: int
    message: str


Listener = Callable[[Progress], None]


class Rounds:
    """Both rounds of a study, as one process works on them. An owner keeps the run folder up to date on the way."""

    def __init__(
        self,
        config: RunConfig,
        data: StudyData,
        fingerprint: str,
        objective: Objective,
        judge: Objective,
        learn: Learn,
        storage: StudyStorage,
        url: str,
        folder: RunFolder,
        study: optuna.Study,
        tell: Listener,
        *,
        owner: bool = True,
    ) -> None:
        self._config, self._storage, self._study = config, storage, study
        self._tell = tell
        self._alone = is_sqlite(url)
        self._judge = judge
        self._seeds = fresh_seeds(config.seed, config.final_seeds)
        self._note = noting(tell, config)
        self._book = ScoreBook(folder.path / "scores.jsonl", _digest(config, fingerprint), self._note)
        self._gallery = _gallery(config, data, objective, owner)
        self.trials = self.finals = 0
        self.keeper = Keeper(folder if owner else None, self._note)
        bench = Bench(storage, config, data, objective, learn, self._book, self._gallery, self._note)
        self._first = FirstRound(study, bench, self._trial_done, self._watch_trials)

    def work(self) -> SecondRound:
        """Work until both rounds are done, and judge."""
        if self._alone:
            close_abandoned(self._study)
        self._keep(slots_of(self._study))
        slots = work(self._first, self._storage, tell=self._note)
        self._keep(slots)
        rows = report.leaderboard(self._study)
        tasks = tasks_for(rows, self._config.finalists, self._seeds)
        with claim_lock(self._storage, self._study.study_name):
            second = open_second_round(self._storage, self._study, self._judge)
            list_tasks(second, tasks)
        if self._alone:
            close_abandoned(second)

        def done(task: Task, trial: FrozenTrial, count: int) -> None:
            self.finals += 1
            text = f"{trial.value:.3f}" if trial.value is not None else f"fail – {trial.user_attrs.get('error')}"
            self._tell(Progress("final", count, len(tasks), f"{task.name}: {text}"))

        finals = Finals(
            second, tasks, policies_of(slots), self._judge, self._book, done,
            lambda count: self._tell(Progress("final", count, len(tasks), "")),
        )  # fmt: skip
        scores = scores_of(work(finals, self._storage, tell=self._note))
        return decide(rows, self._config.finalists, scores, self._seeds, self._judge.directions[0])

    def note_end(self, final: SecondRound) -> None:
        """Tell the dashboard how it ended."""
        self._show_study(final.verdict.sentence)

    def _show_study(self, verdict: str = "") -> None:
        if self._gallery is not None:
            facts = StudyFacts(str(self._config.out), self._config.trials, verdict)
            warning = self._gallery.show_study(self._study, facts)
            if warning is not None:
                self._note(warning)

    def _trial_done(self, row: report.TrialRow, slots: Slots) -> None:
        self.trials += 1
        self._keep(slots)
        self._tell(Progress("trial", slots.complete, self._config.trials, _line(row)))

    def _watch_trials(self, slots: Slots) -> None:
        self._keep(slots)
        self._tell(Progress("trial", slots.complete, self._config.trials, ""))

    def _keep(self, slots: Slots) -> None:
        """Bring the run folder and the study's note up to the storage."""
        if self.keeper.keep(slots):
            count = len(slots.finished)
            if count <= OFTEN or count % OFTEN == 0 or slots.complete >= self._config.trials:
                self._show_study()


def _gallery(config: RunConfig, data: StudyData, objective: Objective, owner: bool) -> Gallery | None:
    if not owner and config.artifacts is None:
        return None
    facts = DataFacts(data.name, data.synthetic, scored_on(objective, data))
    return Gallery(
        config.artifact_folder, data.train, facts, metrics=objective.metrics, directions=objective.directions,
        seed=config.seed,
    )  # fmt: skip


def noting(tell: Listener, config: RunConfig) -> Callable[[str], None]:
    """`tell` for lines alone."""
    return lambda text: tell(Progress("note", 0, config.trials, text))


def _digest(config: RunConfig, fingerprint: str) -> str:
    """Of all that a score depends on besides policy and seed."""
    content = json.dumps([config.identity(), fingerprint], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _line(row: report.TrialRow) -> str:
    if row.values:
        return f"{row.name}: {', '.join(f'{value:.3f}' for value in row.values)} ({row.seconds:.1f} s)"
    return f"{row.name or f'trial {row.number}'}: {row.state}{' – ' + row.error if row.error else ''}"

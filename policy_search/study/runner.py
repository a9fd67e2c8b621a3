"""A study from start to end: first round, second round, best.json, report. Resumable, by one process or by many."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial

from policy_search.augment import PolicyDocument
from policy_search.cells.errors import InputError
from policy_search.cells.files import require_writable_folder
from policy_search.config import RunConfig
from policy_search.relaxed.threads import one_thread
from policy_search.study import report
from policy_search.study.artifacts import Gallery
from policy_search.study.data import StudyData, load_study_data
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
from policy_search.study.keeping import Keeper, needed
from policy_search.study.locks import claim_lock
from policy_search.study.making import Learn
from policy_search.study.notes import DataFacts, StudyFacts
from policy_search.study.objective import Objective
from policy_search.study.objectives import build_objective, judge_of, scored_on
from policy_search.study.opening import (
    check_data,
    close_abandoned,
    config_in,
    load_shared,
    open_second_round,
    open_study,
    require_begun,
    require_database,
    require_trials,
)
from policy_search.study.provenance import best_document
from policy_search.study.report_storage import stored_storage
from policy_search.study.scorebook import ScoreBook
from policy_search.study.slots import Slots
from policy_search.study.storage import StorageLostError, StudyStorage, check_url, default_url, open_storage
from policy_search.study.storage_url import is_sqlite, without_password
from policy_search.study.verdict import Finalist, Verdict
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


@dataclass(frozen=True)
class StudyOutcome:
    """What a study leaves behind.

    Attributes:
        folder: the run folder.
        best_path: best.json.
        best: the policy in it.
        verdict: who won the second round and what may be said about it.
        finalists: all policies of the second round.
        rows: the leaderboard of the first round.
        made: trials and scorings that this call has done; 0 for a run that was finished already.
    """

    folder: Path
    best_path: Path
    best: PolicyDocument
    verdict: Verdict
    finalists: tuple[Finalist, ...]
    rows: tuple[report.TrialRow, ...]
    made: int


def run_study(
    config: RunConfig,
    *,
    progress: Listener | None = None,
    objective: Objective | None = None,
    learn: Learn | None = None,
    adopt: bool = False,
) -> StudyOutcome:
    """Run or continue the study of `config` in its run folder, alone or with workers that share its storage.

    Args:
        config: see `RunConfig`.
        progress: called at every trial and finalist; what it raises stops the run, which can then be continued.
        objective: scores policies; the configured one when None.
        learn: makes the policy of a searched trial; the relaxed search when None.
        adopt: continue a study of the storage that another folder began.

    Raises:
        InputError: data, folder or storage that cannot be used.
        StudyBrokenError: nothing can be scored any more, or the results cannot be written.
        StorageLostError: the storage cannot be reached any more.
    """
    tell = progress or (lambda event: None)
    with ExitStack() as held:
        held.enter_context(quiet_optuna())
        held.enter_context(one_thread())
        # What the user gave is looked at before the run folder is made: bad input leaves nothing behind.
        if config.storage is not None:
            check_url(config.storage)
        data = _data(config)
        objective = objective or build_objective(config, data)
        if config.artifacts is not None:
            require_writable_folder(config.artifacts, "--artifacts")
        folder = RunFolder(config.out)
        folder.check(config, data.fingerprint)
        held.enter_context(folder.owned())
        claimed = folder.claimed
        url = config.storage or default_url(folder.path)
        lines = _note(tell, config)
        require_database(folder, url, config.study_name)
        storage = held.enter_context(
            open_storage(url, heartbeat=config.heartbeat, owner="policy-search run", tell=lines)
        )
        require_trials(folder, storage, url, config.study_name)
        kept = config.model_copy(update={"storage": config.storage and without_password(config.storage)})
        folder.claim(kept, data.fingerprint)
        try:
            study = open_study(storage, url, config, data.fingerprint, objective, begun=claimed or adopt)
        except InputError as error:
            # Another run's study: the folder must not look as if it had begun it when the command is repeated.
            if not claimed and not isinstance(error, StorageLostError):
                folder.unclaim()
            raise
        lines(f"{len(data.train)} training images; scored on {scored_on(objective, data)}")
        rounds = _Rounds(config, data, objective, learn or _learner(config), storage, url, folder, study, tell)
        final = rounds.work()
        rows = report.leaderboard(study)
        judged = rounds.judge
        held.enter_context(needed(folder))
        rounds.keeper.write(slots_of(study))
        best = best_document(
            config, data, scored_on(judged, data), judged.metrics[0], study.study_name, rows, final.verdict, folder
        )
        best.save(folder.best)
        notes = [
            f"data {data.name}{' (synthetic)' if data.synthetic else ''}, fingerprint {data.fingerprint}",
            f"scored on {scored_on(judged, data)}",
            f"objective {objective.name}; seed {config.seed}; {len(rows)} trials",
            *[f"left out of the second round: {name} ({reason})" for name, reason in final.failures.items()],
        ]
        title = f"Policies for {data.name}"
        front = report.front_of(rows, objective.directions)
        folder.write_report(
            report.markdown(
                title, notes, objective.metrics, judged.metrics[0], rows, final.finalists, final.verdict, front=front
            )
        )
        rounds.note_end(final)
        made = rounds.trials + rounds.finals
        return StudyOutcome(folder.path, folder.best, best, final.verdict, final.finalists, tuple(rows), made)


def join_study(
    url: str,
    name: str,
    *,
    out: Path,
    root: Path | None = None,
    artifacts: Path | None = None,
    weights: Path | None = None,
    progress: Listener | None = None,
    objective: Objective | None = None,
    learn: Learn | None = None,
) -> tuple[int, int]:
    """Work for a study that another process began, until both of its rounds are done.

    Args:
        url: of the storage.
        name: of the study.
        out: folder of this worker, for what it has measured; one worker at a time.
        root: LIVECell's folder on this machine.
        artifacts: folder of the dashboard's pictures, shared with who looks at them; no pictures when None.
        weights: base model on this machine, for the objective ap50.
        progress, objective, learn: see `run_study`.

    Returns:
        How many trials and how many scorings of the second round this worker has done.

    Raises:
        InputError: no such study, or data, folder or storage that cannot be used.
        StudyBrokenError, StorageLostError: see `run_study`.
    """
    tell = progress or (lambda event: None)
    with ExitStack() as held:
        held.enter_context(quiet_optuna())
        held.enter_context(one_thread())
        config = config_of(url, name, out=out, root=root, artifacts=artifacts, weights=weights)
        data = _data(config)
        storage = held.enter_context(
            open_storage(url, heartbeat=config.heartbeat, owner="policy-search worker", tell=_note(tell, config))
        )
        study = load_shared(storage, url, name)
        check_data(study, url, config, data.fingerprint)
        objective = objective or build_objective(config, data)
        folder = RunFolder(out)
        held.enter_context(folder.owned())
        rounds = _Rounds(config, data, objective, learn or _learner(config), storage, url, folder, study, tell,
                         owner=False)  # fmt: skip
        rounds.work()
        return rounds.trials, rounds.finals


def config_of(url: str, name: str, **local: Any) -> RunConfig:
    """The configuration of a study in a storage, as it is on this machine; nothing is written there.

    Args:
        url: of the storage.
        name: of the study.
        local: out, root, artifacts, weights of this machine.

    Raises:
        InputError: no such storage or study.
    """
    check_url(url)
    require_begun(url)
    with quiet_optuna(), stored_storage(url) as storage:
        return config_in(load_shared(storage, url, name), storage=url, **local)


class _Rounds:
    """Both rounds of a study, as one process works on them. An owner keeps the run folder up to date on the way."""

    def __init__(
        self,
        config: RunConfig,
        data: StudyData,
        objective: Objective,
        learn: Learn,
        storage: StudyStorage,
        url: str,
        folder: RunFolder,
        study: optuna.Study,
        tell: Listener,
        *,
        owner: bool = True,
    ) -> None:
        self._config, self._data, self._storage, self._study = config, data, storage, study
        self._tell = tell
        self._alone = is_sqlite(url)
        self.judge = judge_of(objective, config, data)
        self._seeds = fresh_seeds(config.seed, config.final_seeds)
        self._note = _note(tell, config)
        self._book = ScoreBook(folder.path / "scores.jsonl", self._note)
        self._gallery = _gallery(config, data, objective, owner)
        self.trials = self.finals = 0
        self.keeper = Keeper(folder if owner else None, self._note)
        bench = Bench(storage, config, data, objective, learn, self._book, self._gallery, self._note)
        self._first = FirstRound(study, bench, self._trial_done, self._watch_trials)

    def work(self) -> SecondRound:
        """Work until both rounds are done, and judge."""
        lines = _note(self._tell, self._config)
        if self._alone:
            close_abandoned(self._study)
        self._keep(slots_of(self._study))
        slots = work(self._first, self._storage, tell=lines)
        self._keep(slots)
        rows = report.leaderboard(self._study)
        tasks = tasks_for(rows, self._config.finalists, self._seeds)
        with claim_lock(self._storage, self._study.study_name):
            second = open_second_round(self._storage, self._study, self.judge)
            list_tasks(second, tasks)
        if self._alone:
            close_abandoned(second)

        def done(task: Task, trial: FrozenTrial, count: int) -> None:
            self.finals += 1
            text = f"{trial.value:.3f}" if trial.value is not None else f"fail – {trial.user_attrs.get('error')}"
            self._tell(Progress("final", count, len(tasks), f"{task.name}: {text}"))

        finals = Finals(
            second, tasks, policies_of(slots), self.judge, self._book, done,
            lambda count: self._tell(Progress("final", count, len(tasks), "")),
        )  # fmt: skip
        scores = scores_of(second, work(finals, self._storage, tell=lines))
        return decide(rows, self._config.finalists, scores, self._seeds, self.judge.directions[0])

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


def _note(tell: Listener, config: RunConfig | None = None) -> Callable[[str], None]:
    return lambda text: tell(Progress("note", 0, config.trials if config else 0, text))


def _data(config: RunConfig) -> StudyData:
    return load_study_data(
        config.data,
        root=config.root,
        validate_on=config.validate_on,
        target=config.target,
        max_images=config.max_images,
        seed=config.seed,
    )


def _learner(config: RunConfig) -> Learn:
    from policy_search.study.learning import Learner  # only searched trials need it

    return Learner(config.seed, config.recognise_steps, config.target_steps)


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Progress is told by us; Optuna's own lines and the notes on its experimental parts stay out of the way."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


def _line(row: report.TrialRow) -> str:
    if row.values:
        return f"{row.name}: {', '.join(f'{value:.3f}' for value in row.values)} ({row.seconds:.1f} s)"
    return f"{row.name or f'trial {row.number}'}: {row.state}{' – ' + row.error if row.error else ''}"

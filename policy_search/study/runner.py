"""A study from start to end: first round, second round, best.json, report. Resumable, by one process or by many."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policy_search.augment import PolicyDocument
from policy_search.cells.errors import InputError
from policy_search.cells.files import require_writable_folder
from policy_search.config import RunConfig
from policy_search.relaxed.threads import one_thread
from policy_search.study import report
from policy_search.study.data import StudyData, load_study_data
from policy_search.study.folder import RunFolder
from policy_search.study.keeping import needed
from policy_search.study.making import Learn
from policy_search.study.objective import Objective
from policy_search.study.objectives import build_objective, fingerprint_of, judge_of, scored_on
from policy_search.study.opening import (
    check_same,
    config_in,
    load_shared,
    open_study,
    require_begun,
    require_database,
    require_trials,
)
from policy_search.study.provenance import best_document
from policy_search.study.quiet import quiet_optuna
from policy_search.study.reports.storage import stored_storage
from policy_search.study.rounds import Listener, Progress, Rounds, noting
from policy_search.study.storage import StorageLostError, check_url, default_url, open_storage
from policy_search.study.storages.url import without_password
from policy_search.study.verdict import Finalist, Verdict
from policy_search.study.worker import slots_of

__all__ = ["Listener", "Progress", "StudyOutcome", "config_of", "join_study", "run_study"]


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
        fingerprint = fingerprint_of(config, data)
        if config.artifacts is not None:
            require_writable_folder(config.artifacts, "--artifacts")
        folder = RunFolder(config.out)
        folder.check(config, fingerprint)
        held.enter_context(folder.owned())
        claimed = folder.claimed
        url = config.storage or default_url(folder.path)
        lines = noting(tell, config)
        require_database(folder, url, config.study_name)
        storage = held.enter_context(
            open_storage(url, heartbeat=config.heartbeat, owner="policy-search run", tell=lines)
        )
        require_trials(folder, storage, url, config.study_name)
        kept = config.model_copy(update={"storage": config.storage and without_password(config.storage)})
        folder.claim(kept, fingerprint)
        try:
            study = open_study(storage, url, config, fingerprint, objective, begun=claimed or adopt)
        except InputError as error:
            # Another run's study: the folder must not look as if it had begun it when the command is repeated.
            if not claimed and not isinstance(error, StorageLostError):
                folder.unclaim()
            raise
        lines(f"{len(data.train)} training images; scored on {scored_on(objective, data)}")
        judged, learn = judge_of(objective, config, data), learn or _learner(config, lines)
        rounds = Rounds(config, data, fingerprint, objective, judged, learn, storage, url, folder, study, tell)
        final = rounds.work()
        rows = report.leaderboard(study)
        held.enter_context(needed(folder))
        rounds.keeper.write(slots_of(study))
        best = best_document(
            config, data, scored_on(judged, data), judged.metrics[0], study.study_name, rows, final.verdict, folder
        )
        best.save(folder.best)
        notes = [
            f"data {data.name}{' (synthetic)' if data.synthetic else ''}, fingerprint {fingerprint}",
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
        fingerprint = fingerprint_of(config, data)
        lines, owner = noting(tell, config), "policy-search worker"
        storage = held.enter_context(open_storage(url, heartbeat=config.heartbeat, owner=owner, tell=lines))
        study = load_shared(storage, url, name)
        check_same(study, url, config, fingerprint)
        objective = objective or build_objective(config, data)
        folder = RunFolder(out)
        held.enter_context(folder.owned())
        judged, learn = judge_of(objective, config, data), learn or _learner(config, lines)
        rounds = Rounds(
            config, data, fingerprint, objective, judged, learn, storage, url, folder, study, tell, owner=False
        )
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


def _data(config: RunConfig) -> StudyData:
    return load_study_data(
        config.data,
        root=config.root,
        validate_on=config.validate_on,
        target=config.target,
        max_images=config.max_images,
        seed=config.seed,
    )


def _learner(config: RunConfig, tell: Callable[[str], None]) -> Learn:
    from policy_search.study.learning import Learner  # only searched trials need it

    return Learner(config.seed, config.recognise_steps, config.target_steps, tell)

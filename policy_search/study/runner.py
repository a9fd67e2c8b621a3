"""A study from start to end: trials, second round, best.json, report. Resumable at every trial.

Trials are numbered by *slots*, the count of finished trials before them. The sampler of a slot is seeded from (seed,
slot) and sees the finished trials only, so a run that was interrupted and continued makes the same trials as one that
was not.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.trial import TrialState

from policy_search.augment import PolicyDocument
from policy_search.cells.errors import InputError
from policy_search.config import RunConfig
from policy_search.relaxed.threads import one_thread
from policy_search.study import report
from policy_search.study.data import StudyData, load_study_data
from policy_search.study.finals import second_round
from policy_search.study.folder import RunFolder
from policy_search.study.objectives import Objective, ProbeObjective
from policy_search.study.probe import ProbeError, ProbeSettings
from policy_search.study.provenance import best_document
from policy_search.study.space import BASELINE_ATTR, Knobs, Proposal, propose, queue
from policy_search.study.storage import check_url, default_url, open_storage
from policy_search.study.verdict import Finalist, Verdict

# (training data, knobs, steps, seed) -> the learnt policy
Learn = Callable[[StudyData, Knobs, int, int], PolicyDocument]


@dataclass(frozen=True)
class Progress:
    """What is told on the way: `kind` says of what, `done` of `total`, and a line to print."""

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
    """

    folder: Path
    best_path: Path
    best: PolicyDocument
    verdict: Verdict
    finalists: tuple[Finalist, ...]
    rows: tuple[report.TrialRow, ...]


def run_study(
    config: RunConfig,
    *,
    progress: Listener | None = None,
    objective: Objective | None = None,
    learn: Learn | None = None,
) -> StudyOutcome:
    """Run or continue the study of `config` in its run folder.

    Args:
        config: see `RunConfig`.
        progress: called at every trial and finalist; what it raises stops the run, which can then be continued.
        objective: scores policies; the probe on the configured data when None.
        learn: makes the policy of a searched trial; the relaxed search when None.

    Raises:
        InputError: data, folder or storage that cannot be used.
    """
    tell = progress or (lambda event: None)
    with ExitStack() as held:
        held.enter_context(_quiet_optuna())
        held.enter_context(one_thread())
        # What the user gave is looked at before the run folder is made: bad input leaves nothing behind.
        if config.storage is not None:
            check_url(config.storage)
        data = load_study_data(
            config.data,
            root=config.root,
            validate_on=config.validate_on,
            max_images=config.max_images,
            seed=config.seed,
        )
        folder = RunFolder(config.out)
        held.enter_context(folder.owned())
        folder.claim(config, data.fingerprint)
        tell(Progress("note", 0, config.trials, f"{len(data.train)} training images; scored on {data.validation}"))
        objective = objective or ProbeObjective(data, probe_settings(config))
        study = _open_study(config, folder, data, objective)
        _close_stale(study)
        trials = _Trials(config, folder, data, objective, learn or _relaxed_search)
        for slot in range(len(report.finished(study)), config.trials):
            row = trials.run(study, slot)
            folder.write_log([report.log_line(r) for r in report.finished(study)])
            tell(Progress("trial", slot + 1, config.trials, _line(row)))
        final = second_round(
            study,
            folder,
            objective,
            seeds=[probe_seed(config.seed, 1 + i) for i in range(config.final_seeds)],
            places=config.finalists,
            tell=lambda done, total, message: tell(Progress("final", done, total, message)),
        )
        rows = report.leaderboard(study)
        best = best_document(config, data, objective.name, study.study_name, rows, final.verdict, folder)
        best.save(folder.best)
        notes = [
            f"data {data.name}{' (synthetic)' if data.synthetic else ''}, fingerprint {data.fingerprint}",
            f"scored on {data.validation}",
            f"seed {config.seed}; {len(rows)} trials",
            *[f"left out of the second round: {name} ({reason})" for name, reason in final.failures.items()],
        ]
        title = f"Policies for {data.name}"
        folder.write_report(report.markdown(title, notes, objective.name, rows, final.finalists, final.verdict))
        return StudyOutcome(folder.path, folder.best, best, final.verdict, final.finalists, tuple(rows))


def probe_settings(config: RunConfig) -> ProbeSettings:
    """The probe's budget in a configuration."""
    return ProbeSettings(base_steps=config.probe_base_steps, steps=config.probe_steps, crop=config.probe_crop)


def probe_seed(seed: int, stream: int) -> int:
    """Seed of scoring: stream 0 is the first round, where all trials share it, 1 … the fresh seeds of the second."""
    return int(np.random.SeedSequence([seed, stream]).generate_state(1)[0])


class _Trials:
    """The first round."""

    def __init__(
        self, config: RunConfig, folder: RunFolder, data: StudyData, objective: Objective, learn: Learn
    ) -> None:
        self._config, self._folder, self._data = config, folder, data
        self._objective, self._learn = objective, learn

    def run(self, study: optuna.Study, slot: int) -> report.TrialRow:
        """One trial; afterwards it is finished in the storage, whatever happened."""
        study.sampler = sampler(self._config.seed, slot)
        first = queue()
        # A trial that still waits was queued for this slot by a run that was interrupted.
        if slot < len(first) and not study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            attrs = {BASELINE_ATTR: first[slot].baseline} if first[slot].baseline else {}
            study.enqueue_trial(first[slot].params, user_attrs=attrs)
        # optimize, not ask and tell: heartbeats of shared storages run inside optimize only.
        study.optimize(lambda trial: self._score(study, trial, slot), n_trials=1, catch=(Exception,))
        return report.finished(study)[-1]

    def _score(self, study: optuna.Study, trial: optuna.Trial, slot: int) -> float:
        started = time.perf_counter()
        trial.set_user_attr("slot", slot)
        try:
            return self._value(study, trial, slot)
        except optuna.TrialPruned:
            raise
        except Exception as error:  # not Ctrl-C: a trial without an error is done again when the run is continued
            trial.set_user_attr("error", f"{type(error).__name__}: {error}")
            raise
        finally:
            trial.set_user_attr("seconds", time.perf_counter() - started)

    def _value(self, study: optuna.Study, trial: optuna.Trial, slot: int) -> float:
        proposal = propose(trial, slot)
        trial.set_user_attr("name", proposal.name)
        trial.set_user_attr("family", proposal.family)
        trial.set_user_attr("is_baseline", proposal.baseline)
        document = self._document(proposal, slot)
        trial.set_user_attr("hash", document.content_hash)
        self._folder.save_policy(slot, document)
        same = _scored(study, document.content_hash)
        if same is not None and same.score is not None:
            trial.set_user_attr("repeats", same.number)
            trial.set_user_attr("domains", dict(same.domains))
            return same.score

        def check(share: float, value: float) -> None:
            trial.report(value, round(100 * share))
            if not proposal.baseline and trial.should_prune():
                raise optuna.TrialPruned

        score = self._objective.score(document, seed=probe_seed(self._config.seed, 0), report=check)
        if not math.isfinite(score.value):
            raise ProbeError(f"the policy's score is {score.value}")
        trial.set_user_attr("domains", dict(score.domains))
        return score.value

    def _document(self, proposal: Proposal, slot: int) -> PolicyDocument:
        if proposal.document is not None:
            return proposal.document.with_provenance(name=proposal.name, family=proposal.family)
        if proposal.knobs is None:
            raise ValueError(f"proposal {proposal.name} has neither document nor knobs")
        seed = int(np.random.SeedSequence([self._config.seed, 0, slot]).generate_state(1)[0])
        document = self._learn(self._data, proposal.knobs, self._config.steps, seed)
        return document.with_provenance(name=proposal.name, family=proposal.family)


def _scored(study: optuna.Study, content_hash: str) -> report.TrialRow | None:
    """The trial that has scored this policy, if there is one: the same policy at the same seed scores the same."""
    rows = report.finished(study)
    return next((r for r in rows if r.content_hash == content_hash and r.score is not None), None)


def sampler(seed: int, slot: int) -> optuna.samplers.TPESampler:
    """TPE for one slot. Groups: parameters of a family are modelled together, from the trials of that family."""
    state = int(np.random.SeedSequence([seed, slot]).generate_state(1)[0])
    return optuna.samplers.TPESampler(seed=state, multivariate=True, group=True, n_startup_trials=10)


def _relaxed_search(data: StudyData, knobs: Knobs, steps: int, seed: int) -> PolicyDocument:
    from policy_search.study.learning import learn_policy  # only searched trials need it

    return learn_policy(data.train, knobs, steps=steps, seed=seed)


def _open_study(config: RunConfig, folder: RunFolder, data: StudyData, objective: Objective) -> optuna.Study:
    study = optuna.create_study(
        storage=open_storage(config.storage or default_url(folder.path)),
        study_name=f"{data.name} seed {config.seed}",
        direction=objective.direction,
        # The lower third at half time is given up; noise of one seed makes a sharper rule throw away good policies.
        pruner=optuna.pruners.PercentilePruner(66.0, n_startup_trials=8),
        load_if_exists=True,
    )
    if not study.trials:
        study.set_metric_names([objective.name])
        study.set_user_attr("config", config.identity())
        study.set_user_attr("fingerprint", data.fingerprint)
    elif study.user_attrs.get("config") != config.identity() or study.user_attrs.get("fingerprint") != data.fingerprint:
        raise InputError(
            f"the storage holds a study named {study.study_name!r} of another configuration or other data: "
            "name another --storage, or none to keep the trials in the run folder"
        )
    missing = [r.number for r in report.finished(study) if r.content_hash and not folder.has_policy(r.number)]
    if missing:
        raise InputError(
            f"the storage holds the study {study.study_name!r}, but {folder.path} lacks the policy of its trial "
            f"{missing[0]}: continue in the folder where it was begun, or name another --storage"
        )
    return study


def _close_stale(study: optuna.Study) -> None:
    """Trials that are still running belong to a process that is gone: the folder has one owner."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)


@contextmanager
def _quiet_optuna() -> Iterator[None]:
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
    if row.score is not None:
        return f"{row.name}: {row.score:.3f} ({row.seconds:.1f} s)"
    return f"{row.name or f'trial {row.number}'}: {row.state}{' – ' + row.error if row.error else ''}"

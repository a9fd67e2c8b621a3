"""The first round: every slot plans, makes and scores one policy, all on one seed."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial, TrialState

from policy_search.augment import PolicyDocument
from policy_search.config import RunConfig
from policy_search.study.artifacts import Gallery
from policy_search.study.data import StudyData
from policy_search.study.halving import Halving
from policy_search.study.making import Learn, Made, make_policy
from policy_search.study.notes import TrialFacts
from policy_search.study.objective import Objective, Score
from policy_search.study.planning import plan
from policy_search.study.report import TrialRow, row_of
from policy_search.study.scorebook import ScoreBook
from policy_search.study.seeds import probe_seed
from policy_search.study.slots import SLOT, Slots, next_slot
from policy_search.study.space import Proposal, Space, propose
from policy_search.study.storage import StorageLostError
from policy_search.study.stored_policies import put_policy
from policy_search.study.worker import Recorded


@dataclass(frozen=True)
class Bench:
    """What a worker works with.

    Attributes:
        config: of the study.
        data: what policies are learnt and scored on.
        objective: scores them.
        learn: the inner search.
        book: scores that this worker has measured before.
        gallery: shows policies on the dashboard; None for a worker that has nowhere to put pictures.
        tell: is given lines to print.
    """

    config: RunConfig
    data: StudyData
    objective: Objective
    learn: Learn
    book: ScoreBook
    gallery: Gallery | None
    tell: Callable[[str], None]


class ScoreError(RuntimeError):
    """A score that is no number."""


class FirstRound:
    """See `worker.Round`."""

    def __init__(
        self,
        study: optuna.Study,
        bench: Bench,
        finished: Callable[[TrialRow, Slots], None] = lambda row, slots: None,
        watch: Callable[[Slots], None] = lambda slots: None,
    ) -> None:
        self.study, self._bench, self._finished, self._watch = study, bench, finished, watch
        self._space = Space(per_transform=bench.config.per_transform)
        self._sampler = Recorded()
        self.study.sampler = self._sampler

    def done(self, slots: Slots) -> bool:
        return slots.complete >= self._bench.config.trials

    def next_slot(self, slots: Slots) -> int | None:
        return next_slot(slots, self._bench.config.trials, self._bench.config.parallel)

    def perform(self, trial: optuna.Trial, slot: int, slots: Slots) -> float | tuple[float, ...]:
        config, directions = self._bench.config, self._bench.objective.directions
        seen = slots.seen(slot, config.parallel)
        planned = plan(seen, slot, seed=config.seed, directions=directions, space=self._space)
        self._sampler.params = planned.params
        proposal = propose(trial, slot, self._space, planned.baseline)
        for key, value in (
            ("name", proposal.name), ("family", proposal.family), ("is_baseline", proposal.baseline),
            ("weights", proposal.weights),
        ):  # fmt: skip
            if value is not None:
                trial.set_user_attr(key, value)
        made = make_policy(
            proposal, slot, seen, data=self._bench.data, learn=self._bench.learn, steps=config.steps, seed=config.seed,
            directions=directions,
        )  # fmt: skip
        if made.over is not None:
            trial.set_user_attr("over", made.over)
        trial.set_user_attr("hash", made.document.content_hash)
        put_policy(trial.study._storage, trial._trial_id, made.document)
        started = time.perf_counter()
        score: Score | None = None
        try:
            score = self._known(trial, made.document, seen) or self._score(trial, slot, proposal, made.document, seen)
            trial.set_user_attr("domains", dict(score.domains))
            return score.values
        finally:
            # Policies that are given up or cannot be scored are looked at most.
            if not isinstance(sys.exc_info()[1], KeyboardInterrupt | StorageLostError):
                self._show(trial, proposal, made, score, time.perf_counter() - started)

    def finished(self, trial: FrozenTrial, slots: Slots) -> None:
        slot = trial.user_attrs[SLOT]
        if slot in slots.finished:
            self._finished(row_of(slots.finished[slot]), slots)

    def watch(self, slots: Slots) -> None:
        self._watch(slots)

    def _known(self, trial: optuna.Trial, document: PolicyDocument, seen: Mapping[int, FrozenTrial]) -> Score | None:
        """The score of the same policy in an earlier slot: on one seed it scores the same."""
        for slot, other in seen.items():
            if other.state == TrialState.COMPLETE and other.user_attrs.get("hash") == document.content_hash:
                trial.set_user_attr("repeats", slot)
                return Score(tuple(other.values), other.user_attrs.get("domains", {}))
        return None

    def _score(
        self,
        trial: optuna.Trial,
        slot: int,
        proposal: Proposal,
        document: PolicyDocument,
        seen: Mapping[int, FrozenTrial],
    ) -> Score:
        objective, book, seed = self._bench.objective, self._bench.book, probe_seed(self._bench.config.seed, 0)
        halving = (
            Halving(seen, slot, objective.directions[0], name=self.study.study_name) if objective.prunable else None
        )
        reports: list[tuple[float, float]] = []

        def check(share: float, value: float) -> None:
            reports.append((share, value))
            if halving is None:
                return
            trial.report(value, round(100 * share))
            stop = halving.stop(share, value)
            for key, rung in halving.rungs.items():
                trial.study._storage.set_trial_system_attr(trial._trial_id, key, rung)
            if stop and not proposal.baseline:
                raise optuna.TrialPruned

        known = book.get(document.content_hash, seed)
        if known is not None:
            for share, value in known.reports:
                check(share, value)
            return known.score
        score = objective.score(document, seed=seed, report=check if halving else None)
        require_finite(score)
        book.put(document.content_hash, seed, score, reports)
        return score

    def _show(self, trial: optuna.Trial, proposal: Proposal, made: Made, score: Score | None, seconds: float) -> None:
        if self._bench.gallery is None:
            return
        scored = score.losses if score else {}
        # The figure groups curves by what stands before the colon.
        losses = {name if ": " in name else f"{self._bench.objective.name}: {name}": v for name, v in scored.items()}
        facts = TrialFacts(
            proposal.name, proposal.family, score.values if score else None, score.domains if score else {}, seconds,
            _remark(trial, made, score),
        )  # fmt: skip
        warning = self._bench.gallery.show_trial(self.study, trial, made.document, facts, {**made.losses, **losses})
        if warning is not None:
            self._bench.tell(warning)


def _remark(trial: optuna.Trial, made: Made, score: Score | None) -> str:
    words = []
    if made.over is not None:
        words.append(f"Made of the sub-policies of searched_t{made.over:03d}.")
    if "repeats" in trial.user_attrs:
        words.append(f"The same policy as in slot {trial.user_attrs['repeats']}, whose score it takes over.")
    if score is None:
        error = sys.exc_info()[1]
        pruned = isinstance(error, optuna.TrialPruned)
        words.append("Given up on the way (Hyperband)." if pruned else f"Not scored: {type(error).__name__}: {error}.")
    return " ".join(words)


def require_finite(score: Score) -> None:
    """Raises ScoreError for a value that is not finite: it would win or lose by accident."""
    if not all(math.isfinite(value) for value in score.values):
        raise ScoreError(f"the policy's score is {', '.join(str(value) for value in score.values)}")

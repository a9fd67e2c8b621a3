"""The first round: every slot plans, makes and scores one policy, all on one seed."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

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
from policy_search.study.space import FAMILY, Proposal, Space, propose
from policy_search.study.storage import StorageLostError, StudyStorage
from policy_search.study.stored_policies import packed_policy


@dataclass(frozen=True)
class Bench:
    """What a worker works with.

    Attributes:
        storage: of the study.
        config: of the study.
        data: what policies are learnt and scored on.
        objective: scores them.
        learn: the inner search.
        book: scores that this worker has measured before.
        gallery: shows policies on the dashboard; None for a worker that has nowhere to put pictures.
        tell: is given lines to print.
    """

    storage: StudyStorage
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
        self._planned: tuple[int, Mapping[str, Any], Proposal] | None = None  # slot, parameters, what they propose
        self._space = Space(per_transform=bench.config.per_transform, targets=bool(bench.config.target))
        # Parameters come with the trial; a sampler that models nothing costs nothing.
        self.study.sampler = optuna.samplers.RandomSampler()

    def done(self, slots: Slots) -> bool:
        return slots.complete >= self._bench.config.trials

    def next_slot(self, slots: Slots) -> int | None:
        return next_slot(slots, self._bench.config.trials, self._bench.config.parallel)

    def template(self, slot: int, slots: Slots) -> FrozenTrial:
        config, space = self._bench.config, self._space
        seen = slots.seen(slot, config.parallel)
        planned = plan(seen, slot, seed=config.seed, directions=self._bench.objective.directions, space=space)
        proposal = propose(optuna.trial.FixedTrial(planned.params), slot, space, planned.baseline)
        self._planned = slot, planned.params, proposal
        attrs = {SLOT: slot, "name": proposal.name, "family": proposal.family, "is_baseline": proposal.baseline}
        if proposal.weights is not None:
            attrs["weights"] = dict(proposal.weights)
        kinds = {FAMILY: optuna.distributions.CategoricalDistribution(space.families)} if planned.params else {}
        if planned.params:
            kinds |= space.distributions(planned.params[FAMILY])
        return optuna.trial.create_trial(
            state=TrialState.WAITING, params=planned.params, distributions=kinds, user_attrs=attrs
        )

    def perform(self, trial: optuna.Trial, slot: int, slots: Slots) -> float | tuple[float, ...]:
        started = time.perf_counter()
        config = self._bench.config
        seen = slots.seen(slot, config.parallel)
        if self._planned is not None and self._planned[:2] == (slot, trial.params):
            proposal = self._planned[2]  # making its policy again would cost as much as all of the planning
        else:
            proposal = propose(trial, slot, self._space, trial.user_attrs["name"] if _is_baseline(trial) else None)
        made = make_policy(
            proposal, slot, seen, data=self._bench.data, learn=self._bench.learn, steps=config.steps, seed=config.seed,
            directions=self._bench.objective.directions,
        )  # fmt: skip
        repeated = self._same(made.document, seen)
        attrs = {
            "hash": made.document.content_hash,
            **({"over": made.over} if made.over is not None else {}),
            **({"repeats": repeated} if repeated is not None else {}),
        }
        self._bench.storage.set_trial_attrs(trial._trial_id, user=attrs, system=packed_policy(made.document))
        score: Score | None = None
        try:
            if repeated is not None:
                score = Score(tuple(seen[repeated].values), seen[repeated].user_attrs.get("domains", {}))
            else:
                score = self._score(trial, slot, made.document, seen)
            self._bench.storage.set_trial_attrs(trial._trial_id, user={"domains": dict(score.domains)})
            return score.values
        finally:
            # Policies that are given up or cannot be scored are looked at most.
            if not isinstance(sys.exc_info()[1], KeyboardInterrupt | StorageLostError):
                self._show(trial, proposal, made, score, time.perf_counter() - started, repeated, seen)

    def finished(self, trial: FrozenTrial, slots: Slots) -> None:
        result = slots.finished.get(trial.user_attrs[SLOT])
        if result is not None and result.number == trial.number:  # else it was cut off, and perhaps done by another
            self._finished(row_of(result), slots)

    def watch(self, slots: Slots) -> None:
        self._watch(slots)

    def _same(self, document: PolicyDocument, seen: Mapping[int, FrozenTrial]) -> int | None:
        """The earlier slot that has scored this policy, if one has: on one seed it scores the same."""
        for slot, other in seen.items():
            if other.state == TrialState.COMPLETE and other.user_attrs.get("hash") == document.content_hash:
                return slot
        return None

    def _score(
        self,
        trial: optuna.Trial,
        slot: int,
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
            before, stop = halving.rungs, halving.stop(share, value)
            if halving.rungs != before:  # most reports are no judgement, and each write waits for the disk
                self._bench.storage.set_trial_attrs(trial._trial_id, system=halving.rungs)
            if stop and not _is_baseline(trial):
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

    def _show(
        self,
        trial: optuna.Trial,
        proposal: Proposal,
        made: Made,
        score: Score | None,
        seconds: float,
        repeated: int | None,
        seen: Mapping[int, FrozenTrial],
    ) -> None:
        if self._bench.gallery is None:
            return
        losses = {**made.losses, **(score.losses if score else {})}
        facts = TrialFacts(
            proposal.name, proposal.family, score.values if score else None, score.domains if score else {}, seconds,
            _remark(None if made.over is None else seen[made.over].user_attrs["name"], score, repeated),
        )  # fmt: skip
        warning = self._bench.gallery.show_trial(self.study, trial, made.document, facts, losses)
        if warning is not None:
            self._bench.tell(warning)


def _is_baseline(trial: optuna.Trial) -> bool:
    return bool(trial.user_attrs["is_baseline"])


def _remark(over: str | None, score: Score | None, repeated: int | None) -> str:
    words = []
    if over is not None:
        words.append(f"Made of the sub-policies of {over}.")
    if repeated is not None:
        words.append(f"The same policy as in slot {repeated}, whose score it takes over.")
    if score is None:
        error = sys.exc_info()[1]
        pruned = isinstance(error, optuna.TrialPruned)
        words.append("Given up on the way (Hyperband)." if pruned else f"Not scored: {type(error).__name__}: {error}.")
    return " ".join(words)


def require_finite(score: Score) -> None:
    """Raises ScoreError for a value that is not finite: it would win or lose by accident."""
    if not all(math.isfinite(value) for value in score.values):
        raise ScoreError(f"the policy's score is {', '.join(str(value) for value in score.values)}")

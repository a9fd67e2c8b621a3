"""The objective `affinity-diversity`: how little a policy confuses a trained network, and how much it makes it work.

After Gontijo-Lopes, Smullin, Cubuk and Dyer, "Tradeoffs in data augmentation: an empirical study" (ICLR 2021), who find
that neither predicts what an augmentation is worth and that both together do. What follows the paper: affinity is the
score of a network trained on untouched images, on held-out images of the source under the augmentation less on the same
images as they are; diversity is the training loss at the end of a training under the augmentation, relative to one
without. What differs: the task is instance segmentation, so accuracy is `MatchCounts.score`, labels follow the images,
and every image is drawn several times, not once; the training is a probe's (a short continuation from the network
trained on untouched images, a third of the images untouched, as in fine-tuning), not one from fresh weights to
convergence; the loss at the end is a mean over the last fifth of the steps, as one step's depends on its crops.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from policy_search.augment import PolicyDocument, baseline
from policy_search.cells.errors import InputError
from policy_search.study.data import StudyData
from policy_search.study.draws import draws_of
from policy_search.study.objective import Report, Score
from policy_search.study.objectives_probe import ProbeObjective, thinned
from policy_search.study.probe import Domain, ProbeSample, matched, train_under
from policy_search.study.verdict import Direction

DRAWS = 4  # of every held-out image
LAST = 0.2  # share of the steps whose mean loss stands for the end


@dataclass
class AffinityDiversityObjective:
    """Affinity (at most 1, mostly negative) and diversity (1 without augmentation); larger is better in both.

    Args:
        probe: whose data, settings and common starts are used; it scores nothing here.

    Raises:
        InputError: the source has no held-out image.
    """

    probe: ProbeObjective
    name: str = "affinity-diversity"
    metrics: tuple[str, ...] = ("affinity", "diversity")
    directions: tuple[Direction, ...] = ("maximize", "maximize")
    prunable: bool = False
    _untouched: dict[int, tuple[float, tuple[float, ...]]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not self.probe.data.held_out:
            raise InputError(
                f"--objective affinity-diversity needs held-out images of the source: with --validate-on they come "
                f"from its val split, and {self.probe.data.name} has none. Leave --validate-on out."
            )

    @property
    def data(self) -> StudyData:
        """What is looked at."""
        return self.probe.data

    def score(self, document: PolicyDocument, *, seed: int, report: Report | None = None) -> Score:
        """See `Objective`. Does not report on the way: half a Pareto front prunes nothing."""
        started = time.perf_counter()
        clean, without = self.prepare(seed)
        losses = self.losses(document, seed)
        values = (self.affinity(document, seed, clean), end_of(losses) / end_of(without))
        shown = {"probe: loss under the policy": thinned(losses), "probe: loss on untouched images": thinned(without)}
        return Score(values, {}, time.perf_counter() - started, shown)

    def prepare(self, seed: int) -> tuple[float, tuple[float, ...]]:
        """Score on the clean held-out images and losses of a training without augmentation, once a seed."""
        if seed not in self._untouched:
            clean = matched(self.probe.prepare(seed), [Domain("clean", self.data.held_out)])
            self._untouched[seed] = (clean, self.losses(baseline("none"), seed))
        return self._untouched[seed]

    def affinity(self, document: PolicyDocument, seed: int, clean: float) -> float:
        """Score of the common start on augmented held-out images, less `clean`, its score on them as they are."""
        augment = draws_of(document, self.data.train, seed=seed)
        changed = tuple(
            ProbeSample(sample.id, *augment(sample.image, sample.instances, sample.id, draw))
            for sample in self.data.held_out
            for draw in range(DRAWS)
        )
        return matched(self.probe.prepare(seed), [Domain("augmented", changed)]) - clean

    def losses(
        self, document: PolicyDocument, seed: int, after: Callable[[Sequence[float]], None] | None = None
    ) -> tuple[float, ...]:
        """Of a probe's training under the policy; `after` is called with those so far, after every step."""
        augment = draws_of(document, self.data.train, seed=seed)
        base, settings = self.probe.prepare(seed), self.probe.settings
        told = None if after is None else (lambda net, losses: after(losses))
        return train_under(base, self.data.train, augment, seed=seed, settings=settings, after=told)[1]


def end_of(losses: Sequence[float]) -> float:
    """The mean of the last fifth of the steps."""
    return float(np.mean(losses[-max(round(LAST * len(losses)), 1) :]))

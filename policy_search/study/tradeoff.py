"""The objective `tradeoff`: affinity times diversity, one number for what `affinity-diversity` shows as two.

Both matter (see `affinity`): images that a trained network no longer knows teach nothing, nor do images that it knows
already. The product asks for both: the share of its score that the network keeps on augmented images, times how much
harder they are to learn. `none` has 1, and few policies have more: the product knows nothing of other cells and
microscopes, and prefers to change little.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from policy_search.augment import PolicyDocument
from policy_search.study.affinity import AffinityDiversityObjective, end_of
from policy_search.study.data import StudyData
from policy_search.study.objective import Report, Score
from policy_search.study.objectives_probe import thinned
from policy_search.study.probe import ProbeError
from policy_search.study.verdict import Direction

CHECKS = (0.25, 0.5)  # shares of the training at which the product so far is reported


@dataclass
class TradeoffObjective:
    """(1 + affinity / clean score) · diversity; 0 or more, larger is better.

    Args:
        both: gives affinity and diversity, and the networks that both start from.
    """

    both: AffinityDiversityObjective
    name: str = "tradeoff"
    metrics: tuple[str, ...] = ("affinity × diversity",)
    directions: tuple[Direction, ...] = ("maximize",)
    prunable: bool = True

    @property
    def data(self) -> StudyData:
        """What is looked at."""
        return self.both.data

    def score(self, document: PolicyDocument, *, seed: int, report: Report | None = None) -> Score:
        """See `Objective`. Reports the product with the loss after a quarter and after half of the training.

        Raises:
            ProbeError: the untouched network finds no cell, so no share of its score can be kept.
        """
        started = time.perf_counter()
        clean, without = self.both.prepare(seed)
        if clean == 0:
            raise ProbeError(
                "the network trained on untouched images finds no cell in the held-out ones: train it longer "
                "(--probe-base-steps), or give another --objective"
            )
        kept = 1 + self.both.affinity(document, seed, clean) / clean
        stops = {round(len(without) * share): share for share in CHECKS} if report else {}

        def check(losses: Sequence[float]) -> None:
            if report is not None and len(losses) in stops:
                report(stops[len(losses)], kept * _harder(losses, without))

        losses = self.both.losses(document, seed, check)
        parts = {"kept score": kept, "relative loss": _harder(losses, without)}
        shown = {"probe: loss under the policy": thinned(losses), "probe: loss on untouched images": thinned(without)}
        return Score((float(np.prod(list(parts.values()))),), parts, time.perf_counter() - started, shown)


def _harder(losses: Sequence[float], without: Sequence[float]) -> float:
    """The loss at the end of a training that is under way, relative to the untouched one's after as many steps."""
    return end_of(losses) / end_of(without[: len(losses)])

"""The second round's judgement: which policy wins on fresh seeds, and whether that means anything."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
Direction = Literal["maximize", "minimize"]


@dataclass(frozen=True)
class Finalist:
    """A policy scored again; `scores` are in the order of the fresh seeds, the same seeds for every finalist."""

    name: str
    family: str
    content_hash: str
    baseline: bool
    scores: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return float(np.mean(self.scores))


@dataclass(frozen=True)
class Verdict:
    """Who won, by how much, and what may be said.

    Attributes:
        winner: goes to best.json: the best learnt policy if its mean is above the best baseline's, else that baseline.
        reference: the best baseline.
        challenger: the best learnt policy; None when no learnt policy got that far.
        margin, low, high: by how much the challenger is better: mean of the paired differences and its interval.
        beats: whether the whole interval lies above zero.
        sentence: all this in words.
    """

    winner: Finalist
    reference: Finalist
    challenger: Finalist | None
    margin: float
    low: float
    high: float
    beats: bool
    sentence: str


def paired_interval(differences: Sequence[float], comparisons: int = 1) -> tuple[float, float, float]:
    """Mean of paired differences and its two-sided t interval at 95 %, Bonferroni-corrected for `comparisons`.

    The correction is for having picked the best of several: the best of three equal policies looks better than it is.

    Raises:
        ValueError: fewer than two differences have no interval.
    """
    values = np.asarray(differences, np.float64)
    if len(values) < 2:
        raise ValueError(f"an interval needs at least 2 paired differences, got {len(values)}")
    quantile = stats.t.ppf(1 - (1 - CONFIDENCE) / (2 * comparisons), len(values) - 1)
    half = float(quantile * values.std(ddof=1) / math.sqrt(len(values)))
    mean = float(values.mean())
    return mean, mean - half, mean + half


def ranked(finalists: Sequence[Finalist], direction: Direction) -> list[Finalist]:
    """Best mean first; ties stay in the order given."""
    return sorted(finalists, key=lambda f: -f.mean if direction == "maximize" else f.mean)


def judge(finalists: Sequence[Finalist], direction: Direction = "maximize") -> Verdict:
    """The verdict over the second round; at least one finalist is a baseline."""
    baselines = [f for f in finalists if f.baseline]
    learnt = [f for f in finalists if not f.baseline]
    reference = ranked(baselines, direction)[0]
    if not learnt:
        sentence = f"No learnt policy finished: best.json is the baseline {reference.name} ({reference.mean:.3f})."
        return Verdict(reference, reference, None, 0.0, 0.0, 0.0, False, sentence)
    challenger = ranked(learnt, direction)[0]
    sign = 1.0 if direction == "maximize" else -1.0
    differences = [sign * (a - b) for a, b in zip(challenger.scores, reference.scores, strict=True)]
    margin, low, high = paired_interval(differences, comparisons=len(learnt))
    ahead, beats = margin > 0, low > 0
    figures = (
        f"{challenger.name} scores {challenger.mean:.3f}, the best baseline {reference.name} {reference.mean:.3f}: "
        f"margin {margin:+.3f}, interval [{low:+.3f}, {high:+.3f}] over {len(differences)} fresh seeds"
    )
    if beats:
        sentence = f"{figures}. It beats the best baseline."
    elif ahead:
        sentence = (
            f"{figures}. Nothing beats the baseline by more than the interval: best.json is ahead on the mean, "
            "which may be chance."
        )
    else:
        sentence = f"{figures}. No learnt policy beats the best baseline, so best.json is that baseline."
    return Verdict(challenger if ahead else reference, reference, challenger, margin, low, high, beats, sentence)

"""Choices put to the test: would fewer operations do, or others, if all magnitudes were fitted anew?

A choice is made beside operations whose magnitudes make up for what is wrong with it (a contrast for a size), and looks
right there. So each is taken back, and exchanged, with the others fitted to that; what brings nothing goes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from policy_search.relaxed.chooser import Chooser
from policy_search.relaxed.fit import fit
from policy_search.relaxed.gauge import is_clear
from policy_search.relaxed.moments import mismatch
from policy_search.relaxed.operations import Range
from policy_search.relaxed.policy import RelaxedPolicy

_CROPS, _MANY = 128, 384  # to fit on, and for what is to stay
_FEW = 32  # to find where an exchanged operation begins
_PLACES = 6  # that are tried for it
_TRIED = 2  # exchanges that are fitted, of those that begin best
_KINDS = ("curve", "matrix", "pixels")  # tone first: beside a wrong one no other exchange can be judged

Made = dict[int, tuple[int, float]]  # stage -> operation and place of its magnitude between its bounds
Gap = Callable[[RelaxedPolicy, int], Tensor]


class Settled(NamedTuple):
    """Choices with fitted magnitudes.

    Attributes:
        mismatch: with them, over the crops that they were fitted on.
        made: the choices.
    """

    mismatch: float
    made: Made

    @property
    def operations(self) -> set[tuple[int, int]]:
        """Stages and what they do, at whatever magnitude."""
        return {(stage, k) for stage, (k, _) in self.made.items()}


class Settler:
    """Tests the choices of a chooser.

    Args:
        chooser: has made its choices.
        gap: whitened gap (D,) of a policy over so many crops; see `Gauge`.
    """

    @torch.no_grad()
    def __init__(self, chooser: Chooser, gap: Gap) -> None:
        self.chooser, self.gap = chooser, gap
        self._fits: dict[tuple[int, frozenset[tuple[int, tuple[int, float]]]], Settled] = {}
        self.best = self.fitted({s: (k, _place(self.span(k), m)) for s, (k, m) in chooser.made.items()})

    @torch.no_grad()
    def settle(self) -> None:
        """Leave the chooser with the choices that stay."""
        self.fewer()
        before = self.best.operations
        for kind in _KINDS:
            for stage in sorted(self.best.made):
                # It may have gone to another stage since.
                if stage in self.best.made and self._acts(stage, kind):
                    self.other(stage, kind)
        if self.best.operations != before:
            self.fewer()
        self.surely()
        self.make(self.best.made)

    def span(self, k: int) -> Range:
        """The bounds of an operation's magnitude."""
        span = self.chooser.policy.operations[k].magnitude
        assert span is not None  # only operations that rest are candidates
        return span

    def make(self, made: Made) -> None:
        """Let the stages do this and nothing else."""
        for stage in range(self.chooser.policy.stages):
            self.chooser.make(stage, None)
        for stage, (k, place) in made.items():
            self.chooser.make(stage, (k, _magnitude(self.span(k), place)))

    def _gap(self, made: Made, crops: int) -> Tensor:
        self.make(made)
        return self.gap(self.chooser.policy, crops)

    def fitted(self, made: Made, crops: int = _CROPS) -> Settled:
        """The same operations, with the magnitudes that are nearest to the target; found once."""
        order, key = sorted(made), (crops, frozenset(made.items()))

        def gap_at(places: list[float]) -> Tensor:
            return self._gap({s: (made[s][0], place) for s, place in zip(order, places, strict=True)}, crops)

        if key not in self._fits:
            places, least = fit(gap_at, [made[s][1] for s in order])
            self._fits[key] = Settled(least, {s: (made[s][0], p) for s, p in zip(order, places, strict=True)})
        return self._fits[key]

    def fewer(self) -> None:
        """Without what brings nothing clear: again and again the operation that is missed least."""
        while self.best.made:
            least = self._least_missed()
            if is_clear(self.best.mismatch, least.mismatch):
                break
            self.best = least

    def surely(self) -> None:
        """The same on many crops: a warp shows other parts of each image, and what a few show differs by more than an
        operation may bring."""
        sure = self.fitted(self.best.made, _MANY)
        while self.best.made:
            least = self._least_missed()
            less = self.fitted(least.made, _MANY)
            if is_clear(sure.mismatch, less.mismatch):
                break
            self.best, sure = least, less
        self.best = sure

    def _least_missed(self) -> Settled:
        made = self.best.made
        less = [self.fitted({s: c for s, c in made.items() if s != stage}) for stage in sorted(made)]
        return min(less, key=lambda settled: settled.mismatch)

    def other(self, stage: int, kind: str) -> None:
        """With another operation of the same kind instead, if that is nearer; a free stage may do it."""
        known, _ = self.best.made[stage]
        rest = {s: c for s, c in self.best.made.items() if s != stage}
        self.make(rest)
        free = [s for s in range(self.chooser.policy.stages) if s not in rest]
        options = [(s, k) for s in free for k, _ in self.chooser.candidates(s, kind) if k != known]
        begun = sorted(self._begun(rest, s, k) for s, k in options)
        for _, s, choice in begun[:_TRIED]:
            found = self.fitted({**rest, s: choice})
            if is_clear(found.mismatch, self.best.mismatch):
                self.best = found

    def _acts(self, stage: int, kind: str) -> bool:
        return getattr(self.chooser.policy.operations[self.best.made[stage][0]], kind) is not None

    def _begun(self, rest: Made, stage: int, k: int) -> tuple[float, int, tuple[int, float]]:
        """The best of a few magnitudes, beside the rest."""
        places = [(i + 0.5) / _PLACES for i in range(_PLACES)]
        return min((mismatch(self._gap({**rest, stage: (k, p)}, _FEW)).item(), stage, (k, p)) for p in places)


def _place(span: Range, magnitude: float) -> float:
    low, high = span.forward(span.low), span.forward(span.high)
    return (span.forward(magnitude) - low) / (high - low)


def _magnitude(span: Range, place: float) -> float:
    low, high = span.forward(span.low), span.forward(span.high)
    value = low + (high - low) * place
    return math.exp(value) if span.logarithmic else value

"""Which row of an experiment carries over better: effects by cell type and mean transfer gain, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import NamedTuple

import numpy as np

from detection.statistics.intervals import Estimate, Part, estimate, holm
from detection.statistics.resamples import Resamples, Runs, Units, resample
from policy_search.cells.errors import InputError

__all__ = ["Comparison", "Contrast", "RowScores", "Runs", "Spread", "against", "compare"]


class Spread(NamedTuple):
    """AP50 in 0 … 1 over seeds: mean, sample standard deviation (None with one seed), the seeds."""

    mean: float
    sd: float | None
    seeds: tuple[int, ...]


class RowScores(NamedTuple):
    """AP50 of one row.

    Attributes:
        seeds: that were run; missing: those of the experiment that were not, or not on every type.
        types: cell type → AP50. unseen: mean over all unseen types, of the seeds that have them all; None without any.
    """

    seeds: tuple[int, ...]
    missing: tuple[int, ...]
    types: Mapping[str, Spread]
    unseen: Spread | None


class Contrast(NamedTuple):
    """One row against another, over the seeds that both have.

    Attributes:
        row, other: labels; effects are `row` less `other`.
        types: cell type → effect, seen types too.
        gain: mean transfer gain: the mean over all unseen types of the effect, over the seeds that have them all; None
            where there is no such seed or no unseen type. Types are fixed: it says nothing of a ninth type.
        unseen: unseen types in `types`. improved: of these, with an effect above 0.
        better, worse: unseen types whose effect is clear of zero after Holm's correction.
        worst: the unseen type with the lowest effect.
    """

    row: str
    other: str
    types: Mapping[str, Estimate]
    gain: Estimate | None
    unseen: tuple[str, ...]
    improved: int
    better: tuple[str, ...]
    worse: tuple[str, ...]
    worst: str | None


class Comparison(NamedTuple):
    """All rows of one source against the reference, and the pairs that were asked for.

    Attributes:
        source, synthetic, reference, rows, seen, seeds: as in `Runs`. types, units: as in `Resamples`.
        level, draws: of the intervals; seed: of the draws.
        scores: every row → AP50. contrasts: every row but the reference that was run → its effects.
        rivals: pairs of rows, with a Holm family of their own.
    """

    source: str
    synthetic: bool
    reference: str
    rows: tuple[str, ...]
    seen: frozenset[str]
    seeds: tuple[int, ...]
    types: tuple[str, ...]
    units: Mapping[str, Units]
    level: float
    draws: int
    seed: int
    scores: Mapping[str, RowScores]
    contrasts: Mapping[str, Contrast]
    rivals: tuple[Contrast, ...]

    def of_one_seed(self) -> list[str]:
        """Rows whose effects come from one training: how much trainings differ is not in their intervals."""
        effects = {row: [*contrast.types.values(), *([contrast.gain] if contrast.gain else [])]
                   for row, contrast in self.contrasts.items()}  # fmt: skip
        return [row for row, own in effects.items() if own and min(len(effect.seeds) for effect in own) == 1]


def compare(
    runs: Runs,
    *,
    pairs: Sequence[tuple[str, str]] = (),
    draws: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Effects of every row against the reference, and of each of `pairs`.

    Holm's correction spans, each by itself: the mean gains of all rows; rows × unseen types; rows × seen types; and the
    same three over `pairs`.

    Args:
        pairs: (row, other). Naming the best naive row after the fact favours it, so compare with every naive row
            (`every_pair`): the correction then covers the choice.
        draws, seed: of the bootstrap over wells (`resample`). level: of the intervals.

    Raises:
        InputError: an unknown row, or what `resample` refuses.
    """
    if not 0.5 <= level < 1:
        raise InputError(f"expected a level of at least 0.5 and below 1, got {level}")
    if draws < 100:
        raise InputError(f"expected at least 100 draws, got {draws}: fewer say little about a spread")
    _known(runs, [runs.reference, *(row for pair in pairs for row in pair)])
    found = resample(runs, draws=draws, seed=seed)
    scores = {row: _scores(found, row) for row in runs.rows}
    rows = [row for row in runs.rows if row != runs.reference and scores[row].seeds]
    contrasts = _corrected([_contrast(found, row, runs.reference, level) for row in rows], runs.seen, level)
    rivals = _corrected([_contrast(found, row, other, level) for row, other in pairs], runs.seen, level)
    return Comparison(
        runs.source, runs.synthetic, runs.reference, runs.rows, runs.seen, runs.seeds, found.types, found.units,
        level, draws, seed, scores, {c.row: c for c in contrasts}, tuple(rivals),
    )  # fmt: skip


def against(runs: Runs, row: str, other: str, *, draws: int = 10_000, level: float = 0.95, seed: int = 0) -> Contrast:
    """Two rows compared as if nothing else had been run: Holm's correction spans their types alone."""
    _known(runs, [row, other])
    own = {key: types for key, types in runs.images.items() if key[0] in (row, other)}
    alone = runs._replace(reference=other, rows=(other, row), images=own)
    return compare(alone, draws=draws, level=level, seed=seed).contrasts[row]


def every_pair(rows: Sequence[str], others: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Each of `rows` with each of `others`, for `compare`."""
    return tuple((row, other) for row in rows for other in others if row != other)


def _known(runs: Runs, labels: Sequence[str]) -> None:
    for label in labels:
        if label not in runs.rows:
            raise InputError(f"there is no row {label!r}: expected one of {', '.join(runs.rows)}")


def _scores(found: Resamples, row: str) -> RowScores:
    runs = found.runs
    by_seed = {
        seed: {t: found.points[row, seed, t] for t in found.types if (row, seed, t) in found.points}
        for seed in runs.seeds
    }
    types = {}
    for name in found.types:
        seeds = tuple(seed for seed in runs.seeds if name in by_seed[seed])
        if seeds:
            types[name] = _spread([by_seed[seed][name] for seed in seeds], seeds)
    unseen = [t for t in found.types if t not in runs.seen]
    whole = tuple(seed for seed in runs.seeds if unseen and all(t in by_seed[seed] for t in unseen))
    mean = _spread([fmean(by_seed[seed][t] for t in unseen) for seed in whole], whole) if whole else None
    missing = tuple(seed for seed in runs.seeds if len(by_seed[seed]) < len(found.types))
    return RowScores(tuple(seed for seed in runs.seeds if by_seed[seed]), missing, types, mean)


def _spread(values: Sequence[float], seeds: tuple[int, ...]) -> Spread:
    return Spread(fmean(values), stdev(values) if len(values) > 1 else None, seeds)


def _contrast(found: Resamples, row: str, other: str, level: float) -> Contrast:
    types = {}
    for name in found.types:
        seeds = _shared(found, row, other, [name])
        if seeds:
            types[name] = estimate([_part(found, row, other, name, seeds)], seeds, level)
    unseen = [t for t in found.types if t not in found.runs.seen]
    seeds = _shared(found, row, other, unseen) if unseen else ()
    gain = estimate([_part(found, row, other, t, seeds) for t in unseen], seeds, level) if seeds else None
    own = tuple(t for t in unseen if t in types)
    improved = sum(types[t].value > 0 for t in own)
    worst = min(own, key=lambda t: types[t].value, default=None)
    return Contrast(row, other, types, gain, own, improved, (), (), worst)


def _shared(found: Resamples, row: str, other: str, types: Sequence[str]) -> tuple[int, ...]:
    """Seeds with which both rows were tested on all of `types`: a mean over fewer is another quantity."""
    return tuple(
        seed for seed in found.runs.seeds
        if all((label, seed, t) in found.points for label in (row, other) for t in types)
    )  # fmt: skip


def _part(found: Resamples, row: str, other: str, name: str, seeds: Sequence[int]) -> Part:
    points = np.array([found.points[row, s, name] - found.points[other, s, name] for s in seeds])
    draws = None
    if found.units[name].kind != "none":
        draws = np.stack([found.draws[row, s, name] - found.draws[other, s, name] for s in seeds], axis=1)
    return Part(points, draws, found.units[name].count)


def _corrected(contrasts: Sequence[Contrast], seen: frozenset[str], level: float) -> list[Contrast]:
    """With Holm's correction over the gains, over the unseen types' effects and over the seen types'."""
    gains = holm([None if c.gain is None else c.gain.p for c in contrasts])
    keys = [(i, t) for i, c in enumerate(contrasts) for t in c.types]
    adjusted: dict[tuple[int, str], float | None] = {}
    for family in ([k for k in keys if k[1] not in seen], [k for k in keys if k[1] in seen]):
        adjusted |= dict(zip(family, holm([contrasts[i].types[t].p for i, t in family]), strict=True))
    result = []
    for i, contrast in enumerate(contrasts):
        types = {t: e._replace(adjusted=adjusted[i, t]) for t, e in contrast.types.items()}
        clear = [t for t in contrast.unseen if types[t].clear(level)]
        gain = None if contrast.gain is None else contrast.gain._replace(adjusted=gains[i])
        better = tuple(t for t in clear if types[t].value > 0)
        worse = tuple(t for t in clear if types[t].value < 0)
        result.append(contrast._replace(types=types, gain=gain, better=better, worse=worse))
    return result

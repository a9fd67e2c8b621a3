"""Numbers of a comparison in words: gains with their intervals, and what may be concluded from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from detection.compare import Comparison, Contrast
from detection.statistics.intervals import Estimate
from detection.tables.blocks import interval, signed


def gain(estimate: Estimate) -> str:
    """`+3.2 [+1.0, +5.4]` in points of AP50."""
    return f"{signed(100 * estimate.value)} {interval(estimate) or '[no interval]'}"


def verdict(found: Comparison) -> list[str]:
    """Sentences on one source: better, worse, undecided and unknown rows; what the intervals cover; what is missing."""
    unseen = [name for name in found.types if name not in found.seen]
    if not unseen:
        return ["No cell type was tested that the models had not seen in training, so nothing is said of transfer."]
    contrasts = list(found.contrasts.values())
    sentences = [*_rows(found, contrasts, len(unseen)), *_caveats(found, unseen), *_missing(found)]
    return sentences + _rivals(found)


def _rows(found: Comparison, contrasts: Sequence[Contrast], unseen: int) -> list[str]:
    level = f"{100 * found.level:g} % interval"

    def names(wanted: Callable[[Estimate], bool]) -> str:
        chosen = [c for c in contrasts if c.gain is not None and wanted(c.gain)]
        chosen.sort(key=lambda c: -c.gain.value)  # type: ignore[union-attr]
        return ", ".join(f"{c.row} {gain(c.gain)}" for c in chosen if c.gain is not None)

    better = names(lambda g: g.clear(found.level) and g.value > 0)
    worse = names(lambda g: g.clear(found.level) and g.value < 0)
    open_ = names(lambda g: g.low is not None and not g.clear(found.level))
    unknown = names(lambda g: g.low is None)
    over = f"the {unseen} cell types" if unseen > 1 else "the one cell type"
    start = (
        f"Mean gain in mask AP50 over “{found.reference}” on {over} never seen in training, in points with the {level}"
    )
    if not contrasts:
        return [f"No row but “{found.reference}” is finished yet, so there is nothing to compare."]
    # A gain on one image is of that image, however many seeds agree on it.
    where = (
        " on these very images" if any(u.kind == "none" and t not in found.seen for t, u in found.units.items()) else ""
    )
    parts = [
        f"{start}.",
        f"Better{where}: {better}." if better else "No row is told to be better.",
        *([f"Worse{where}: {worse}."] if worse else []),
        *([f"Not told apart from no change after Holm's correction: {open_}."] if open_ else []),
        *([f"Nothing can be said (too few seeds or images, or no spread between them): {unknown}."] if unknown else []),
    ]
    return parts


def _caveats(found: Comparison, unseen: Sequence[str]) -> list[str]:
    sentences = []
    single = [name for name in unseen if found.units[name].kind == "none"]
    if single:
        spread = "intervals hold the spread between seeds alone" if len(found.seeds) > 1 else "there is no interval"
        sentences.append(
            f"One test image only, so {spread} and nothing can be said of other images: {', '.join(single)}."
        )
    near = [name for name in unseen if found.units[name].kind == "images"]
    if near:
        sentences.append(f"Images of one well only, near copies, so intervals are too narrow: {', '.join(near)}.")
    if alone := found.of_one_seed():
        rows = "" if len(alone) == len(found.contrasts) else f" for {', '.join(alone)}"
        sentences.append(f"One seed alone{rows}: nothing is known of the spread between trainings.")
    return sentences


def _missing(found: Comparison) -> list[str]:
    parts = [
        f"{row} with seed{'s' if len(own.missing) > 1 else ''} {', '.join(map(str, own.missing))}"
        for row in found.rows
        if (own := found.scores[row]).missing
    ]
    return [f"Missing or incomplete runs: {'; '.join(parts)}."] if parts else []


def _rivals(found: Comparison) -> list[str]:
    """Learnt rows against every naive one: the best of them, picked after the fact, would be favoured."""
    sentences = []
    for row in dict.fromkeys(c.row for c in found.rivals):
        own = [c for c in found.rivals if c.row == row and c.gain is not None]
        if not own:
            continue
        clear = [c for c in own if c.gain is not None and c.gain.clear(found.level)]
        better = [c.other for c in clear if c.gain is not None and c.gain.value > 0]
        worse = [c.other for c in clear if c.gain is not None and c.gain.value < 0]
        open_ = [f"{c.other} {gain(c.gain)}" for c in own if c not in clear and c.gain is not None]
        parts = [
            *([f"better than {', '.join(better)}"] if better else []),
            *([f"worse than {', '.join(worse)}"] if worse else []),
            *([f"not told apart from {', '.join(open_)}"] if open_ else []),
        ]
        sentences.append(f"The learnt {row} against each naive row: {'; '.join(parts)}.")
    return sentences

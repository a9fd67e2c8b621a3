"""A comparison of rows as tables of cells and the sentences that go with them, before any format."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import NamedTuple

from detection.compare import Comparison, Contrast, Spread
from detection.statistics.intervals import Estimate
from detection.statistics.paper import Paper, paper_ap50, paper_gain
from detection.table import UNSEEN


class Cell(NamedTuple):
    """A value, what stands behind it in small (an interval), the paper's value, and whether it is clear of zero."""

    text: str
    detail: str = ""
    paper: str = ""
    bold: bool = False


class Block(NamedTuple):
    """One table. The first column holds names, the others values."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def blocks(found: Comparison, paper: Paper) -> list[Block]:
    """AP50, gains over the reference by type, what they come to by row, and the pairs that were asked for."""
    result = [_ap50(found, paper)]
    if found.contrasts:
        result += [_gains(found, paper), _summary(found, paper)]
    if found.rivals:
        result.append(_rivals(found))
    return result


def _ap50(found: Comparison, paper: Paper) -> Block:
    rows = []
    for name in found.types:
        values = [_spread(found.scores[row].types.get(name), paper_ap50(paper, row, name)) for row in found.rows]
        rows.append((Cell(type_label(found, name)), *values))
    unseen = _unseen(found)
    if unseen:
        papers = [_mean([paper_ap50(paper, row, t) for t in unseen]) for row in found.rows]
        values = [_spread(found.scores[row].unseen, p) for row, p in zip(found.rows, papers, strict=True)]
        rows.append((Cell(UNSEEN), *values))
    return Block("Mask AP50 in %", ("cell type", *found.rows), tuple(rows))


def _gains(found: Comparison, paper: Paper) -> Block:
    rows = []
    for name in found.types:
        values = [
            effect(c.types.get(name), found.level, paper_gain(paper, c.row, c.other, name))
            for c in found.contrasts.values()
        ]
        rows.append((Cell(type_label(found, name)), *values))
    if _unseen(found):
        values = [effect(c.gain, found.level, _paper_mean(found, paper, c)) for c in found.contrasts.values()]
        rows.append((Cell(UNSEEN), *values))
    title = f"Gain over {found.reference} in points of AP50"
    return Block(title, ("cell type", *found.contrasts), tuple(rows))


def _summary(found: Comparison, paper: Paper) -> Block:
    header = ("row", "mean transfer gain", "p (Holm)", "improved", "clearly better", "clearly worse", "worst type")
    rows = [
        (
            Cell(c.row), effect(c.gain, found.level, _paper_mean(found, paper, c)), *_verdict(c, found.level),
        )
        for c in found.contrasts.values()
    ]  # fmt: skip
    return Block(f"Transfer to unseen types, against {found.reference}", header, tuple(rows))


def _rivals(found: Comparison) -> Block:
    header = ("row", "against", "mean transfer gain", "p (Holm)", "improved", "clearly better", "clearly worse",
              "worst type")  # fmt: skip
    rows = [(Cell(c.row), Cell(c.other), effect(c.gain, found.level), *_verdict(c, found.level)) for c in found.rivals]
    return Block("Rows against each other on unseen types", header, tuple(rows))


def _verdict(c: Contrast, level: float) -> tuple[Cell, ...]:
    """p of the gain, counts of types, and the worst one."""
    p = Cell(p_text(c.gain.adjusted if c.gain else None))
    if c.worst is None:
        return p, *[Cell("–")] * 4
    loss = effect(c.types[c.worst], level)
    of = len(c.unseen)
    counts = [Cell(f"{n} of {of}") for n in (c.improved, len(c.better), len(c.worse))]
    return p, *counts, loss._replace(text=f"{c.worst} {loss.text}")


def _unseen(found: Comparison) -> list[str]:
    return [t for t in found.types if t not in found.seen]


def _paper_mean(found: Comparison, paper: Paper, c: Contrast) -> float | None:
    """The paper's mean gain over our unseen types, or None unless it has them all."""
    return _mean([paper_gain(paper, c.row, c.other, t) for t in _unseen(found)])


def _mean(values: Iterable[float | None]) -> float | None:
    numbers = list(values)
    known = [value for value in numbers if value is not None]
    return fmean(known) if known and len(known) == len(numbers) else None


def type_label(found: Comparison, name: str) -> str:
    """A cell type as a row's name."""
    return f"{name} (seen)" if name in found.seen else name


def signed(points: float) -> str:
    """`+3.1`, `−0.4`, and `0.0` where nothing is left after rounding."""
    text = f"{points:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "−")


def p_text(p: float | None) -> str:
    """A p value as people read it."""
    return "–" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"


def interval(estimate: Estimate) -> str:
    """`[+0.5, +5.7]` in points, or nothing."""
    if estimate.low is None or estimate.high is None:
        return ""
    return f"[{signed(100 * estimate.low)}, {signed(100 * estimate.high)}]"


def effect(estimate: Estimate | None, level: float, paper: float | None = None) -> Cell:
    """An effect as a cell, in points."""
    theirs = "" if paper is None else signed(paper)
    if estimate is None:
        return Cell("–", paper=theirs)
    return Cell(signed(100 * estimate.value), interval(estimate), theirs, estimate.clear(level))


def _spread(value: Spread | None, paper: float | None) -> Cell:
    theirs = "" if paper is None else f"{paper:.1f}"
    if value is None:
        return Cell("–", paper=theirs)
    sd = "" if value.sd is None else f" ± {100 * value.sd:.1f}"
    return Cell(f"{100 * value.mean:.1f}{sd}", paper=theirs)


def heading(found: Comparison) -> str:
    """What the numbers were made from, in a few words."""
    kind = "SYNTHETIC cells (demo culture)" if found.synthetic else "real images"
    return f"Trained on {found.source}, {kind}"


def notes(found: Comparison, paper: Paper) -> list[str]:
    """What a reader of the tables must know, in sentences."""
    percent = f"{100 * found.level:g} %"
    seeds = _listed(found.seeds)
    said = [
        f"Mask AP50 in %, mean{' ± sample standard deviation' if len(found.seeds) > 1 else ''} over seeds ({seeds})."
    ]
    if found.contrasts:
        said += [
            f"Gains are in points of AP50, paired by seed and test image; in square brackets {percent} intervals, each "
            "by itself.",
            "Bold and “clearly”: clear of zero after Holm's correction, made over rows for the mean of unseen types, "
            "over rows × unseen types and over rows × seen types for single types.",
            f"Intervals and p: t-distribution, from the spread between seeds and {found.draws:,} bootstrap resamples "
            "(n − 1 of n units, the same for every row and seed).",
            _units(found),
        ]
        if alone := found.of_one_seed():
            rows = "" if len(alone) == len(found.contrasts) else f" ({', '.join(alone)})"
            said.append(f"One seed{rows}: how much trainings differ is not known and not in the intervals.")
    said += _gaps(found)
    if found.rivals:
        said.append(f"Rows against each other are corrected over {len(found.rivals)} pairs.")
    if paper:
        said.append(
            "In parentheses: the paper, trained on all of LIVECell's A172, one training, LIVECell's test sets"
            + (". Other data than here: compare signs, not sizes." if found.synthetic else ".")
        )
    return said


def _units(found: Comparison) -> str:
    said = {
        "wells": "wells",
        "images": "images, because all cells are in one well (near copies, so these intervals are too narrow)",
        "none": "nothing, because all cells are in one image (intervals, if any, hold for this image only)",
    }
    parts = []
    for kind, words in said.items():
        own = [(t, u) for t, u in found.units.items() if u.kind == kind]
        if own:
            names = ", ".join(t if kind == "none" else f"{t} {u.count}" for t, u in own)
            parts.append(f"{words}: {names}")
    return f"Drawn: {'; '.join(parts)}."


def _gaps(found: Comparison) -> list[str]:
    """Rows and seeds that were not run: nothing is filled in."""
    said = []
    absent = [row for row in found.rows if not found.scores[row].seeds]
    if absent:
        said.append(f"Not run: {', '.join(absent)}.")
    short = [f"{row} lacks seed {_listed(found.scores[row].missing)}"
             for row in found.rows if row not in absent and found.scores[row].missing]  # fmt: skip
    if short:
        said.append(f"Not complete: {'; '.join(short)} on some or all types. Gains are over the seeds that both have.")
    return said


def _listed(values: Sequence[int]) -> str:
    return ", ".join(str(value) for value in values)

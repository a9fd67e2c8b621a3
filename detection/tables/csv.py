"""Comparisons of rows as CSV: one line a value, in percent or points of AP50, in full precision."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

from detection.compare import Comparison, Contrast, Spread
from detection.statistics.intervals import Estimate
from detection.statistics.paper import Paper, paper_ap50
from detection.table import UNSEEN

COLUMNS = (
    "source", "synthetic", "quantity", "row", "against", "cell_type", "seen", "seeds", "value", "sd", "low", "high",
    "p", "p_holm", "clear", "df", "unit", "units", "images", "cells", "level", "draws",
)  # fmt: skip


def csv_text(found: Sequence[Comparison], paper: Paper) -> str:
    """All lines.

    Quantities: `ap50` (% with sd over seeds), `gain` (points, with interval; the cell type `mean of unseen` is the mean
    transfer gain), counts of unseen types `unseen`, `improved`, `better`, `worse` (the last two clear of zero after
    Holm), `worst_gain` (points, with its type) and `paper_ap50` (%). An empty field is a value that does not exist.
    """
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for comparison in found:
        common = {"source": comparison.source, "synthetic": int(comparison.synthetic)}
        for line in _lines(comparison, paper):
            writer.writerow({**common, **{k: "" if v is None else v for k, v in line.items()}})
    return out.getvalue()


def _lines(found: Comparison, paper: Paper) -> Iterator[dict[str, Any]]:
    for row in found.rows:
        scores = found.scores[row]
        for name, value in scores.types.items():
            yield {"quantity": "ap50", "row": row, **_type(found, name), **_spread(value)}
        if scores.unseen:
            yield {"quantity": "ap50", "row": row, "cell_type": UNSEEN, **_spread(scores.unseen)}
    for contrast in (*found.contrasts.values(), *found.rivals):
        yield from _contrast(found, contrast)
    for row in found.rows:
        for name in found.types:
            value = paper_ap50(paper, row, name)
            if value is not None:
                yield {"quantity": "paper_ap50", "row": row, "cell_type": name, "value": value}


def _contrast(found: Comparison, contrast: Contrast) -> Iterator[dict[str, Any]]:
    names = {"row": contrast.row, "against": contrast.other}
    for name, estimate in contrast.types.items():
        yield {"quantity": "gain", **names, **_type(found, name), **_estimate(found, estimate)}
    if contrast.gain:
        yield {"quantity": "gain", **names, "cell_type": UNSEEN, **_estimate(found, contrast.gain)}
    counts = {
        "unseen": len(contrast.unseen),
        "improved": contrast.improved,
        "better": len(contrast.better),
        "worse": len(contrast.worse),
    }
    for quantity, value in counts.items():
        yield {"quantity": quantity, **names, "value": value}
    if contrast.worst:
        worst = contrast.types[contrast.worst]
        yield {"quantity": "worst_gain", **names, **_type(found, contrast.worst), **_estimate(found, worst)}


def _type(found: Comparison, name: str) -> dict[str, Any]:
    units = found.units[name]
    own = {"unit": units.kind, "units": units.count, "images": units.images, "cells": units.cells}
    return {"cell_type": name, "seen": int(name in found.seen), **own}


def _spread(value: Spread) -> dict[str, Any]:
    return {"seeds": _seeds(value.seeds), "value": 100 * value.mean, "sd": None if value.sd is None else 100 * value.sd}


def _estimate(found: Comparison, value: Estimate) -> dict[str, Any]:
    points = {"low": value.low, "high": value.high, "value": value.value}
    return {
        "seeds": _seeds(value.seeds),
        **{name: None if number is None else 100 * number for name, number in points.items()},
        "p": value.p, "p_holm": value.adjusted, "df": value.df,
        "clear": None if value.adjusted is None else int(value.clear(found.level)),
        "level": found.level, "draws": found.draws,
    }  # fmt: skip


def _seeds(seeds: Sequence[int]) -> str:
    return " ".join(str(seed) for seed in seeds)

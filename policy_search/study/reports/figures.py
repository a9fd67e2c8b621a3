"""The pictures of a report, as PNG bytes: optimisation history, second round, learnt operations, previews."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from policy_search.augment import PolicyDocument
from policy_search.augment.preview import save_preview
from policy_search.cells import CellDataset
from policy_search.study.report import TrialRow, front_of
from policy_search.study.reports.operations import Argument, Operation, number_range
from policy_search.study.verdict import Direction, Finalist, paired_interval

WIDTH = 5.4  # inches: read on a phone, where a picture is shrunk to about 60 %
DPI = 160
# Okabe and Ito's colours, which colour-blind readers tell apart; markers say the same without colour.
FAMILIES = {"naive": ("#666666", "o"), "searched": ("#d55e00", "D"), "stacked": ("#0072b2", "s"),
            "choice": ("#009e73", "^"), "stacked_searched": ("#56b4e9", "P"),
            "choice_searched": ("#e69f00", "X"), "targeted": ("#882255", "*")}  # fmt: skip
OTHER = ("#cc79a7", "v")
# Where an argument does nothing; a tick shows it where the range goes past it.
NEUTRAL = {
    "rotate": 0.0, "shear": 0.0, "translate_px": 0.0, "translate_percent": 0.0, "scale": 1.0, "contrast": 1.0,
    "brightness": 1.0, "brightness_limit": 0.0, "contrast_limit": 0.0, "gamma_limit": 100.0,
}  # fmt: skip


def history_figure(rows: Sequence[TrialRow], metric: str, direction: Direction) -> bytes:
    """Score by trial, by family; the best learnt policy so far, `none` and the best naive strategy as lines.

    Args:
        rows: finished trials in any order; those without a score are marked at the lower edge.
        metric: label of the axis.
        direction: which way is better.
    """
    figure, axis = _canvas(WIDTH, 3.7)
    scored = sorted((r for r in rows if r.score is not None), key=lambda r: r.number)
    for family in dict.fromkeys(row.family for row in scored):
        colour, marker = FAMILIES.get(family, OTHER)
        own = [r for r in scored if r.family == family]
        axis.plot(
            [r.number for r in own], [r.score for r in own], marker, color=colour, label=family, markersize=6, zorder=3
        )
    pick = np.fmax if direction == "maximize" else np.fmin
    learnt = [r for r in scored if not r.baseline]
    if learnt:
        numbers = [r.number for r in learnt]
        best = pick.accumulate(np.array([r.score for r in learnt]))
        end = max(r.number for r in rows)
        axis.step([*numbers, end], [*best, best[-1]], where="post", color="#111111", lw=1.2, label="best learnt so far")
    naive = {r.name: r.score for r in scored if r.baseline}
    if naive:
        name = (max if direction == "maximize" else min)(naive, key=lambda n: naive[n] or 0.0)
        axis.axhline(naive[name], color="#333333", lw=1, ls="--", label=f"best naive: {name}")
        if name != "none" and "none" in naive:
            axis.axhline(naive["none"], color="#333333", lw=1, ls=":", label="none")
    for row in rows:
        if row.score is None:
            axis.plot([row.number], [0.02], "x", color="#444444", transform=axis.get_xaxis_transform(), zorder=3)
    if any(row.score is None for row in rows):
        axis.plot([], [], "x", color="#444444", label="without a score")
    axis.set(xlabel="trial", ylabel=metric)
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.margins(y=0.12)
    figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize=8.5)
    return _png(figure)


def front_figure(rows: Sequence[TrialRow], metrics: Sequence[str], directions: Sequence[Direction]) -> bytes:
    """Policies by their first two metrics, by family; the Pareto front as a line, naive strategies by name."""
    figure, axis = _canvas(WIDTH, 4.2)
    scored = [row for row in rows if row.values]
    for family in dict.fromkeys(row.family for row in scored):
        colour, marker = FAMILIES.get(family, OTHER)
        own = [row.values for row in scored if row.family == family]
        axis.plot([v[0] for v in own], [v[1] for v in own], marker, color=colour, label=family, markersize=6, zorder=3)
    for row in scored:
        if row.baseline:
            axis.annotate(row.name, row.values[:2], xytext=(4, 3), textcoords="offset points", fontsize=6.5)
    front = front_of(rows, directions)
    line = sorted(row.values for row in scored if row.number in front)
    axis.plot([v[0] for v in line], [v[1] for v in line], color="#111111", lw=1.2, label="Pareto front")
    axis.set(xlabel=metrics[0], ylabel=metrics[1])
    axis.margins(0.15)
    figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize=8.5)
    return _png(figure)


def second_round_figure(finalists: Sequence[Finalist], metric: str) -> bytes:
    """Every finalist's scores on the fresh seeds, their mean and its 95 % interval; the best on top."""
    figure, axis = _canvas(WIDTH, 0.9 + 0.42 * len(finalists))
    for height, finalist in enumerate(reversed(finalists)):
        colour, _ = FAMILIES.get(finalist.family, OTHER)
        mean, low, high = paired_interval(finalist.scores)
        axis.plot([low, high], [height, height], color=colour, lw=2)
        axis.plot(finalist.scores, [height] * len(finalist.scores), "o", color=colour, alpha=0.35, markersize=5, mew=0)
        axis.plot([mean], [height], "|", color=colour, markersize=16, mew=3)
    axis.set_yticks(range(len(finalists)), [f.name for f in reversed(finalists)])
    axis.set_ylim(-0.6, len(finalists) - 0.4)
    axis.set(xlabel=metric)
    axis.grid(axis="x", color="#e4e4e4")
    axis.set_axisbelow(True)
    return _png(figure)


def operations_figure(found: Sequence[Operation]) -> bytes:
    """Left: how often an image meets each operation. Right: its ranges, a line per branch, scaled row by row.

    A dark tick stands where the argument does nothing.
    """
    lines = [(o, a) for o in found for a in (o.arguments or (None,))]
    figure = Figure(figsize=(6.2, 0.9 + 0.27 * len(lines)), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(2, 3))
    labels = []
    steps = list(dict.fromkeys(o.step for o in found))
    for height, (operation, argument) in enumerate(lines):
        colour = ("#0072b2", "#d55e00", "#009e73", "#8a5a83")[steps.index(operation.step) % 4]
        first = operation.arguments[:1] in ((), (argument,))
        if first:
            left.barh(height, 100 * operation.chance, color=colour, height=0.62)
        labels.append(_label(operation, argument.name if argument else None, first))
        if argument is None:
            right.text(0.5, height, "no range", va="center", ha="center", fontsize=7.5, color="#777777")
            continue
        _strip(right, height, argument, colour)
    left.set_yticks(range(len(lines)), labels, fontsize=8)
    left.set_ylim(len(lines) - 0.4, -0.6)
    left.set_xlabel("% of images", fontsize=9)
    left.set_title("how often", fontsize=9)
    left.grid(axis="x", color="#e4e4e4")
    left.set_axisbelow(True)
    right.set(xlim=(-0.32, 1.32), xticks=[])
    right.set_title("range in each sub-policy", fontsize=9)
    right.tick_params(left=False)
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    right.spines[["left", "bottom"]].set_visible(False)
    return _png(figure)


def _strip(axis: Any, height: int, argument: Argument, colour: str) -> None:
    """The ranges of one argument: offset lines, darker where the branch is chosen more often."""
    branches, (low, high) = argument.branches, argument.hull
    width = (high - low) or 1.0
    neutral = NEUTRAL.get(argument.name.partition(".")[0])
    if neutral is not None and low < neutral < high:
        axis.plot([(neutral - low) / width] * 2, [height - 0.42, height + 0.42], color="#555555", lw=1, zorder=3)
    most = max(b.chance for b in branches) or 1.0
    for index, branch in enumerate(branches):
        offset = 0.0 if len(branches) == 1 else 0.6 * (index / (len(branches) - 1) - 0.5)
        ends = [(branch.low - low) / width, (branch.high - low) / width]
        if ends[0] == ends[1]:
            axis.plot(ends[:1], [height + offset], ".", color=colour, markersize=4)
        else:
            shade = 0.25 + 0.75 * branch.chance / most
            axis.plot(ends, [height + offset] * 2, color=colour, lw=1.6, alpha=shade, solid_capstyle="butt")
    if low == high:
        axis.text(0.06, height, number_range(low, low), va="center", fontsize=7.5)
    else:
        axis.text(-0.03, height, f"{low:.3g}", va="center", ha="right", fontsize=7.5)
        axis.text(1.03, height, f"{high:.3g}", va="center", ha="left", fontsize=7.5)


def _label(operation: Operation, argument: str | None, first: bool) -> str:
    short = (argument or "").replace("_limit", "").replace("_range", "")
    step = operation.step.replace("step ", "") if operation.step != "always" else ""
    return f"{step}  {operation.name} {short}".strip() if first else short


def preview_picture(document: PolicyDocument, dataset: CellDataset, seed: int) -> bytes:
    """The contact sheet of a policy: originals left, three draws beside each.

    Raises:
        DataError: an image cannot be read.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sheet.png"
        save_preview(document, dataset, path, images=2, draws=3, seed=seed)
        return path.read_bytes()


def _canvas(width: float, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    axis.spines[["top", "right"]].set_visible(False)
    return figure, axis


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()

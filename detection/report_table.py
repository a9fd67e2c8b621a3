"""A table of the page: cell types down, rows of the experiment across, the paper's numbers beside ours; its heat map."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from statistics import fmean

from detection import report_markup as html
from detection.compare import Comparison, Spread
from detection.intervals import Estimate
from detection.report_heat import Gain, heat_map, signed
from detection.report_markup import Cell
from detection.report_words import gain, percent

MEAN = "mean of unseen"
Paper = Mapping[str, Mapping[str, float]]  # row label → cell type → AP50 in percent
NOTHING: Paper = {}


def comparison_table(found: Comparison, paper: Paper = NOTHING) -> str:
    """AP50 in percent, mean ± standard deviation over seeds; below it the gain; below that the paper's.

    Args:
        paper: of the rows that the paper has.
    """
    heads = ["cell type", *(_head(found, row) for row in found.rows)]
    unseen = [name for name in found.types if name not in found.seen]
    lines = [
        [_name(found, name), *(_value(found, paper, row, name) for row in found.rows)] for name in found.types
    ]
    if unseen:
        lines.append([_label(MEAN, f"{len(unseen)} types"), *(_mean(found, paper, row, unseen) for row in found.rows)])
        lines.append([_label("unseen types improved"), *(_count(found, row) for row in found.rows)])
        lines.append([_label("lowest gain on an unseen type"), *(_worst(found, row) for row in found.rows)])
    return html.table(f"AP50 from {found.source}", heads, lines, range(len(found.types), len(lines)))


def gain_map(found: Comparison) -> str:
    """The heat map of a comparison: unseen types, their mean, and apart from them the seen types."""
    level = f"{100 * found.level:g} %"
    unseen = [name for name in found.types if name not in found.seen]
    seen = {name: f"{name} (seen)" for name in found.types if name in found.seen}
    gains = {}
    for row, contrast in found.contrasts.items():
        effects = {seen.get(name, name): value for name, value in contrast.types.items()}
        if contrast.gain is not None:
            effects[MEAN] = contrast.gain
        for name, value in effects.items():
            gains[row, name] = Gain(100 * value.value, value.clear(found.level), f"{gain(value)} points, {level}")
    columns = [unseen, [MEAN] if unseen else [], list(seen.values())]
    rows = [row for row in found.rows if row != found.reference]
    label = f"gains over {found.reference} from {found.source}"
    return html.scrolling(label, heat_map(rows, [group for group in columns if group], gains, label))


def _head(found: Comparison, row: str) -> str:
    own = found.scores[row]
    state = "" if not own.missing else f"\nseed {', '.join(map(str, own.missing))} missing"
    return row + ("\n(reference)" if row == found.reference else "") + (state if own.seeds else "\nmissing")


def _name(found: Comparison, name: str) -> Cell:
    units = found.units[name]
    drawn = {"wells": f"{units.count} wells", "images": "1 well", "none": "1 well"}[units.kind]
    images = f"{units.images} image{'s' if units.images > 1 else ''}"
    kind = "seen in training" if name in found.seen else "unseen"
    return Cell((escape(name), kind, f"{drawn}, {images}, {units.cells} cells"), heading=True)


def _label(words: str, *small: str) -> Cell:
    return Cell((escape(words), *map(escape, small)), heading=True)


def _value(found: Comparison, paper: Paper, row: str, name: str) -> Cell:
    own = found.scores[row].types.get(name)
    contrast = found.contrasts.get(row)
    effect = contrast.types.get(name) if contrast else None
    return _lines(found, own, effect, _published(found, paper, row, [name]))


def _mean(found: Comparison, paper: Paper, row: str, unseen: list[str]) -> Cell:
    contrast = found.contrasts.get(row)
    effect = contrast.gain if contrast else None
    return _lines(found, found.scores[row].unseen, effect, _published(found, paper, row, unseen))


def _lines(found: Comparison, own: Spread | None, effect: Estimate | None, published: str) -> Cell:
    if own is None:
        return Cell((html.span("missing", "missing"), *([published] if published else [])))
    first = percent(own.mean) + (f" ± {percent(own.sd)}" if own.sd is not None else "")
    lines = [escape(first)]
    if effect is not None:
        words = escape(gain(effect))
        lines.append(f"<b>{words}</b>" if effect.clear(found.level) else words)
    return Cell((*lines, *([published] if published else [])))


def _published(found: Comparison, paper: Paper, row: str, types: list[str]) -> str:
    """The paper's AP50 and its gain over the paper's reference, where it has all of these types."""
    own, reference = paper.get(row, {}), paper.get(found.reference, {})
    if not all(name in own for name in types):
        return ""
    value = fmean(own[name] for name in types)
    words = f"paper {value:.1f}"
    if row != found.reference and all(name in reference for name in types):
        words += f" ({signed(value - fmean(reference[name] for name in types))})"
    return html.span(words, "soft")


def _count(found: Comparison, row: str) -> Cell:
    contrast = found.contrasts.get(row)
    if contrast is None or not contrast.unseen:
        return Cell(("",))
    clear = f"{len(contrast.better)} clearly; {len(contrast.worse)} clearly worse"
    return Cell((f"{contrast.improved} of {len(contrast.unseen)}", clear))


def _worst(found: Comparison, row: str) -> Cell:
    contrast = found.contrasts.get(row)
    if contrast is None or contrast.worst is None:
        return Cell(("",))
    return Cell((signed(100 * contrast.types[contrast.worst].value), escape(contrast.worst)))

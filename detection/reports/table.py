"""The tables of a comparison on the page, the paper's numbers small beside ours, and its heat map."""

from __future__ import annotations

from html import escape

from detection.compare import Comparison
from detection.reports import markup as html
from detection.reports.heat import Gain, heat_map
from detection.reports.words import gain
from detection.statistics.paper import Paper
from detection.table import UNSEEN
from detection.tables.blocks import Block, Cell, blocks, notes, type_label


def comparison_tables(found: Comparison, paper: Paper) -> str:
    """AP50, gains, summary and direct comparisons as `detect compare` gives them, and what to know about them."""
    parts = []
    for block in blocks(found, paper):
        parts += [html.heading(block.title, 4), _table(found, block)]
    return "\n".join([*parts, html.text(" ".join(notes(found, paper)), "note")])


def gain_map(found: Comparison) -> str:
    """The heat map of a comparison: unseen types, their mean, and apart from them the seen types."""
    level = f"{100 * found.level:g} % interval"
    unseen = [name for name in found.types if name not in found.seen]
    seen = [type_label(found, name) for name in found.types if name in found.seen]
    gains = {}
    for row, contrast in found.contrasts.items():
        effects = {type_label(found, name): value for name, value in contrast.types.items()}
        if contrast.gain is not None:
            effects[UNSEEN] = contrast.gain
        for name, value in effects.items():
            words = f"{gain(value)} points, {level}"
            gains[row, name] = Gain(100 * value.value, value.clear(found.level), words)
    columns = [group for group in (unseen, [UNSEEN] if unseen else [], seen) if group]
    rows = [row for row in found.rows if row != found.reference]
    label = f"gains over {found.reference}, trained on {found.source}"
    return html.scrolling(label, heat_map(rows, columns, gains, label))


def _table(found: Comparison, block: Block) -> str:
    absent = {row for row in found.rows if not found.scores[row].seeds}
    heads = [f"{name}\nmissing" if name in absent else name for name in block.header]
    names = {type_label(found, name): name for name in found.types}
    lines = []
    for first, *values in block.rows:
        small = [_tested_on(found, names[first.text])] if first.text in names else []
        head = html.Cell((escape(first.text), *map(escape, small)), heading=True)
        lines.append(
            [head, *(_cell(value, title in absent) for value, title in zip(values, block.header[1:], strict=True))]
        )
    sums = [at for at, row in enumerate(block.rows) if row[0].text == UNSEEN]
    return html.table(f"{block.title}, trained on {found.source}", heads, lines, sums)


def _cell(cell: Cell, absent: bool) -> html.Cell:
    """A value, its interval below, and below that the paper's, in grey."""
    value = escape(cell.text)
    if absent and cell.text == "–":
        value = html.span("missing", "missing")
    elif cell.bold:
        value = f"<b>{value}</b>"
    detail = [escape(cell.detail)] if cell.detail else []
    paper = [html.span(f"(paper {cell.paper})", "soft")] if cell.paper else []
    return html.Cell((value, *detail, *paper))


def _tested_on(found: Comparison, name: str) -> str:
    units = found.units[name]
    wells = f"{units.count} wells, " if units.kind == "wells" else "1 well, " if units.kind == "images" else ""
    return f"{wells}{units.images} image{'s' if units.images > 1 else ''}, {units.cells} cells"

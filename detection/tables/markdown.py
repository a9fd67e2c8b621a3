"""Comparisons of rows as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from detection.compare import Comparison
from detection.statistics.paper import Paper
from detection.tables.blocks import Block, Cell, blocks, heading, notes


def markdown(found: Sequence[Comparison], paper: Paper) -> str:
    """One section a source: tables, then what to know about them."""
    parts = []
    for comparison in found:
        parts.append(f"### {heading(comparison)}")
        parts += [f"**{block.title}**\n\n{_table(block)}" for block in blocks(comparison, paper)]
        parts.append(" ".join(notes(comparison, paper)))
    return "\n\n".join(parts) + "\n"


def _table(block: Block) -> str:
    header = [_escaped(name) for name in block.header]
    body = [[_text(cell) for cell in row] for row in block.rows]
    widths = [max(len(line[i]) for line in [header, *body]) for i in range(len(header))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = []
    for line in [header, rule, *body]:
        values = [line[0].ljust(widths[0]), *(v.rjust(w) for v, w in zip(line[1:], widths[1:], strict=True))]
        lines.append("| " + " | ".join(values) + " |")
    return "\n".join(lines)


def _text(cell: Cell) -> str:
    value = _escaped(cell.text)
    parts = [f"**{value}**" if cell.bold else value, cell.detail, f"({cell.paper})" if cell.paper else ""]
    return " ".join(part for part in parts if part)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*").replace("\n", " ")

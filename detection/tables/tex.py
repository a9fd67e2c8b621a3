"""Comparisons of rows as LaTeX that the class `article` sets without any package."""

from __future__ import annotations

from collections.abc import Sequence

from detection.compare import Comparison
from detection.statistics.paper import Paper
from detection.tables.blocks import Block, Cell, blocks, heading, notes

_SPECIAL = str.maketrans(
    {
        **{c: f"\\{c}" for c in "_%&#${}"},
        "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}",
        "<": "$<$", ">": "$>$", "|": "$|$", "±": "$\\pm$", "−": "$-$", "×": "$\\times$", "–": "--",
        "“": "``", "”": "''", "²": "$^2$", "\n": " ",
    }
)  # fmt: skip


def tex(found: Sequence[Comparison], paper: Paper) -> str:
    """One `table` for each block; what to know about them stands under the last."""
    parts = []
    for comparison in found:
        own = blocks(comparison, paper)
        for block in own:
            said = notes(comparison, paper) if block is own[-1] else []
            parts.append(_table(f"{heading(comparison)}. {block.title}.", block, said))
    return "\n\n".join(parts) + "\n"


def escaped(text: str) -> str:
    """Text that LaTeX prints as it is."""
    return text.translate(_SPECIAL)


def _table(caption: str, block: Block, said: Sequence[str]) -> str:
    columns = f"@{{}}l{'r' * (len(block.header) - 1)}@{{}}"
    lines = ["\\begin{table}[tbp]", "\\centering", "\\footnotesize", "\\setlength{\\tabcolsep}{3pt}"]
    lines += [f"\\caption{{{escaped(caption)}}}", f"\\begin{{tabular}}{{{columns}}}", "\\hline"]
    lines.append(" & ".join(_stacked([escaped(w) for w in name.split()]) for name in block.header) + " \\\\ \\hline")
    lines += [" & ".join(_text(cell) for cell in row) + " \\\\" for row in block.rows]
    lines += ["\\hline", "\\end{tabular}"]
    if said:
        lines.append("\\par\\medskip\\raggedright\\scriptsize " + escaped(" ".join(said)))
    return "\n".join([*lines, "\\end{table}"])


def _text(cell: Cell) -> str:
    """The value, and below it in small the interval and the paper's: side by side they are too wide for a page."""
    value = escaped(cell.text)
    if cell.bold:
        # Bold does not reach into mathematics: a minus of its own stays as it is.
        value = f"\\textbf{{{value}}}"
    small = " ".join(part for part in (cell.detail, f"({cell.paper})" if cell.paper else "") if part)
    return _stacked([value, f"{{\\scriptsize {escaped(small)}}}"]) if small else value


def _stacked(lines: Sequence[str]) -> str:
    if len(lines) == 1:
        return lines[0]
    return "\\shortstack[r]{" + " \\\\ ".join(lines) + "}"

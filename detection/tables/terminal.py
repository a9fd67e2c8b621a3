"""A comparison of rows in a terminal of 80 columns: what each row gains on unseen types."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from detection.compare import Comparison, Contrast
from detection.tables.blocks import effect, heading, notes, p_text

WIDTH = 80


def terminal(found: Sequence[Comparison]) -> str:
    """One short table a source; `*` marks what is clear of zero after Holm's correction."""
    parts = []
    for comparison in found:
        said = [s.replace("Bold and “clearly”", "*") for s in notes(comparison, {})]
        lines = [heading(comparison), f"Gain over {comparison.reference} on unseen types, in points of mask AP50"]
        lines += _table([(c.row, c) for c in comparison.contrasts.values()], comparison.level)
        if comparison.rivals:
            lines += ["", *_table([(f"{c.row} − {c.other}", c) for c in comparison.rivals], comparison.level)]
        lines += ["", *textwrap.wrap(" ".join(said), WIDTH)]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _table(rows: Sequence[tuple[str, Contrast]], level: float) -> list[str]:
    lines = [("row", "mean gain", "interval", "p", "better", "worst type")]
    for label, contrast in rows:
        gain = effect(contrast.gain, level)
        worst = f"{contrast.worst} {effect(contrast.types[contrast.worst], level).text}" if contrast.worst else "–"
        p = p_text(contrast.gain.adjusted if contrast.gain else None)
        better = f"{contrast.improved}/{len(contrast.unseen)}"
        lines.append((label, gain.text + ("*" if gain.bold else " "), gain.detail, p, better, worst))
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    # Names give way: numbers must be whole.
    widths[0] = min(widths[0], WIDTH - sum(widths[1:]) - 2 * (len(widths) - 1))
    shown = []
    for line in lines:
        name = line[0] if len(line[0]) <= widths[0] else line[0][: widths[0] - 1] + "…"
        numbers = [value.rjust(width) for value, width in zip(line[1:], widths[1:], strict=True)]
        shown.append("  ".join([name.ljust(widths[0]), *numbers]))
    return shown

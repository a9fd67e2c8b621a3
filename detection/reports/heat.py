"""The heat map of gains, policies down and cell types across, as inline SVG: red is worse, blue is better."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

from detection.tables.blocks import signed

# ColorBrewer's RdBu, whose ends colour-blind readers tell apart; values in the cells say the same without colour.
_SCALE = ((178, 24, 43), (239, 138, 98), (253, 219, 199), (247, 247, 247), (209, 229, 240), (103, 169, 207),
          (33, 102, 172))  # fmt: skip
_WIDTH, _HEIGHT, _LEFT, _TOP = 78, 34, 168, 44
_BREAK = 10  # between the unseen types and what stands apart from them


class Gain(NamedTuple):
    """One cell of the map.

    Attributes:
        points: AP50 over that of the reference, in percentage points.
        clear: whether it is told from zero after correction.
        words: the interval, for who points at the cell.
    """

    points: float
    clear: bool
    words: str


def colour(points: float, most: float) -> str:
    """CSS colour of a gain on the symmetric scale -most … most; grey-white at 0, red below, blue above."""
    place = (max(-1.0, min(1.0, points / most if most else 0.0)) + 1) / 2 * (len(_SCALE) - 1)
    low = min(int(place), len(_SCALE) - 2)
    mixed = (round(a + (b - a) * (place - low)) for a, b in zip(_SCALE[low], _SCALE[low + 1], strict=True))
    return "#" + "".join(f"{value:02x}" for value in mixed)


def heat_map(
    rows: Sequence[str], columns: Sequence[Sequence[str]], gains: Mapping[tuple[str, str], Gain], label: str
) -> str:
    """SVG markup. A pair that is missing in `gains` has a dash.

    Args:
        columns: groups of column names; groups stand apart.
        label: what it shows, for who cannot see it.
    """
    flat = [(name, number) for number, group in enumerate(columns) for name in group]
    most = max((abs(gain.points) for gain in gains.values()), default=0.0)
    lefts = {name: _LEFT + at * _WIDTH + number * _BREAK for at, (name, number) in enumerate(flat)}
    width = max(lefts.values(), default=_LEFT) + _WIDTH + 2
    height = _TOP + len(rows) * _HEIGHT + 50
    parts = [
        f'<svg class="wide" role="img" aria-label="{escape(label)}" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="system-ui, DejaVu Sans, sans-serif" font-size="13" fill="currentColor">'
    ]
    for name, left in lefts.items():
        lines = textwrap.wrap(name, 11) or [""]
        for number, line in enumerate(lines[-2:]):
            y = _TOP - 10 - 15 * (len(lines[-2:]) - 1 - number)
            parts.append(f'<text x="{left + _WIDTH / 2:g}" y="{y}" text-anchor="middle">{escape(line)}</text>')
    for at, row in enumerate(rows):
        top = _TOP + at * _HEIGHT
        short = textwrap.shorten(row, 24, placeholder="…") or row[:23] + "…"
        parts.append(
            f'<text x="{_LEFT - 8}" y="{top + 22}" text-anchor="end">{escape(short)}<title>{escape(row)}</title></text>'
        )
        parts += [_cell(gains.get((row, name)), left, top, most, f"{row}, {name}") for name, left in lefts.items()]
    return "\n".join([*parts, _legend(most, height - 34), "</svg>"])


def _cell(gain: Gain | None, left: int, top: int, most: float, name: str) -> str:
    middle, base = f"{left + _WIDTH / 2:g}", top + 22
    if gain is None:
        dash = f'<text x="{middle}" y="{base}" text-anchor="middle">–</text>'
        frame = f'<rect x="{left}" y="{top}" width="{_WIDTH - 2}" height="{_HEIGHT - 2}" fill="none" stroke="#888"/>'
        return f"<g>{frame}{dash}<title>{escape(name)}: not measured</title></g>"
    fill = colour(gain.points, most)
    ink = "#fff" if _dark(fill) else "#111"
    box = f'<rect x="{left}" y="{top}" width="{_WIDTH - 2}" height="{_HEIGHT - 2}" fill="{fill}"/>'
    value = f'<text x="{middle}" y="{base}" text-anchor="middle" fill="{ink}">{signed(gain.points)}</text>'
    dot = f'<circle cx="{left + _WIDTH - 11}" cy="{top + 8}" r="3.5" fill="{ink}"/>' if gain.clear else ""
    return f"<g>{box}{value}{dot}<title>{escape(f'{name}: {gain.words}')}</title></g>"


def _legend(most: float, top: int) -> str:
    steps = [-1 + number / 10 for number in range(21)]
    bar = "".join(
        f'<rect x="{_LEFT + number * 12}" y="{top}" width="12" height="12" fill="{colour(step * most, most)}"/>'
        for number, step in enumerate(steps)
    )
    ends = ((0, -most, "start"), (126, 0.0, "middle"), (252, most, "end"))
    marks = "".join(
        f'<text x="{_LEFT + x}" y="{top + 28}" text-anchor="{anchor}">{signed(value)}</text>'
        for x, value, anchor in ends
    )
    dot = f'<circle cx="{_LEFT + 292}" cy="{top + 6}" r="3.5"/>'
    words = f'<text x="{_LEFT + 302}" y="{top + 11}">told from 0 after correction</text>'
    return f"<g>{bar}{marks}{dot}{words}</g>"


def _dark(fill: str) -> bool:
    red, green, blue = (int(fill[at : at + 2], 16) for at in (1, 3, 5))
    return 0.299 * red + 0.587 * green + 0.114 * blue < 140

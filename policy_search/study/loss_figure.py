"""The losses of a trial as a small SVG, written by hand: it costs a millisecond and needs no other file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

MOST_POINTS = 120
# Okabe and Ito's colours, which colour-blind readers tell apart; dashes say the same without colour.
STYLES = (("#0072b2", ""), ("#d55e00", "7 3"), ("#009e73", "2 3"), ("#cc79a7", "9 3 2 3"), ("#666666", "1 2"))
# What the vertical axis of a stage shows, where it is not a loss.
_UNITS = {"search": "critic's units"}
WIDTH, PANEL, LEFT, RIGHT, TOP, BOTTOM = 640, 190, 58, 14, 30, 36


def loss_svg(losses: Mapping[str, Sequence[float]], *, steps: Mapping[str, tuple[int, int]] | None = None) -> str:
    """Curves over steps. Names `stage: quantity` share a panel with the others of their stage, plain names one panel.

    Args:
        losses: name -> values, evenly spaced over the training. Values that are not finite break the line.
        steps: name -> gradient steps of the first and the last value (a search's warm-up starts below 0). A panel in
            which one is missing runs over the share of the training instead.

    Returns:
        A self-contained SVG with a white ground of its own. Curves longer than 120 points are thinned to means of
        neighbouring steps.

    Raises:
        ValueError: no series holds a finite value.
    """
    panels: dict[str, dict[str, Sequence[float]]] = {}
    for name, values in losses.items():
        stage, separator, quantity = name.partition(": ")
        if any(math.isfinite(v) for v in values):
            panels.setdefault(stage if separator else "", {})[quantity if separator else name] = values
    if not panels:
        raise ValueError("there is no finite loss to draw")
    height = PANEL * len(panels)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        'font-family="Helvetica,Arial,sans-serif" font-size="11" fill="#222">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
    ]
    for index, (stage, series) in enumerate(panels.items()):
        spans = {q: (steps or {}).get(f"{stage}: {q}" if stage else q) for q in series}
        parts += _panel(stage, series, spans, PANEL * index)
    return "".join([*parts, "</svg>"])


def thinned(values: Sequence[float], most: int = MOST_POINTS) -> list[tuple[float, float]]:
    """(place, value) pairs, at most `most`: means of runs of equal length; not-finite values only where a run has none.

    The place is the middle of the run, counted from 0.
    """
    run = max(1, math.ceil(len(values) / most))
    pairs = []
    for start in range(0, len(values), run):
        finite = [v for v in values[start : start + run] if math.isfinite(v)]
        length = min(run, len(values) - start)
        pairs.append((start + (length - 1) / 2, sum(finite) / len(finite) if finite else math.nan))
    return pairs


def nice_ticks(low: float, high: float, least: int = 4) -> list[float]:
    """At least `least` round numbers inside [low, high], by the widest step of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10((high - low) / least))
    for step in (10 * power, 5 * power, 2 * power, power):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first + 1 >= least:
            break
    return [k * step for k in range(first, last + 1)]


def _panel(
    stage: str, series: Mapping[str, Sequence[float]], spans: Mapping[str, tuple[int, int] | None], top: int
) -> list[str]:
    by_step = all(span is not None for span in spans.values())
    points = {}
    for quantity, values in series.items():
        first, last = (spans[quantity] if by_step else None) or (0, 100)
        scale = (last - first) / max(len(values) - 1, 1)
        points[quantity] = [(first + place * scale, v) for place, v in thinned(values)]
    xs = [x for curve in points.values() for x, _ in curve]
    ys = [v for curve in points.values() for _, v in curve if math.isfinite(v)]
    x_low, x_high = _widened(min(xs), max(xs))
    y_low, y_high = _widened(min(ys), max(ys), margin=0.05)
    x0, x1, y0, y1 = LEFT, WIDTH - RIGHT, top + PANEL - BOTTOM, top + TOP

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            x0 + (x - x_low) / (x_high - x_low) * (x1 - x0),
            y0 + (y - y_low) / (y_high - y_low) * (y1 - y0),
        )

    title = f'<tspan font-weight="bold">{escape(stage or "training")}</tspan> ({_UNITS.get(stage, "loss")})'
    parts = [f'<text x="{x0}" y="{top + 17}">{title}</text>']
    for tick in nice_ticks(y_low, y_high):
        y = at(x_low, tick)[1]
        parts.append(f'<path d="M{x0} {y:.1f}H{x1}" stroke="#ddd"/>')
        parts.append(f'<text x="{x0 - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:.4g}</text>')
    for tick in nice_ticks(x_low, x_high, 5):
        x = at(tick, y_low)[0]
        parts.append(f'<path d="M{x:.1f} {y0}v4" stroke="#222"/>')
        parts.append(f'<text x="{x:.1f}" y="{y0 + 16}" text-anchor="middle">{tick:.4g}</text>')
    parts.append(f'<path d="M{x0} {y1}V{y0}H{x1}" fill="none" stroke="#222"/>')
    parts.append(
        f'<text x="{x1}" y="{y0 + 30}" text-anchor="end">{"gradient step" if by_step else "% of the training"}</text>'
    )
    legend = x0 + 170
    for index, (quantity, curve) in enumerate(points.items()):
        colour, dash = STYLES[index % len(STYLES)]
        style = f'fill="none" stroke="{colour}" stroke-width="1.6" stroke-linejoin="round"'
        style += f' stroke-dasharray="{dash}"' if dash else ""
        parts.append(f'<path d="{_path([at(x, v) for x, v in curve])}" {style}/>')
        parts.append(f'<path d="M{legend} {top + 13}h26" {style}/>')
        parts.append(f'<text x="{legend + 32}" y="{top + 17}">{escape(quantity)}</text>')
        legend += 50 + 7 * len(quantity)
    return parts


def _path(points: Sequence[tuple[float, float]]) -> str:
    """Path data; points that are not finite start the line anew, a lone point is drawn as a short dash."""
    words, pen_up = [], True
    for x, y in points:
        if not math.isfinite(y):
            pen_up = True
            continue
        words.append(f"M{x:.1f} {y:.1f}h.5" if pen_up else f"L{x:.1f} {y:.1f}")
        pen_up = False
    return "".join(words)


def _widened(low: float, high: float, margin: float = 0.0) -> tuple[float, float]:
    """The interval with a margin on both sides; one without a length becomes one around its value."""
    if high == low:
        half = abs(low) * 0.1 or 1.0
        return low - half, high + half
    return low - margin * (high - low), high + margin * (high - low)

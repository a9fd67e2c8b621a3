"""The figure of size and convexity by cell type (the paper's Figure 6): a ridge for each type, medians written beside.

Only `morphology_figure`, `figure_bytes` and `draw` load matplotlib.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from policy_search.cells.errors import InputError
from policy_search.cells.files import replacing
from policy_search.cells.morphology import TypeMorphology
from policy_search.cells.morphology_tables import by_size

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg", ".pdf")
FEW = 20  # cells below which a smooth curve would invent a shape: each cell is drawn instead
DPI = 160
_BINS = 512
_TAIL = 0.005  # share of a type's least convex cells that may lie beyond the left end of the axis
_RIDGE = 0.72  # height of a curve, in rows


@dataclass(frozen=True)
class _Panel:
    """One measured quantity and how it is drawn. The colours are apart for colour-blind readers too."""

    title: str
    attribute: str
    colour: str
    form: str
    log: bool

    def shown(self, values: Any) -> NDArray[np.float64]:
        """Values as positions on the axis: themselves, or their decimal logarithms."""
        return np.log10(values) if self.log else np.asarray(values, np.float64)


_SIZE = _Panel("size, px² (log scale)", "area", "#009e73", ",.0f", True)
_CONVEXITY = _Panel("convexity (area / convex hull)", "convexity", "#8b4a8b", ".2f", False)
_VERTICES = _Panel("vertices of the polygon (log scale)", "vertices", "#0072b2", ",.0f", True)


def check_format(path: str | Path) -> Path:
    """The path of a figure, if its suffix is one that can be written.

    Raises:
        InputError: it is not.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"--out {path}: expected a name that ends in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    return path


def density(values: NDArray[np.float64], low: float, high: float, *, bounded: bool) -> NDArray[np.float64]:
    """(512,) float64, a smoothed histogram over [low, high] as shares for each bin (their sum is at most 1).

    A Gaussian kernel of Silverman's width (0.9 · min(σ, IQR / 1.34) · n^-1/5), never below 1.5 bins. Values outside
    the interval count in the total only.

    Args:
        values: (N,), at least one.
        low, high: of the axis.
        bounded: no value can lie above `high`: what the kernel would spread beyond it is reflected, so that a
            distribution that ends there does not seem to fall off before.
    """
    counts, _ = np.histogram(values, bins=_BINS, range=(low, high))
    quartiles = np.percentile(values, (25, 75))
    spread = min(float(values.std()), float(quartiles[1] - quartiles[0]) / 1.34) or float(values.std())
    width = max(0.9 * spread * len(values) ** -0.2 / (high - low) * _BINS, 1.5)
    mode = "reflect" if bounded else "constant"
    smooth: NDArray[np.float64] = ndimage.gaussian_filter1d(counts / len(values), width, mode=mode, truncate=6.0)
    return smooth


def morphology_figure(
    types: Sequence[TypeMorphology], *, title: str = "", source: TypeMorphology | None = None
) -> Figure:
    """A row for each type, by median size within each data set; a column for size, convexity and, if counted, vertices.

    Args:
        types: as `measure` gave them, at least one.
        title: second line of the heading (which data); synthetic data sets are named by themselves.
        source: type whose medians are drawn through all rows.

    Raises:
        InputError: no cell at all.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = by_size(types)
    if not any(len(t) for t in rows):
        raise InputError("there is no cell to draw: choose another --split, or leave out --whole")
    panels = [_SIZE, _CONVEXITY]
    if any(len(t.polygon_vertices()) for t in rows):
        panels.append(_VERTICES)
    figure = Figure(figsize=(3.0 + 2.9 * len(panels), 1.5 + 0.56 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = np.atleast_1d(figure.subplots(1, len(panels), sharey=True))
    for axis, panel in zip(axes, panels, strict=True):
        _draw_panel(axis, panel, rows, source)
    axes[0].set_yticks(np.arange(len(rows)) - 0.15, [_row_label(t) for t in rows], fontsize=8)
    axes[0].set_ylim(len(rows) - 0.72, -0.95)
    figure.suptitle("\n".join(_heading(rows, title)), fontsize=10, ha="left", x=0.02)
    figure.supxlabel("\n".join(_legend(rows, source)), fontsize=7.5, ha="left", x=0.02, color="#444444")
    return figure


def figure_bytes(
    types: Sequence[TypeMorphology],
    *,
    title: str = "",
    source: TypeMorphology | None = None,
    suffix: str = ".png",
) -> bytes:
    """The figure as a file's bytes (`.png`, `.svg` or `.pdf`); equal measures give equal bytes."""
    import matplotlib

    buffer = io.BytesIO()
    kind = suffix.lower().lstrip(".")
    # Without a date, and with ids from a fixed salt: the same cells give the same file.
    dateless: dict[str, Any] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind, {})
    with matplotlib.rc_context({"svg.hashsalt": "morphology"}):
        morphology_figure(types, title=title, source=source).savefig(buffer, format=kind, dpi=DPI, metadata=dateless)
    return buffer.getvalue()


def draw(
    types: Sequence[TypeMorphology], path: str | Path, *, title: str = "", source: TypeMorphology | None = None
) -> None:
    """Write the figure in one step, its format by the suffix.

    Raises:
        InputError: unknown suffix, a folder that cannot be written, or no cell at all.
    """
    path = check_format(path)
    content = figure_bytes(types, title=title, source=source, suffix=path.suffix)
    with replacing(path) as scratch:
        scratch.write_bytes(content)


def _draw_panel(axis: Any, panel: _Panel, rows: Sequence[TypeMorphology], source: TypeMorphology | None) -> None:
    low, high = _limits(panel, rows)
    grid = low + (np.arange(_BINS) + 0.5) * (high - low) / _BINS
    for row, own in enumerate(rows):
        raw = _raw(own, panel)
        axis.axhline(row, color="#cccccc", lw=0.6, zorder=0)
        if len(raw) == 0:
            said = "no polygon" if len(own) else "no cell"
            axis.text(0.5, row - 0.12, said, transform=axis.get_yaxis_transform(), ha="center", fontsize=7.5)
            continue
        if len(raw) < FEW:
            axis.plot(panel.shown(raw), np.full(len(raw), row - 0.2), "|", color=panel.colour, markersize=8)
        else:
            curve = density(panel.shown(raw), low, high, bounded=not panel.log)
            height = row - _RIDGE * curve / curve.max()
            strength = 0.3 if own.synthetic else 0.6
            axis.fill_between(grid, row, height, color=panel.colour, alpha=strength, lw=0, zorder=2)
            there = curve > 0.015 * curve.max()  # a line at zero would hide the thin one of the quantiles
            axis.plot(grid, np.where(there, height, np.nan), color=panel.colour, lw=1, zorder=3)
        quantiles = np.percentile(raw, (5, 25, 50, 75, 95))
        p5, p25, median, p75, p95 = panel.shown(quantiles)
        axis.plot([p5, p95], [row, row], color="#222222", lw=0.9, solid_capstyle="butt", zorder=4)
        axis.plot([p25, p75], [row, row], color="#222222", lw=3.2, solid_capstyle="butt", zorder=4)
        axis.plot([median], [row], "o", color="white", markeredgecolor="#222222", markersize=5, zorder=5)
        axis.text(1.02, row, format(quantiles[2], panel.form), va="center", fontsize=8,
                  transform=axis.get_yaxis_transform(), clip_on=False)  # fmt: skip
    if source is not None and len(_raw(source, panel)):
        axis.axvline(
            float(panel.shown(np.median(_raw(source, panel)))), color="#222222", lw=1, ls=(0, (4, 3)), zorder=1
        )
    axis.text(1.02, 1.0, "median", va="top", fontsize=7.5, color="#444444", transform=axis.transAxes)
    axis.set_xlim(low, high)
    axis.set_title(panel.title, fontsize=9, loc="left", color=panel.colour)
    if panel.log:
        ticks = [m * 10**e for e in range(0, 8) for m in (1, 2, 5) if low <= np.log10(m * 10**e) <= high]
        # Decades only where twos and fives would not fit.
        shown = ticks if len(ticks) <= 7 else [t for t in ticks if str(t)[0] == "1"]
        axis.set_xticks(np.log10(shown), [f"{t:,}" for t in shown])
        axis.set_xticks(np.log10(ticks), minor=True)
    axis.tick_params(axis="x", labelsize=8)
    axis.tick_params(axis="y", length=0)
    axis.spines[["top", "right", "left"]].set_visible(False)


def _raw(own: TypeMorphology, panel: _Panel) -> NDArray[Any]:
    """(M,) the measured quantity of a panel."""
    values: NDArray[Any] = own.polygon_vertices() if panel is _VERTICES else getattr(own, panel.attribute)
    return values


def _limits(panel: _Panel, rows: Sequence[TypeMorphology]) -> tuple[float, float]:
    """Ends of the axis: every value on a log axis, all but the tails of convexity."""
    filled = [v for v in (panel.shown(_raw(t, panel)) for t in rows) if len(v)]
    if panel.log:
        low, high = min(v.min() for v in filled), max(v.max() for v in filled)
        return float(low) - 0.1, float(high) + 0.1
    low = min(float(np.quantile(v, _TAIL)) for v in filled)
    return max(0.0, min(0.9, np.floor(low * 20 - 1e-9) / 20)), 1.0


def _row_label(own: TypeMorphology) -> str:
    wells = f"{own.wells} well{'s' if own.wells != 1 else ''}"
    return f"{own.label}\n{len(own):,} cells, {wells}"


def _heading(rows: Sequence[TypeMorphology], title: str) -> list[str]:
    synthetic = list(dict.fromkeys(t.data for t in rows if t.synthetic))
    lines = ["Size and convexity of cells by type", *([title] if title else [])]
    if synthetic:
        only = all(t.synthetic for t in rows)
        lines.append(f"SYNTHETIC cells, no real culture: {'all' if only else ', '.join(synthetic)}")
    return lines


def _legend(rows: Sequence[TypeMorphology], source: TypeMorphology | None) -> list[str]:
    """What the marks mean; the last line says what the axes leave out."""
    low, _ = _limits(_CONVEXITY, rows)
    beyond = sum(int(np.count_nonzero(t.convexity < low)) for t in rows)
    lines = ["Circle: median. Thick bar: middle half of the cells; thin line: 5% to 95%. Curves have equal heights."]
    if source is not None:
        lines.append(f"Dashed: median of the source, {source.label}.")
    if any(0 < len(t) < FEW for t in rows):
        lines.append(f"Types with fewer than {FEW} cells: a tick for each cell.")
    if beyond:
        lines.append(f"Not shown: {beyond:,} cell{'s' if beyond != 1 else ''} with a convexity below {low:.2f}.")
    return lines

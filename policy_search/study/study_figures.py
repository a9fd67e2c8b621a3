"""The study's own figures on the dashboard, as Plotly's JSON built by hand: importing Plotly costs a second. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from policy_search.study.standing import Entry, Standing

# Okabe and Ito's colours, which colour-blind readers tell apart; symbols say the same without colour. The same as the
# report's for the families that both know.
_FAMILIES = {
    "naive": ("#888888", "circle"), "searched": ("#d55e00", "diamond"), "targeted": ("#d55e00", "diamond-open"),
    "stacked": ("#0072b2", "square"), "choice": ("#009e73", "triangle-up"),
    "stacked_searched": ("#56b4e9", "square-open"), "choice_searched": ("#e69f00", "triangle-up-open"),
}  # fmt: skip
_OTHERS = (("#cc79a7", "triangle-down"), ("#cc79a7", "star"), ("#cc79a7", "x"))
_GREY = "#888888"  # of text and lines: readable on the white theme and on the dark one


def study_figures(standing: Standing) -> dict[str, str]:
    """Graph id -> Plotly JSON.

    One metric: the score by trial, with the naive strategies as lines, and the leader by validation domain. Several:
    the first two against each other, with the Pareto front. Nothing before there is a score.
    """
    if not standing.scored():
        return {}
    if len(standing.metrics) > 1:
        return {"pareto": _dumped(_pareto(standing))}
    figures = {"scores": _dumped(_scores(standing))}
    domains = _domains(standing)
    return figures if domains is None else {**figures, "domains": _dumped(domains)}


def _scores(standing: Standing) -> dict[str, Any]:
    scored = standing.scored()
    ends = [min(e.number for e in scored), max(e.number for e in scored)]
    traces = _by_family(scored, lambda e: e.number, lambda e: _value(e, 0))
    learnt = [e for e in scored if not e.baseline]
    if learnt:
        pick = max if standing.directions[0] == "maximize" else min
        xs, ys = [], []
        for entry in learnt:
            value = _value(entry, 0)
            if not ys or pick(value, ys[-1]) != ys[-1]:
                xs.append(entry.number)
                ys.append(value)
        traces.append(
            {"type": "scatter", "mode": "lines", "name": "best learnt so far", "x": [*xs, ends[1]],
             "y": [*ys, ys[-1]], "line": {"shape": "hv", "width": 1.5, "color": "#cc79a7"}, "hoverinfo": "skip"}
        )  # fmt: skip
    none, rival = standing.named("none"), standing.rival()
    lines = [("none", none, "dot")]
    if rival is not none:
        lines.append((f"best naive: {rival.name}" if rival else "", rival, "dash"))
    for label, entry, dash in lines:
        if entry is not None:
            traces.append(
                {"type": "scatter", "mode": "lines", "name": label, "x": ends, "y": [_value(entry, 0)] * 2,
                 "line": {"dash": dash, "width": 1.5, "color": _GREY}, "hoverinfo": "name+y"}
            )  # fmt: skip
    return {"data": traces, "layout": _layout("Score by trial, first round (one seed)", "trial", standing.metrics[0])}


def _domains(standing: Standing) -> dict[str, Any] | None:
    """Bars by validation domain: `none`, the best naive strategy, the leader. None where the leader names no domain."""
    shown: list[tuple[str, Entry | None, str]] = [
        ("", standing.named("none"), _GREY),
        ("", standing.rival(), "#56b4e9"),
    ]
    shown.append(("", standing.best(), "#d55e00"))
    bars: dict[int, dict[str, Any]] = {}
    for _, entry, colour in shown:
        if entry is not None and entry.domains:
            names = list(entry.domains)
            bars[entry.number] = {"type": "bar", "name": entry.name, "x": names, "marker": {"color": colour},
                                  "y": [round(entry.domains[n], 4) for n in names]}  # fmt: skip
    best = standing.best()
    if best is None or best.number not in bars:
        return None
    layout = _layout("By validation domain: the leader and the naive strategies", "", standing.metrics[0])
    return {"data": list(bars.values()), "layout": {**layout, "barmode": "group"}}


def _pareto(standing: Standing) -> dict[str, Any]:
    traces = _by_family(standing.scored(), lambda e: _value(e, 0), lambda e: _value(e, 1), names=True)
    front = standing.front()
    traces.append(
        {"type": "scatter", "mode": "lines", "name": "Pareto front", "x": [_value(e, 0) for e in front],
         "y": [_value(e, 1) for e in front], "line": {"width": 1.5, "color": _GREY}, "hoverinfo": "skip"}
    )  # fmt: skip
    better = ["high" if way == "maximize" else "low" for way in standing.directions]
    labels = [f"{m} ({b} is better)" for m, b in zip(standing.metrics, better, strict=True)]
    return {"data": traces, "layout": _layout("What policies trade against each other", labels[0], labels[1])}


def _by_family(entries: Sequence[Entry], x: Any, y: Any, *, names: bool = False) -> list[dict[str, Any]]:
    traces = []
    unknown = iter(_OTHERS * 4)
    for family in dict.fromkeys(e.family for e in entries):
        colour, symbol = _FAMILIES.get(family) or next(unknown, ("#cc79a7", "cross"))
        own = [e for e in entries if e.family == family]
        trace = {"type": "scatter", "mode": "markers", "name": family or "unnamed", "x": [x(e) for e in own],
                 "y": [y(e) for e in own], "marker": {"color": colour, "symbol": symbol, "size": 9}}  # fmt: skip
        if names or len(own) <= 200:  # names of thousands of points would be most of the figure
            trace["text"] = [e.name for e in own]
        traces.append(trace)
    return traces


def _layout(title: str, x: str, y: str) -> dict[str, Any]:
    axis = {"gridcolor": "rgba(136,136,136,0.25)", "zerolinecolor": "rgba(136,136,136,0.25)"}
    return {
        "title": {"text": title, "font": {"size": 15}, "x": 0.02, "y": 0.9, "yanchor": "top"},
        "xaxis": {"title": {"text": x}, "automargin": True, **axis}, "yaxis": {"title": {"text": y}, **axis},
        "font": {"color": _GREY}, "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)",
        "legend": {"orientation": "h", "y": -0.25}, "margin": {"l": 60, "r": 20, "t": 80},
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": _GREY},
    }  # fmt: skip


def _value(entry: Entry, metric: int) -> float:
    return round((entry.values or ())[metric], 4)


def _dumped(figure: dict[str, Any]) -> str:
    return json.dumps(figure, separators=(",", ":"), ensure_ascii=True, allow_nan=False)

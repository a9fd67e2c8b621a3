"""A policy in words: one line per operation with its share, gate and ranges; sub-policies summed up on request."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Setting = tuple[float, float] | str

# What leaves an image as it is carries no information for a reader.
_NEUTRAL: dict[str, tuple[float, float]] = {
    "rotate": (0, 0), "scale": (1, 1), "shear": (0, 0), "translate_percent": (0, 0), "translate_px": (0, 0),
    "brightness": (1, 1), "contrast": (1, 1), "saturation": (1, 1), "hue": (0, 0), "brightness_limit": (0, 0),
    "contrast_limit": (0, 0), "blur_limit": (0, 0), "mean_range": (0, 0), "donor_scale": (1, 1),
    "noise_params": (0, 0),
}  # fmt: skip
_HIDDEN = {
    "__class_fullname__", "p", "transforms", "interpolation", "mask_interpolation", "border_mode", "fill", "fill_mask",
    "fit_output", "keep_ratio", "rotate_method", "balanced_scale", "metadata_key", "brightness_by_max",
    "ensure_safe_range", "noise_scale_factor", "per_channel", "approximation",
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One operation of a policy.

    Attributes:
        path: where it stands, e.g. `one of 3/8, step 2`.
        share: chance that its branch is chosen.
        name: Albumentations class.
        gate: chance to be applied once its branch is chosen.
        values: its arguments that do something: ranges where they are numbers.
    """

    path: str
    share: float
    name: str
    gate: float
    values: dict[str, Setting]

    @property
    def settings(self) -> str:
        """The arguments as text; equal ones on both axes are said once."""
        values = dict(self.values)
        for key in {k.rsplit(".", 1)[0] for k in values if k.endswith(".x")}:
            if values.get(f"{key}.x") == values.get(f"{key}.y") and key.startswith("scale"):
                values = {key if k == f"{key}.x" else k: v for k, v in values.items() if k != f"{key}.y"}
        return "; ".join(f"{key} {_text(value)}" for key, value in values.items())


def describe(transform: dict[str, Any]) -> list[Row]:
    """The operations of a serialised transform in order."""
    return list(_walk(transform, "", 1.0, 1.0, weighted=False))


def summarise(rows: Sequence[Row]) -> list[Row]:
    """One row per step and kind of operation: shares added, gates averaged by share, ranges joined to their hull.

    For policies of many sub-policies, whose full table nobody reads. Rows come by step, then by share.
    """
    groups: dict[tuple[str, str, tuple[str, ...]], list[Row]] = {}
    for row in rows:
        step = ", ".join(re.findall(r"step \d+", row.path))
        groups.setdefault((step, row.name, tuple(sorted(row.values))), []).append(row)
    merged = []
    for (step, name, keys), members in groups.items():
        share = sum(m.share for m in members)
        gate = sum(m.share * m.gate for m in members) / share if share else 0.0
        values = {key: _hull([m.values[key] for m in members]) for key in members[0].values if key in keys}
        merged.append(Row(step or "always", share, name, gate, values))
    return sorted(merged, key=lambda r: (r.path, -r.share))


def _hull(values: Sequence[Setting]) -> Setting:
    ranges = [v for v in values if isinstance(v, tuple)]
    if len(ranges) < len(values):
        return " / ".join(dict.fromkeys(_text(v) for v in values))
    return min(v[0] for v in ranges), max(v[1] for v in ranges)


def _walk(node: dict[str, Any], path: str, share: float, gate: float, *, weighted: bool) -> Iterator[Row]:
    """Shares multiply down the tree through OneOf, where p is a weight; elsewhere p is a gate, and gates multiply."""
    name = node["__class_fullname__"].rsplit(".", 1)[-1]
    gate = gate if weighted else gate * float(node.get("p", 1.0))
    children = node.get("transforms")
    if not isinstance(children, list):
        yield Row(path or "always", share, name, gate, dict(_values(node)))
    elif name == "OneOf":
        total = sum(float(c["p"]) for c in children)
        for index, child in enumerate(children, start=1):
            here = _join(path, f"one of {index}/{len(children)}" if len(children) > 1 else "")
            yield from _walk(child, here, share * float(child["p"]) / total, gate, weighted=True)
    else:
        for index, child in enumerate(children, start=1):
            here = _join(path, f"step {index}" if len(children) > 1 else "")
            yield from _walk(child, here, share, gate, weighted=False)


def _join(path: str, part: str) -> str:
    return ", ".join(p for p in (path, part) if p)


def _values(node: dict[str, Any]) -> Iterator[tuple[str, Setting]]:
    for key, value in node.items():
        if key in _HIDDEN or value is None:
            continue
        parts = value.items() if isinstance(value, dict) else [("", value)]
        if key == "noise_params" and isinstance(value.get("ranges"), list):
            parts = [(f"channel {i}", channel) for i, channel in enumerate(value["ranges"], start=1)]
        for axis, part in parts:
            setting = _setting(part)
            if setting != _NEUTRAL.get(key):
                yield (f"{key}.{axis}" if axis else key), setting


def _setting(value: Any) -> Setting:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value), float(value)
    if isinstance(value, (list, tuple)) and len(value) == 2 and all(isinstance(v, (int, float)) for v in value):
        return float(value[0]), float(value[1])
    return str(value)


def _text(value: Setting) -> str:
    if isinstance(value, str):
        return value
    return f"{value[0]:.3g}" if value[0] == value[1] else f"{value[0]:.3g} … {value[1]:.3g}"

"""A policy in words: one line per operation with its share, gate and ranges."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

# What each Albumentations class leaves at its default carries no information for a reader.
_NEUTRAL: dict[str, Any] = {
    "rotate": [0.0, 0.0],
    "scale": {"x": [1.0, 1.0], "y": [1.0, 1.0]},
    "shear": {"x": [0.0, 0.0], "y": [0.0, 0.0]},
    "translate_percent": {"x": [0.0, 0.0], "y": [0.0, 0.0]},
}
_HIDDEN = {
    "__class_fullname__", "p", "transforms", "interpolation", "mask_interpolation", "border_mode", "fill", "fill_mask",
    "fit_output", "keep_ratio", "rotate_method", "balanced_scale", "translate_px", "metadata_key", "bbox_params",
    "keypoint_params", "additional_targets", "is_check_shapes", "n", "replace",
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One operation of a policy.

    Attributes:
        path: where it stands, e.g. `choice 3, step 2`.
        share: chance that its branch is chosen, given that the level above is reached.
        name: Albumentations class.
        gate: chance to be applied once its branch is chosen.
        settings: its arguments that differ from doing nothing.
    """

    path: str
    share: float
    name: str
    gate: float
    settings: str


def describe(transform: dict[str, Any]) -> list[Row]:
    """The operations of a serialised transform in order."""
    return list(_walk(transform, "", 1.0))


def _walk(node: dict[str, Any], path: str, share: float, gate: float = 1.0) -> Iterator[Row]:
    """Shares multiply down the tree through OneOf; gates of containers multiply into their children's."""
    name = node["__class_fullname__"].rsplit(".", 1)[-1]
    children = node.get("transforms")
    if not isinstance(children, list):
        own = 1.0 if node.get("_weighted") else float(node["p"])
        yield Row(path or "always", share, name, gate * own, _settings(node))
        return
    passed = gate * (1.0 if node.get("_weighted") else float(node.get("p", 1.0)))
    if name == "OneOf":
        total = sum(float(c["p"]) for c in children)
        for index, child in enumerate(children, start=1):
            here = _join(path, f"one of {index}/{len(children)}" if len(children) > 1 else "")
            yield from _walk({**child, "_weighted": True}, here, share * float(child["p"]) / total, passed)
    else:
        for index, child in enumerate(children, start=1):
            here = _join(path, f"step {index}" if len(children) > 1 else "")
            yield from _walk(child, here, share, passed)


def _join(path: str, part: str) -> str:
    return ", ".join(p for p in (path, part) if p)


def _settings(node: dict[str, Any]) -> str:
    parts = []
    for key, value in node.items():
        if key in _HIDDEN or key.startswith("_") or value is None or _plain(value) == _NEUTRAL.get(key):
            continue
        if isinstance(value, dict):
            neutral = _NEUTRAL.get(key, {})
            parts += [f"{key}.{axis} {_range(v)}" for axis, v in value.items() if _plain(v) != neutral.get(axis)]
        else:
            parts.append(f"{key} {_range(value)}")
    return "; ".join(parts)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return (
        [float(v) if isinstance(v, (int, float)) else v for v in value] if isinstance(value, (list, tuple)) else value
    )


def _range(value: Any) -> str:
    if isinstance(value, (list, tuple)) and len(value) == 2 and all(isinstance(v, (int, float)) for v in value):
        return _number(value[0]) if value[0] == value[1] else f"{_number(value[0])} … {_number(value[1])}"
    return _number(value) if isinstance(value, (int, float)) else str(value)


def _number(value: float) -> str:
    return f"{value:.3g}"

"""What a policy does to an image, operation by operation: how often, and within which ranges."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from policy_search.augment.describe import Row, describe


@dataclass(frozen=True)
class Branch:
    """One place of an operation in the policy: its chance per image, 0 … 1, and the range of the argument there."""

    chance: float
    low: float
    high: float


@dataclass(frozen=True)
class Argument:
    """A numeric argument of an operation, in Albumentations' units, in every branch that has the operation."""

    name: str
    branches: tuple[Branch, ...]

    @property
    def hull(self) -> tuple[float, float]:
        """Least and largest value over all branches."""
        return min(b.low for b in self.branches), max(b.high for b in self.branches)


@dataclass(frozen=True)
class Operation:
    """One operation of a policy, its branches taken together.

    Attributes:
        step: `step 1` …, `always` for a policy without steps.
        name: Albumentations class; with `arguments` it says what is done.
        chance: that an image meets it, 0 … 1: chosen and applied, over all branches of the step.
        arguments: numeric ones. Of several branches those that differ between them: what is the same everywhere was
            given, not learnt, and stands here only where nothing else does.
        fixed: other arguments, as text.
    """

    step: str
    name: str
    chance: float
    arguments: tuple[Argument, ...]
    fixed: Mapping[str, str]


def operations(transform: dict[str, Any]) -> list[Operation]:
    """The operations of a serialised transform, by step, the most frequent of a step first."""
    groups: dict[tuple[str, str, tuple[str, ...]], list[Row]] = {}
    for row in describe(transform):
        step = ", ".join(re.findall(r"step \d+", row.path)) or "always"
        groups.setdefault((step, row.name, tuple(sorted(row.values))), []).append(row)
    found = [_operation(step, name, rows) for (step, name, _), rows in groups.items()]
    return sorted(found, key=lambda o: (_numbers(o.step), -o.chance))


def _operation(step: str, name: str, rows: list[Row]) -> Operation:
    ranges: dict[tuple[Branch, ...], str] = {}
    fixed: dict[str, str] = {}
    for key in rows[0].values:
        values = [row.values[key] for row in rows]
        pairs = [value for value in values if isinstance(value, tuple)]
        if len(pairs) < len(values):
            fixed[key] = " / ".join(dict.fromkeys(str(v) for v in values))
            continue
        branches = tuple(Branch(row.share * row.gate, low, high) for row, (low, high) in zip(rows, pairs, strict=True))
        # What is the same for x and y, or for height and width, is said once.
        first = ranges.setdefault(branches, key)
        if first != key and first.endswith(".x") and key == f"{first[:-2]}.y":
            ranges[branches] = first[:-2]
    arguments = [Argument(key, branches) for branches, key in ranges.items()]
    if len(rows) > 1:
        learnt = [a for a in arguments if len({(b.low, b.high) for b in a.branches}) > 1]
        shown = learnt or arguments[:1]
        fixed.update({a.name: number_range(*a.hull) for a in arguments if a not in shown})
        arguments = shown
    chance = sum(row.share * row.gate for row in rows)
    return Operation(step, name, chance, tuple(arguments), fixed)


def _numbers(step: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", step)]


def number_range(low: float, high: float) -> str:
    """A range as text, three digits."""
    return f"{low:.3g}" if low == high else f"{low:.3g} … {high:.3g}"

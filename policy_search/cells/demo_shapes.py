"""Outlines of the demo culture's cells: rounded ones, spread ones with corners and arms, thin processes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from policy_search.cells.demo_types import Outline

_ARC = np.linspace(0, 1, 6, endpoint=False)[:, None]  # parameters of a quadratic Bézier arc, end point excluded

Points = NDArray[np.float64]


def rounded_outlines(radii: NDArray[np.float64], rng: np.random.Generator) -> Points:
    """(N, M, 2) outlines of rounded cells around (0, 0): slightly oval circles with a small third harmonic."""
    theta = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    count = len(radii)
    oval, bump = rng.normal(0, 0.10, (count, 1)), rng.normal(0, 0.03, (count, 1))
    phase = rng.uniform(0, 2 * np.pi, (2, count, 1))
    r = radii[:, None] * (1 + oval * np.cos(2 * theta + phase[0]) + bump * np.cos(3 * theta + phase[1]))
    return np.stack([r * np.cos(theta), r * np.sin(theta)], 2)


def spread_outlines(
    outline: Outline, radii: NDArray[np.float64], angles: NDArray[np.float64], rng: np.random.Generator
) -> list[Points]:
    """Per cell the (M, 2) outline of a spread cell around (0, 0), pointing along its angle (see `Outline`)."""
    count, most = len(radii), outline.tips[1]
    tips = rng.integers(outline.tips[0], most + 1, (count, 1))
    slot = np.arange(most)
    used = slot < tips  # (N, T): a cell with fewer corners leaves its last slots empty
    theta = (slot + rng.uniform(-0.3, 0.3, (count, most))) * (2 * np.pi / tips) + rng.uniform(0, 2 * np.pi, (count, 1))
    reach = np.exp(rng.normal(0, outline.tip_spread, (count, most)))
    inner = (reach * used).sum(axis=1, keepdims=True) / tips
    arms = rng.random((count, most)) < outline.arms / tips
    reach = np.where(arms, outline.arm_length * rng.uniform(0.7, 1.3, (count, most)), reach)
    following = np.where(slot + 1 < tips, np.minimum(slot + 1, most - 1), 0)
    gap = (np.take_along_axis(theta, following, 1) - theta) % (2 * np.pi)
    # The control point between two corners; capped so that a wide gap does not throw it far out.
    waist = outline.sag * inner / np.maximum(np.cos(gap / 2), 0.5) * rng.uniform(0.92, 1.08, (count, most))
    corner = reach[..., None] * np.stack([np.cos(theta), np.sin(theta)], 2)
    middle = theta + gap / 2
    control = waist[..., None] * np.stack([np.cos(middle), np.sin(middle)], 2)
    after = np.take_along_axis(corner, following[..., None], 1)
    # (N, T, arc, 2): quadratic Bézier arcs
    curve = (
        corner[:, :, None] * (1 - _ARC) ** 2 + control[:, :, None] * 2 * _ARC * (1 - _ARC) + after[:, :, None] * _ARC**2
    )
    stretch = np.exp(np.maximum(rng.normal(outline.stretch, outline.stretch_spread, count), 0) / 2)
    curve = curve * radii[:, None, None, None] * np.stack([stretch, 1 / stretch], 1)[:, None, None]
    curve = curve - ((curve.mean(axis=2) * used[..., None]).sum(axis=1) / tips)[:, None, None]
    curve += rng.normal(0, outline.ruffle, curve.shape)
    c, s = np.cos(angles), np.sin(angles)
    turned = curve @ np.stack([np.stack([c, s], 1), np.stack([-s, c], 1)], 1)[:, None]
    return [turned[i, : int(tips[i, 0])].reshape(-1, 2) for i in range(count)]


def thin_processes(
    outline: Outline, rings: Sequence[Points], spread: NDArray[np.bool_], rng: np.random.Generator
) -> list[list[Points]]:
    """Per cell the centre lines (4, 2) of its thin processes, which leave it at its far corners."""
    lines: list[list[Points]] = [[] for _ in rings]
    numbers = np.where(spread, rng.poisson(outline.processes, len(rings)), 0)
    owners = np.repeat(np.arange(len(rings)), numbers)
    length = outline.process_length * rng.uniform(0.4, 1.6, len(owners))
    bend = np.cumsum(rng.normal(0, 0.09, (len(owners), 3, 1)), axis=1)
    where = rng.random(len(owners))
    steps = np.array([[1 / 3], [2 / 3], [1.0]])
    for k, owner in enumerate(owners.tolist()):
        ring = rings[owner]
        weight = np.cumsum((ring**2).sum(axis=1) ** 1.5)
        root = ring[np.searchsorted(weight, where[k] * weight[-1])]
        out = root / max(float(np.hypot(*root)), 1e-9)
        side = np.array([-out[1], out[0]])
        lines[owner].append(np.concatenate([root[None] * 0.7, root + length[k] * steps * (out + bend[k] * side)]))
    return lines

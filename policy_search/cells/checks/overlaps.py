"""Checks of the masks of one image against one another: cells outlined twice, cells within cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policy_search.cells.checks.findings import Finding, some
from policy_search.cells.dataset import ImageRecord
from policy_search.cells.instances import InstanceMap

DUPLICATE = 0.9  # IoU
WITHIN = 0.8  # share of a cell that one other covers; neighbours that were outlined overlap by a third at most

Pairs = NDArray[np.int64]


def shared_pixels(instances: InstanceMap) -> Pairs:
    """(P, 3) int64: ids a < b of every two cells that overlap, and their common pixels; ordered by a, then b.

    Cells of one layer never overlap, so only pixels with several layers are looked at, layer against layer.
    """
    if len(instances.layers) < 2:
        return np.zeros((0, 3), np.int64)
    layers = instances.layers.reshape(len(instances.layers), -1)
    crowded = np.flatnonzero(np.count_nonzero(layers, axis=0) > 1)
    at = layers[:, crowded].astype(np.int64)
    keys, counts = [], []
    for upper in range(1, len(at)):
        here = np.flatnonzero(at[upper])  # few: a layer takes only what found no place below
        for lower in range(upper):
            both = here[at[lower, here] > 0]
            a, b = at[lower, both], at[upper, both]
            key, count = np.unique((np.minimum(a, b) << 16) | np.maximum(a, b), return_counts=True)
            keys.append(key)
            counts.append(count)
    key, count = np.concatenate(keys), np.concatenate(counts)
    order = np.argsort(key)
    return np.column_stack([key[order] >> 16, key[order] & 0xFFFF, count[order]])


def _unions(instances: InstanceMap, pairs: Pairs) -> tuple[Pairs, Pairs]:
    """(P,) int64 each: the area of the smaller cell of each pair, and of both together."""
    areas = instances.areas()
    a, b = (areas[np.searchsorted(instances.ids, pairs[:, side])] for side in (0, 1))
    return np.minimum(a, b), a + b - pairs[:, 2]


def duplicate_pairs(instances: InstanceMap, threshold: float = DUPLICATE) -> list[tuple[int, int]]:
    """Pairs of instance ids whose masks overlap with an IoU above the threshold."""
    pairs = shared_pixels(instances)
    _, union = _unions(instances, pairs)
    return [(a, b) for a, b in pairs[pairs[:, 2] > threshold * union][:, :2].tolist()]


def cells_within(instances: InstanceMap, threshold: float = WITHIN) -> list[int]:
    """Ids of the cells of which another one covers more than the threshold, duplicates apart, ascending."""
    pairs = shared_pixels(instances)
    smaller, union = _unions(instances, pairs)
    inside = pairs[(pairs[:, 2] > threshold * smaller) & (pairs[:, 2] <= DUPLICATE * union)]
    areas = instances.areas()
    a, b = (areas[np.searchsorted(instances.ids, inside[:, side])] for side in (0, 1))
    ids: list[int] = np.unique(np.where(a < b, inside[:, 0], inside[:, 1])).tolist()
    return ids


def overlap_findings(
    annotations: Sequence[dict[str, Any]], instances: InstanceMap, record: ImageRecord
) -> list[Finding]:
    """Of masks that people drew; instance id = position of its annotation + 1. Texts name annotations by their id."""
    found = []

    def name(instance: int) -> str:
        return str(annotations[instance - 1].get("id", f"no. {instance}"))

    twins = duplicate_pairs(instances)
    if twins:
        names = [f"{name(a)} = {name(b)}" for a, b in twins]
        text = f"{len(twins)} pairs of annotations are duplicates (ids {some(names)})"
        found.append(Finding("cell-duplicated", record.id, record.split, text, len(twins)))
    inner = cells_within(instances)
    if inner:
        names = [name(i) for i in inner]
        text = f"{len(inner)} of {len(instances)} cells lie within another one (ids {some(names)})"
        found.append(Finding("cell-within-another", record.id, record.split, text, len(inner)))
    return found

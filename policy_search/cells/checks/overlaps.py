"""Checks of the masks of one image against one another: cells outlined twice, cells within cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policy_search.cells.checks.findings import Finding, amount, some
from policy_search.cells.dataset import ImageRecord
from policy_search.cells.instances import InstanceMap

DUPLICATE = 0.9  # IoU
WITHIN = 0.8  # share of a cell that one other covers; neighbours that were outlined overlap by a third at most

Pairs = NDArray[np.int64]


def shared_pixels(instances: InstanceMap) -> Pairs:
    """(P, 3) int64: ids a < b of every two cells that overlap, and their common pixels; ordered by a, then b.

    Cells of one layer never overlap, so layers are laid over each other, two at a time.
    """
    if len(instances.layers) < 2:
        return np.zeros((0, 3), np.int64)
    layers = instances.layers.reshape(len(instances.layers), -1)
    keys, counts = [], []
    for upper in range(1, len(layers)):
        here = np.flatnonzero(layers[upper])  # few: a layer takes only what found no place below
        above = layers[upper].take(here).astype(np.int64)
        for lower in range(upper):
            below = layers[lower].take(here)
            both = np.flatnonzero(below)
            a, b = below[both].astype(np.int64), above[both]
            key, count = np.unique((np.minimum(a, b) << 16) | np.maximum(a, b), return_counts=True)
            keys.append(key)
            counts.append(count)
    key, count = np.concatenate(keys), np.concatenate(counts)
    order = np.argsort(key)
    return np.column_stack([key[order] >> 16, key[order] & 0xFFFF, count[order]])


def duplicate_pairs(instances: InstanceMap, threshold: float = DUPLICATE) -> list[tuple[int, int]]:
    """Pairs of instance ids whose masks overlap with an IoU above the threshold."""
    return _duplicates(shared_pixels(instances), instances, threshold)


def cells_within(instances: InstanceMap, threshold: float = WITHIN) -> list[int]:
    """Ids of the cells of which another one covers more than the threshold, duplicates apart, ascending."""
    return _within(shared_pixels(instances), instances, threshold)


def _duplicates(pairs: Pairs, instances: InstanceMap, threshold: float = DUPLICATE) -> list[tuple[int, int]]:
    a, b = _areas(pairs, instances)
    return [(i, j) for i, j in pairs[pairs[:, 2] > threshold * (a + b - pairs[:, 2])][:, :2].tolist()]


def _within(pairs: Pairs, instances: InstanceMap, threshold: float = WITHIN) -> list[int]:
    a, b = _areas(pairs, instances)
    covered = pairs[:, 2] > threshold * np.minimum(a, b)
    covered &= pairs[:, 2] <= DUPLICATE * (a + b - pairs[:, 2])
    ids: list[int] = np.unique(np.where(a < b, pairs[:, 0], pairs[:, 1])[covered]).tolist()
    return ids


def _areas(pairs: Pairs, instances: InstanceMap) -> tuple[Pairs, Pairs]:
    """(P,) int64 each: the areas of the first and of the second cell of each pair."""
    areas = instances.areas()
    return areas[np.searchsorted(instances.ids, pairs[:, 0])], areas[np.searchsorted(instances.ids, pairs[:, 1])]


def overlap_findings(
    annotations: Sequence[dict[str, Any]], instances: InstanceMap, record: ImageRecord
) -> list[Finding]:
    """Of masks that people drew; instance id = position of its annotation + 1. Texts name annotations by their id."""
    found = []

    def name(instance: int) -> str:
        return str(annotations[instance - 1].get("id", f"no. {instance}"))

    pairs = shared_pixels(instances)
    twins = _duplicates(pairs, instances)
    if twins:
        names = [f"{name(a)} = {name(b)}" for a, b in twins]
        text = f"{amount(len(twins), 'pair')} of duplicate annotations (ids {some(names)})"
        found.append(Finding("cell-duplicated", record.id, record.split, text, len(twins)))
    inner = _within(pairs, instances)
    if inner:
        names = [name(i) for i in inner]
        text = f"{len(inner)} of {amount(len(instances), 'cell')} within another one (ids {some(names)})"
        found.append(Finding("cell-within-another", record.id, record.split, text, len(inner)))
    return found

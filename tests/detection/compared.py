"""Runs of an experiment with made-up detections, for the tests of comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from detection.matches import ImageMatches
from detection.statistics.resamples import Runs

WELLS: Mapping[str, Sequence[str]] = {
    "A172": ("a1", "a1", "a2", "a3"),
    "BT474": ("b1", "b2", "b3", "b4"),
    "BV2": ("v1", "v1", "v1"),
    "SKOV3": ("s1",),
}


def tested(rng: np.random.Generator, wells: Sequence[str], skill: float) -> list[ImageMatches]:
    """Images of a model that finds about a share `skill` of the cells; some wells are harder."""
    images, cells = [], 60
    for number, well in enumerate(wells):
        own = np.clip(skill + 0.1 * np.sin(hash_of(well)) + 0.03 * rng.normal(), 0.05, 0.95)
        scores = np.sort(rng.random(cells).astype(np.float32))[::-1]
        hits = rng.random(cells) < own * (0.5 + scores / 2)
        images.append(ImageMatches(f"{well}_{number}.tif", well, cells, scores, hits))
    return images


def hash_of(text: str) -> int:
    return sum(text.encode())


def runs(
    skills: Mapping[str, float], seeds: Sequence[int] = (0, 1, 2), wells: Mapping[str, Sequence[str]] = WELLS
) -> Runs:
    """Rows by how good they are on unseen types; the first is the reference."""
    images = {}
    for number, (row, skill) in enumerate(skills.items()):
        for seed in seeds:
            rng = np.random.default_rng([seed, number])
            images[row, seed] = {t: tested(rng, own, 0.8 if t == "A172" else skill) for t, own in wells.items()}
    rows = tuple(skills)
    return Runs("A172", False, rows[0], rows, frozenset({"A172"}), tuple(seeds), images)

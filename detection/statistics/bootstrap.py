"""AP50 of thousands of resamples of the same test images: wells drawn with replacement, detections sorted once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detection.matches import ImageMatches

_RECALLS = np.linspace(0, 1, 101)  # COCO's levels
_CHUNK = 1 << 15  # numbers at a time, so that they stay in a processor's cache


def draw_units(units: int, draws: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """(draws, units): how often each unit is in each resample, units - 1 of them drawn with replacement.

    Drawing n of n units understates the variance of a mean by (n - 1)/n, a third with three units. n - 1 of n is the
    size at which the rescaling of Rao & Wu (1988, JASA 83:231) is the identity, so it also serves AP50, which is not a
    mean.

    Args:
        units: at least 2.
    """
    if units < 2:
        raise ValueError(f"a resample needs at least 2 units, got {units}")
    return rng.multinomial(units - 1, np.full(units, 1 / units), size=draws)


def resampled_ap50(
    images: Sequence[ImageMatches], units: Sequence[int], counts: NDArray[np.int64]
) -> NDArray[np.float64]:
    """AP50 of each resample in 0 … 1, as `PooledMatches.ap50` gives it; NaN where a resample holds no cell.

    Only detections that found a cell can be where precision is highest at a recall, so only these are looked at; how
    many came before them is a product of two small matrices. Within one image and one score, copies of a detection
    stand beside each other, where `PooledMatches` puts copies of the image: without such ties both are equal.

    Args:
        images: of one model.
        units: of each image, 0 … U - 1.
        counts: (draws, U), how often each unit is in a resample.

    Returns:
        (draws,)
    """
    # Few units have few distinct resamples: 924 of 7 units however many are drawn.
    kinds, which = np.unique(counts, axis=0, return_inverse=True)
    right, seen = _before_each_hit(images, units, counts.shape[1])
    cells = kinds @ np.bincount(units, [image.cells for image in images], counts.shape[1])
    size = max(1, _CHUNK // (len(right) + 1))
    parts = [
        _ap50(kinds[i : i + size].astype(float), cells[i : i + size], right, seen) for i in range(0, len(kinds), size)
    ]
    return np.concatenate(parts)[which.reshape(-1)]


def _before_each_hit(
    images: Sequence[ImageMatches], units: Sequence[int], count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Hits and detections (H, U) of each unit up to and with each hit, best score first; ties by image."""
    scores = np.concatenate([image.scores for image in images])
    hits = np.concatenate([image.hits for image in images])
    owner = np.repeat(units, [len(image.scores) for image in images])
    order = np.argsort(-scores, kind="stable")
    hits = hits[order]
    one = np.eye(count)[owner[order]]
    return np.cumsum(one * hits[:, None], axis=0)[hits], np.cumsum(one, axis=0)[hits]


def _ap50(
    counts: NDArray[np.float64], cells: NDArray[np.float64], right: NDArray[np.float64], seen: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(draws,) of counts (draws, U), cells (draws,) and what stands before each hit (H, U)."""
    draws, hits = len(counts), len(right)
    # A last column that every recall reaches, with precision 0: recalls that no detection reaches.
    found, precision = np.empty((draws, hits + 1)), np.zeros((draws, hits + 1))
    np.matmul(counts, right.T, out=found[:, :-1])
    found[:, -1] = cells.max() + 1
    np.divide(found[:, :-1], np.maximum(counts @ seen.T, 1), out=precision[:, :-1])
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    # One search for all draws: the hits of draw d, whole numbers, are moved to d * step and above.
    step = found.max() + 1
    start = step * np.arange(draws)[:, None]
    at = np.searchsorted((found + start).ravel(), (_hits_needed(cells) + start).ravel())
    at = at.reshape(draws, -1) - (hits + 1) * np.arange(draws)[:, None]
    means = np.take_along_axis(precision, at, axis=1).mean(axis=1)
    return np.where(cells > 0, means, np.nan)


def _hits_needed(cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """(draws, 101): the least number of hits whose recall, in floating point, is not below each of COCO's levels."""
    cells = np.maximum(cells, 1)[:, None]
    needed = np.ceil(_RECALLS * cells)
    needed -= (needed >= 1) & ((needed - 1) / cells >= _RECALLS)
    return needed + (needed / cells < _RECALLS)

"""Every run of an experiment scored on the same resamples of its test images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detection.matches import ImageMatches, average_precision
from detection.statistics.bootstrap import draw_units, resampled_ap50
from policy_search.cells import CELL_TYPES
from policy_search.cells.errors import InputError


class Runs(NamedTuple):
    """What was measured from one source.

    Attributes:
        source: what the models were trained on, as a canonical name.
        synthetic: whether any image comes from the demo culture.
        reference: the row that effects are counted from.
        rows: labels in the order of the experiment, the reference among them.
        seen: cell types that the models were trained on.
        seeds: of the fine-tunes.
        images: (row, seed) → cell type → its test images. A pair or a type that was not run is missing.
    """

    source: str
    synthetic: bool
    reference: str
    rows: tuple[str, ...]
    seen: frozenset[str]
    seeds: tuple[int, ...]
    images: Mapping[tuple[str, int], Mapping[str, Sequence[ImageMatches]]]


class Units(NamedTuple):
    """What is drawn for one cell type.

    Attributes:
        kind: `wells`; `images` where all cells are in one well, whose images are near copies, so that intervals are too
            narrow; `none` where all cells are in one image.
        count: of those with cells.
        images, cells: that were tested on.
    """

    kind: str
    count: int
    images: int
    cells: int


class Resamples(NamedTuple):
    """AP50 in 0 … 1 of every run.

    Attributes:
        types: with at least one labelled cell, in LIVECell's order, others after them.
        points: (row, seed, type) → on all images.
        draws: (row, seed, type) → (B,) on each resample; the same resamples for all rows and seeds of a type. A type
            with no units to draw from is missing. B may be lower than asked for: a resample without cells has no AP50.
    """

    runs: Runs
    types: tuple[str, ...]
    units: Mapping[str, Units]
    points: Mapping[tuple[str, int, str], float]
    draws: Mapping[tuple[str, int, str], NDArray[np.float64]]


def resample(runs: Runs, *, draws: int, seed: int) -> Resamples:
    """Score everything.

    Args:
        draws: resamples of each type.
        seed: of the draws. A type's draws depend on it and the type's name, not on which other types or rows there are.

    Raises:
        InputError: no images, no runs of the reference, or runs tested on different images of one type.
    """
    tested = {t for found in runs.images.values() for t in found}
    if not any(row == runs.reference and found for (row, _), found in runs.images.items()):
        raise InputError(
            f"there is no finished run of {runs.reference} from {runs.source}, the row that gains are counted from. "
            "Finish the experiment with `detect matrix`."
        )
    order = [t.name for t in CELL_TYPES]
    units: dict[str, Units] = {}
    points: dict[tuple[str, int, str], float] = {}
    drawn: dict[tuple[str, int, str], NDArray[np.float64]] = {}
    for name in sorted(tested, key=lambda t: (order.index(t) if t in order else len(order), t)):
        found = {key: tuple(types[name]) for key, types in runs.images.items() if name in types}
        images = _same_images(name, found)
        if not sum(image.cells for image in images):
            continue
        kind, groups = _groups(images)
        holding = len({group for group, image in zip(groups, images, strict=True) if image.cells})
        units[name] = Units(kind, holding, len(images), sum(image.cells for image in images))
        counts = None
        if kind != "none":
            counts = draw_units(max(groups) + 1, draws, np.random.default_rng([seed, *name.encode()]))
            cells = np.bincount(groups, [image.cells for image in images])
            counts = counts[counts @ cells > 0]
        for (row, number), own in found.items():
            points[row, number, name] = float(average_precision(own) or 0.0)
            if counts is not None:
                drawn[row, number, name] = resampled_ap50(own, groups, counts)
    return Resamples(runs, tuple(units), units, points, drawn)


def _same_images(name: str, found: Mapping[tuple[str, int], Sequence[ImageMatches]]) -> Sequence[ImageMatches]:
    """The images that all runs were tested on."""
    (first, images), *others = found.items()
    wanted = [(image.image, image.well, image.cells) for image in images]
    for other, own in others:
        if [(image.image, image.well, image.cells) for image in own] != wanted:
            raise InputError(
                f"{name}: {other[0]} with seed {other[1]} was tested on other images or labels than {first[0]} with "
                f"seed {first[1]}, so they cannot be compared. Run both again on the same data."
            )
    return images


def _groups(images: Sequence[ImageMatches]) -> tuple[str, list[int]]:
    """What to draw, and the number of each image's unit."""
    for kind, names in (("wells", [i.well for i in images]), ("images", [str(n) for n in range(len(images))])):
        holding = {name for name, image in zip(names, images, strict=True) if image.cells}
        if len(holding) > 1:
            numbers = {name: n for n, name in enumerate(dict.fromkeys(names))}
            return kind, [numbers[name] for name in names]
    return "none", [0] * len(images)

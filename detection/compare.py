"""Which row of an experiment carries over better: effects on each cell type, mean transfer gain, with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from detection.matches import ImageMatches


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

"""Dividing images into train, val and test so that no well is in two of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from policy_search.cells.errors import InputError

SPLITS = ("train", "val", "test")


def split_by_well(
    wells: Sequence[str], types: Sequence[str], fractions: Sequence[float], rng: np.random.Generator
) -> list[str]:
    """Split of each image, by cell type as near to the fractions as whole wells allow.

    Args:
        wells, types: of each image.
        fractions: of the images for train, val and test; a split of 0 gets none.
        rng: decides which wells go where.

    Raises:
        InputError: there are fewer wells than splits.
    """
    wanted = {split: share for split, share in zip(SPLITS, fractions, strict=True) if share > 0}
    sizes: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    home: dict[str, str] = {}
    for well, cell_type in zip(wells, types, strict=True):
        sizes[home.setdefault(well, cell_type)][well] += 1  # a well that holds two types goes with its first
    chosen: dict[str, str] = {}
    for cell_type in sorted(sizes):
        names = sorted(sizes[cell_type])
        names = [names[i] for i in rng.permutation(len(names))]
        total = sum(sizes[cell_type].values())
        have = dict.fromkeys(wanted, 0)
        for place, well in enumerate(names):
            # One well for each split first, where there are enough: a small share would else stay empty.
            first = place < len(wanted) <= len(names)
            open_splits = [s for s in wanted if have[s] == 0] if first else list(wanted)
            split = max(open_splits, key=lambda s: wanted[s] * total - have[s])
            chosen[well] = split
            have[split] += sizes[cell_type][well]
    empty = [split for split in wanted if split not in chosen.values()]
    if empty:
        wells_of = ", ".join(f"{name} {len(found)}" for name, found in sorted(sizes.items()))
        raise InputError(
            f"--split: too few wells in each cell type ({wells_of}) for {', '.join(wanted)}: {', '.join(empty)} would "
            "stay empty. Set a share to 0, or say with --well what a well is."
        )
    return [chosen[well] for well in wells]

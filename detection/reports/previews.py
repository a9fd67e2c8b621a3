"""Style previews: one training image of the source before and after each policy (the paper's figures 2 and 4)."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detection.matrices.record import CellRecord, MatrixRecord
from detection.reports.folders import policy_of, training_images
from detection.reports.images import side_by_side
from policy_search.augment.preview import preview_tiles
from policy_search.cells.errors import InputError

DRAWS = 4


class Preview(NamedTuple):
    """One policy: its row's label, its hash, what is seen, and the pixels (H, W, 3) uint8, or None with the reason."""

    label: str
    policy_hash: str
    words: str
    pixels: NDArray[np.uint8] | None


def previews(record: MatrixRecord, base: Path, source: str, root: Path | None) -> list[Preview]:
    """The original left and `DRAWS` draws of each row's policy beside it, of the row's first finished run.

    Args:
        base: folder of the record.
        root: LIVECell's folder, if it has moved since the runs.
    """
    found = []
    for label in record.rows:
        cell = next((c for c in record.cells if (c.label, c.source) == (label, source)), None)
        if cell is not None:
            found.append(_preview(cell, base, root, several=len(record.seeds) > 1))
    return found


def _preview(cell: CellRecord, base: Path, root: Path | None, *, several: bool) -> Preview:
    try:
        document = policy_of(cell, base)
        dataset = training_images(cell, base, root)
        tiles = preview_tiles(document, dataset, images=1, draws=DRAWS, seed=cell.seed)[0]
    except InputError as error:  # the numbers are worth having without this picture
        return Preview(cell.label, cell.policy_hash, f"No picture: {error}", None)
    own = several and cell.policy.startswith("search:")
    learnt = f"The policy that was learnt with seed {cell.seed}. " if own else ""
    words = learnt + "; ".join(tile.caption for tile in tiles) + "."
    return Preview(cell.label, cell.policy_hash, words, side_by_side([tile.pixels for tile in tiles]))

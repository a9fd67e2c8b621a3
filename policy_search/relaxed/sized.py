"""Target mode where the size of the target's cells is known: the source brought to it, the rest left to the search.

Statistics of whole images cannot tell how large cells are: many small cells look much like few large ones of more
contrast. Whoever knows the size (study/sizes.py recognises it) gives the search a source of that size, takes from it
all that would change it again, and puts the scaling in front of what was found.
"""

from __future__ import annotations

from collections.abc import Sequence

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray

from policy_search.augment import PolicyDocument, baseline
from policy_search.augment.chains import for_share, in_turn, one_of
from policy_search.relaxed.catalogue import operations
from policy_search.relaxed.crops import Pair
from policy_search.relaxed.operations import Emission

SPREAD = 0.1  # of an emitted scaling to either side: sizes are known to about half a step of a grid of ratio 1.25
SHARE = 0.5  # of the images that a matched policy is for


def resized(pairs: Sequence[Pair], sizes: Sequence[float]) -> list[Pair]:
    """Every image and mask once for each size: a source as the targets would have it.

    What shrinks is mirrored outwards until it is as large as before, so that as many crops can be taken from it and
    none shows an edge that the target has not.

    Args:
        pairs: images (H, W) or (H, W, 3) uint8 with masks (H, W) bool.
        sizes: of the targets' cells, in those of the source; one that two targets share counts twice.
    """
    return [
        (_scaled(image, size, cv2.INTER_LINEAR), _scaled(mask.astype(np.uint8), size, cv2.INTER_NEAREST) > 0)
        for size in sizes
        for image, mask in pairs
    ]


def _scaled(plane: NDArray[np.uint8], size: float, interpolation: int) -> NDArray[np.uint8]:
    # Bilinear without a filter before it, as the emitted `Affine` does.
    scaled = cv2.resize(plane, None, fx=size, fy=size, interpolation=interpolation)
    lacking = [max(0, whole - part) for whole, part in zip(plane.shape[:2], scaled.shape[:2], strict=True)]
    (top, left), (bottom, right) = ([n // 2 for n in lacking], [n - n // 2 for n in lacking])
    return np.asarray(cv2.copyMakeBorder(scaled, top, bottom, left, right, cv2.BORDER_REFLECT_101), np.uint8)


def without_size(names: Sequence[str]) -> tuple[str, ...]:
    """Those operations of `names` (all of the catalogue when empty) that keep the area of a cell."""
    return tuple(o.name for o in operations(*names) if o.keeps_area)


def with_sizes(
    document: PolicyDocument, sizes: Sequence[float], *, fill: int, share: float = SHARE, spread: float = SPREAD
) -> PolicyDocument:
    """A flip, a scaling to one of the sizes, and for a share of the images what was matched: a policy for training.

    Flips change nothing that a statistic could see, and are true of cells in a dish. What was matched makes two
    cultures look alike whatever the cause, so a part of the images goes without.

    Args:
        document: what a search on `resized` images found.
        sizes: see `resized`.
        fill: grey level (0 to 255) of what shrinking uncovers.
        share: in [0, 1].
        spread: of a scaling to either side, as a share of the size, in [0, 1).
    """
    (scale,) = operations("scale")
    scalings = [
        baseline("none")
        if size == 1
        else PolicyDocument.from_compose(
            A.Compose([scale.emit((1 - spread) * size, (1 + spread) * size, Emission(fill))])
        )
        for size in sizes
    ]
    first = scalings[:1] if len(set(sizes)) == 1 else [one_of(scalings)]
    if set(sizes) == {1}:
        first = []
    return in_turn(baseline("flip"), *first, for_share(document, share))

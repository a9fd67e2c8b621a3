"""What a critic may see of single cells beside their foreground: their outlines, and how deep inside a pixel lies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

# Shares of a cell's greatest depth. Bands instead of one grey distance: every plane is 0 or 1, as all that is done to
# masks (nearest interpolation, holes) expects.
BANDS = (0.25, 0.5, 0.75)
PLANES = 2 + len(BANDS)


def instance_planes(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Planes (PLANES, H, W) of instance ids (H, W), 0 for background.

    The foreground; the outlines, pixels of a cell with something else above, below or beside them; and one plane for
    each of BANDS: pixels of a cell deeper than that share of its greatest depth, depth being the distance to the
    nearest pixel that is not of the cell. The frame of the image is no outline.
    """
    planes = np.zeros((PLANES, *labels.shape), np.bool_)
    planes[0] = labels > 0
    for number, box in enumerate(ndimage.find_objects(labels), 1):
        if box is None:
            continue
        # One pixel more, where there is one: the distance is that to the nearest pixel outside.
        wide = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in box)
        cell = labels[wide] == number
        if cell.all():  # it covers the whole image, and no pixel of it is near an outline
            planes[(slice(2, None), *wide)] = True
            continue
        depth = ndimage.distance_transform_edt(cell)
        planes[(1, *wide)] |= depth == 1
        for band, share in enumerate(BANDS, 2):
            planes[(band, *wide)] |= depth > share * depth.max()
    return planes

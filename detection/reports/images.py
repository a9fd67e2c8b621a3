"""Pictures for a page: pixels joined side by side, and compressed until all of them fit a number of bytes."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

GAP = 6  # white pixels between two pictures side by side
# Scale and JPEG quality, the first good enough for a screen. Thin coloured lines need full colour resolution.
STEPS = ((1.0, 80), (0.85, 75), (0.75, 70), (0.65, 65), (0.55, 60), (0.45, 55), (0.35, 50))


def side_by_side(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """(H, W', 3) uint8 from pictures (H, W, 3) of one height, a white gap between them."""
    gap = np.full((pictures[0].shape[0], GAP, 3), 255, np.uint8)
    parts = [part for picture in pictures for part in (gap, picture)][1:]
    return np.concatenate(parts, axis=1)


def compressed(pictures: Sequence[NDArray[np.uint8]], limit: int) -> list[bytes]:
    """JPEG files of all pictures, of the best of `STEPS` at which they have `limit` bytes together, else of the last.

    Args:
        pictures: (H, W, 3) uint8 RGB, of any sizes.
    """
    files: list[bytes] = []
    for scale, quality in STEPS:
        files = [jpeg(picture, scale, quality) for picture in pictures]
        if sum(map(len, files)) <= limit:
            break
    return files


def jpeg(picture: NDArray[np.uint8], scale: float, quality: int) -> bytes:
    """A JPEG file of a (H, W, 3) uint8 RGB picture, its sides times `scale`."""
    if scale != 1:
        height, width = (max(1, round(side * scale)) for side in picture.shape[:2])
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)
    settings = [
        cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]  # fmt: skip
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(picture[..., ::-1]), settings)
    return data.tobytes()

"""Polygons along pixel edges, exact under COCO rasterisation."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def outline(mask: NDArray[np.bool_], x0: int = 0, y0: int = 0) -> list[list[float]] | None:
    """Rings [x, y, x, y, …] around a (h, w) bool mask, shifted by (x0, y0); None if the mask has a hole.

    The rings run along pixel edges (integer corners), so rasterising them gives the same pixels back. OpenCV traces
    pixel centres; on a mask doubled in size an odd coordinate marks a right or lower edge and an even one a left or
    upper edge, so (u + u % 2) / 2 is the corner.
    """
    doubled = np.repeat(np.repeat(mask.astype(np.uint8), 2, axis=0), 2, axis=1)
    contours, hierarchy = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return []
    if (hierarchy[0, :, 3] >= 0).any():
        return None
    rings = []
    for contour in contours:
        corners = (contour[:, 0].astype(np.int64) + 1) // 2
        rings.append(_corners_only(corners + np.array([x0, y0])).astype(float).ravel().tolist())
    return rings


def _corners_only(points: NDArray[np.int64]) -> NDArray[np.int64]:
    """A closed ring (M, 2) without repeated points and without points in the middle of a straight edge."""
    points = points[np.any(points != np.roll(points, 1, axis=0), axis=1)]
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    corners: NDArray[np.int64] = points[turns]
    return corners

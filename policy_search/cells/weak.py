"""Foreground for images nobody labelled: cells are where a phase-contrast image is not smooth.

Gradient energy (Gaussian derivatives), a threshold between the image's own background and its cells, hole filling, and
an erosion by what the derivative had added around every edge. Everything is relative to the image's own grey levels, so
brightness does not matter and contrast hardly does. So it needs some of both: an image that is all background and one
without any look alike to it. How near it comes to labels: experiments/results/weak_masks.md.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.morphology import disk

from policy_search.cells.errors import DataError

# Chosen by mean IoU per type over labelled train and val images of a small LIVECell subset and of the demo culture.
EDGE = 1.0  # sigma of the derivatives, pixels
SPREAD = 1.0  # sigma over which their magnitude is averaged: joins the two sides of an edge
SHRINK = 3  # pixels by which the two together reach beyond a cell
HOLE = 200  # px²; what is larger is background between cells
SPECK = 50  # px²; what is smaller is no cell
# The background's gradient is that of the smoothest pixels, times a factor. Otsu's threshold alone would split an image
# full of cells into cells and brighter cells; the background's alone takes debris and shading for cells. Between both:
BACKGROUND_SHARE, BACKGROUND_FACTOR = 0.01, 2.5
# Grey levels a pixel; anything below counts as this. Rounding to 8 bits alone makes about 0.07.
FLOOR = 0.1


def weak_foreground(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where cells are, by texture alone.

    Args:
        image: (H, W) or (H, W, 3) uint8. Colours are averaged.

    Returns:
        (H, W) bool. Empty where nothing stands out from rounding noise.

    Raises:
        DataError: another dtype or shape, or no pixel.
    """
    energy = np.maximum(gradient_energy(image), np.float32(FLOOR))
    mask = energy > threshold(energy)
    mask |= _small(~mask, HOLE, enclosed=True)
    # The frame is no edge: what lies beyond it counts as cell.
    mask = ndimage.binary_erosion(mask, disk(SHRINK), border_value=1)
    kept: NDArray[np.bool_] = mask & ~_small(mask, SPECK)
    return kept


def gradient_energy(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(H, W) float32, grey levels a pixel: magnitude of the Gaussian gradient, averaged.

    Raises:
        DataError: not (H, W) or (H, W, 3) uint8, or no pixel.
    """
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        raise DataError(
            f"weak foreground: expected an image (H, W) or (H, W, 3) uint8, found {image.shape} {image.dtype}. "
            "Convert it to 8 bits first."
        )
    if image.size == 0:
        raise DataError(f"weak foreground: the image is {image.shape}, it has no pixel")
    grey = image.astype(np.float32) if image.ndim == 2 else image.mean(2, dtype=np.float32)
    sharp = ndimage.gaussian_gradient_magnitude(grey, EDGE)
    energy: NDArray[np.float32] = ndimage.gaussian_filter(sharp, SPREAD)
    return energy


def threshold(energy: NDArray[np.float32]) -> float:
    """Between background and cells: the geometric mean of Otsu's threshold of the logarithms and of a multiple of the
    smoothest pixels' energy. `energy` is positive; where it is constant, nothing lies above."""
    logs = np.log(energy)
    if logs.max() - logs.min() < 1e-6:
        return float(energy.max())
    background = np.log(BACKGROUND_FACTOR) + np.quantile(logs, BACKGROUND_SHARE)
    return float(np.exp((threshold_otsu(logs) + background) / 2))


def _small(mask: NDArray[np.bool_], size: int, *, enclosed: bool = False) -> NDArray[np.bool_]:
    """The connected parts (H, W) of a mask of fewer than `size` pixels; `enclosed`: only those off the frame."""
    labels, _ = ndimage.label(mask)
    small = np.bincount(labels.ravel()) < size
    small[0] = False  # what is not of the mask
    if enclosed:
        small[np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])] = False
    chosen: NDArray[np.bool_] = small[labels]
    return chosen

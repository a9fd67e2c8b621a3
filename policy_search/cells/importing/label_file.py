"""Reading one label image: one whole number per cell, 0 for the background."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image as PillowImage

from policy_search.cells.errors import DataError
from policy_search.cells.importing.seg_file import read_seg_masks
from policy_search.cells.planes import Plane, is_tiff, read_tiff_plane

SEG_ENDING = "_seg.npy"
MAX_LABEL = 1 << 53  # beyond, floats do not tell one whole number from the next


def read_labels(path: Path, plane: Plane = Plane()) -> NDArray[np.int64]:  # noqa: B008 (it is frozen)
    """(H, W) int64 labels of a TIFF, PNG or cellpose's `_seg.npy`, whatever their width in the file.

    Args:
        path: of the label image.
        plane: of the picture; counts only where the label image has several pages or channels itself.

    Raises:
        DataError: missing, damaged, colours, values that are negative or no whole numbers, or several pages without a
            choice.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tags that mean nothing here
            stored = _stored(path, plane)
    except FileNotFoundError:
        raise DataError(f"label image is missing: {path}") from None
    except DataError:
        raise
    except Exception as error:  # decoders raise what they stumble over
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"label image is damaged: {path} ({text}). Write it again, as TIFF or PNG.") from error
    if stored.ndim == 3 and (stored.shape[2] == 1 or (stored[..., :3] == stored[..., :1]).all()):
        stored = stored[..., 0]
    if stored.ndim != 2 or stored.size == 0:
        raise DataError(
            f"label image {path} has shape {stored.shape}: expected one value per pixel, the number of its cell. "
            "A coloured picture of cells cannot be told apart reliably."
        )
    if stored.dtype.kind not in "buif":
        raise DataError(f"label image {path} holds {stored.dtype} values: expected whole numbers")
    if stored.dtype.kind == "f" and not (np.isfinite(stored).all() and (stored == np.rint(stored)).all()):
        raise DataError(f"label image {path} holds fractions: expected whole numbers. Is it the image itself?")
    if stored.min() < 0:
        raise DataError(f"label image {path} holds negative values ({stored.min()}): expected 0 for the background")
    if stored.max() > MAX_LABEL:
        raise DataError(f"label image {path} holds the value {stored.max()}: expected numbers of cells")
    return stored.astype(np.int64)


def _stored(path: Path, plane: Plane) -> NDArray[Any]:
    if path.name.endswith(SEG_ENDING):
        return _seg_plane(path, plane)
    if is_tiff(path):
        return read_tiff_plane(path, _within_labels(path, plane))
    with PillowImage.open(path) as image:
        image.load()
        return np.asarray(image)  # of a palette the index: its colours are for the eye


def _seg_plane(path: Path, plane: Plane) -> NDArray[Any]:
    masks = read_seg_masks(path)
    if masks.ndim == 3 and len(masks) == 1:
        return masks[0]  # type: ignore[no-any-return]
    if masks.ndim != 3:
        return masks
    if plane.page is None or plane.page > len(masks):
        raise DataError(f"label file {path} holds {len(masks)} planes: choose one of them with --page")
    return masks[plane.page - 1]  # type: ignore[no-any-return]


def _within_labels(path: Path, plane: Plane) -> Plane:
    """The part of the image's plane that the label image has a choice for: labels are often drawn on one channel."""
    with tifffile.TiffFile(path) as file:
        sizes = dict(zip(file.series[0].axes, file.series[0].shape, strict=True)) if file.series else {}
    pages = any(n > 1 for axis, n in sizes.items() if axis not in "YXSC")
    return Plane(plane.page if pages else None, plane.channel if sizes.get("C", 1) > 1 else None)

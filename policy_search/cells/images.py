"""Reading one image file as 8-bit pixels, or an error that names the file."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from policy_search.cells.errors import DataError
from policy_search.cells.planes import Plane, is_tiff, read_tiff_plane

# Remarks on odd tags are for whoever has set up logging, not for a user's terminal.
for _library in ("PIL", "tifffile"):
    logging.getLogger(_library).addHandler(logging.NullHandler())
# The stretch that brings deeper images to 8 bits. A plain cast or a division by 256 would saturate or blacken
# cameras that use 12 of 16 bits.
LOW_PERCENTILE, HIGH_PERCENTILE = 0.1, 99.9
# Pillow's modes whose channels are grey levels or red, green and blue; others are converted.
_AS_THEY_ARE = ("1", "L", "LA", "I", "F", "RGB", "RGBA", "RGBX")


def to_uint8(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """8-bit pixels are returned as they are; deeper ones are stretched linearly from their 0.1 to 99.9 percentile."""
    if pixels.dtype == np.uint8:
        return pixels
    values: NDArray[Any] = pixels.astype(np.float32)
    # As far apart as 32 bits allow, or as near: their difference, or its reciprocal, needs 64.
    spread = float(values.max()) - float(values.min())
    if not 1e-30 < spread < 1e30:
        values = pixels.astype(np.float64)
    low, high = np.percentile(values, [LOW_PERCENTILE, HIGH_PERCENTILE])
    if high <= low:
        return np.zeros(pixels.shape, np.uint8)
    stretched: NDArray[np.uint8] = np.clip((values - low) * (255.0 / (high - low)), 0, 255).round().astype(np.uint8)
    return stretched


def read_image(path: Path, plane: Plane = Plane()) -> NDArray[np.uint8]:  # noqa: B008 (it is frozen)
    """The pixels of an image file: (H, W) uint8 for grey (also when stored as three equal channels), else (H, W, 3).

    Raises:
        DataError: missing, truncated, not an image, with pixels that are no numbers, or with several pages or channels
            of which `plane` names none.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tags that mean nothing here, and of sizes that are still allowed
            pixels = read_pixels(path, plane)
    except FileNotFoundError:
        raise DataError(f"image file is missing: {path}") from None
    except DataError:
        raise
    except PillowImage.DecompressionBombError as error:
        raise DataError(
            f"image file {path} is too large to be worked on whole ({str(error).split(',')[0]}): its header is "
            "damaged, or it has to be cut into tiles"
        ) from None
    except Exception as error:  # decoders raise what they stumble over
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(
            f"image file is damaged: {path} ({text}). Fetch it again, save it with 8 or 16 bits, or remove its record."
        ) from error
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * 255
    if pixels.dtype.kind not in "uif":
        raise DataError(f"image file {path} holds {pixels.dtype} values: expected whole numbers or floats")
    if pixels.ndim == 3:
        if pixels.shape[2] in (2, 4):  # alpha carries no cells
            pixels = pixels[..., :-1]
        if pixels.shape[2] == 1 or (pixels == pixels[..., :1]).all():
            pixels = pixels[..., 0]
    if pixels.ndim not in (2, 3) or pixels.size == 0:
        raise DataError(f"image file {path} has shape {pixels.shape}: expected one grey or RGB picture")
    if not np.isfinite(pixels).all():
        raise DataError(f"image file {path} holds pixels that are not finite numbers. Replace them by the background.")
    return np.ascontiguousarray(to_uint8(pixels))


def read_pixels(path: Path, plane: Plane) -> NDArray[Any]:
    """What a file holds of one picture, as it is stored: (H, W) or (H, W, channels), any dtype.

    Raises:
        DataError: see `read_image`.
        Exception: the file is missing or damaged; decoders raise what they stumble over.
    """
    if plane and is_tiff(path):
        return read_tiff_plane(path, plane)
    with PillowImage.open(path) as image:
        # A second page may be a thumbnail or a smaller copy: tifffile tells these from pictures.
        if is_tiff(path) and getattr(image, "n_frames", 1) > 1:
            return read_tiff_plane(path, plane)
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format != "MPO":  # a camera's, with a copy for its display
            raise DataError(
                f"image file {path} holds {frames} pictures: save the one that is meant as a file of its own"
            )
        if plane.page not in (None, 1):
            raise DataError(f"image file {path} has no page {plane.page}: it holds 1, counted from 1")
        deep = _deep_colour(image, path)
        image.load()
        as_it_is = image.mode in _AS_THEY_ARE or image.mode.startswith("I;16")
        pixels: NDArray[Any] = np.asarray(image if as_it_is else image.convert("RGB"))
    if deep:
        pixels = _read_deep_colour(path)
    if plane.channel is None:
        return pixels
    if pixels.ndim == 2 or plane.channel > pixels.shape[2]:
        held = 1 if pixels.ndim == 2 else pixels.shape[2]
        raise DataError(f"image file {path} has no channel {plane.channel}: it holds {held}, counted from 1")
    return pixels[..., plane.channel - 1]


def _deep_colour(image: PillowImage.Image, path: Path) -> bool:
    """Whether an opened, not yet loaded file has 16-bit colours: Pillow would cut them to their upper 8 bits.

    Raises:
        DataError: they are stored plane by plane, which neither Pillow nor OpenCV reads right.
    """
    tiles: Any = getattr(image, "tile", [])
    modes = [tile.args if isinstance(tile.args, str) else tile.args[0] for tile in tiles if tile.args]
    if any(";16" in str(mode) for mode in modes) and image.mode in ("RGB", "RGBA"):
        return True
    tags: Any = getattr(image, "tag_v2", {})
    if image.mode in ("RGB", "RGBA") and max(tags.get(258, (8,))) > 8:  # BitsPerSample
        raise DataError(f"image file {path} has 16-bit colours in separate planes: save them interleaved")
    return False


def _read_deep_colour(path: Path) -> NDArray[Any]:
    """(H, W, 3 or 4) uint16, RGB first."""
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # it warns of tags it does not know
    try:
        pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    finally:
        cv2.utils.logging.setLogLevel(level)
    if pixels is None or pixels.ndim != 3 or pixels.dtype != np.uint16:
        raise ValueError("16-bit colours that cannot be decoded")
    found: NDArray[Any] = pixels[..., [2, 1, 0, *range(3, pixels.shape[2])]]
    return found

"""Reading one image file as 8-bit pixels, or an error that names the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import UnidentifiedImageError

from policy_search.cells.errors import DataError

# The stretch that brings deeper images to 8 bits. A plain cast or a division by 256 would saturate or blacken
# cameras that use 12 of 16 bits.
LOW_PERCENTILE, HIGH_PERCENTILE = 0.1, 99.9


def to_uint8(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """8-bit pixels are returned as they are; deeper ones are stretched linearly from their 0.1 to 99.9 percentile."""
    if pixels.dtype == np.uint8:
        return pixels
    values = pixels.astype(np.float32)
    low, high = np.percentile(values, [LOW_PERCENTILE, HIGH_PERCENTILE])
    if high <= low:
        return np.zeros(pixels.shape, np.uint8)
    stretched: NDArray[np.uint8] = np.clip((values - low) * (255.0 / (high - low)), 0, 255).round().astype(np.uint8)
    return stretched


def read_image(path: Path) -> NDArray[np.uint8]:
    """The pixels of an image file: (H, W) uint8 for grey (also when stored as three equal channels), else (H, W, 3).

    Raises:
        DataError: missing, truncated or not an image.
    """
    try:
        with PillowImage.open(path) as image:
            image.load()
            pixels: NDArray[Any] = np.asarray(image.convert("RGB") if image.mode == "P" else image)
    except FileNotFoundError:
        raise DataError(f"image file is missing: {path}") from None
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, EOFError) as error:
        raise DataError(f"image file is damaged: {path} ({error}). Fetch it again or remove its record.") from error
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * 255
    if pixels.ndim == 3:
        if pixels.shape[2] in (2, 4):  # alpha carries no cells
            pixels = pixels[..., :-1]
        if pixels.shape[2] == 1 or (pixels == pixels[..., :1]).all():
            pixels = pixels[..., 0]
    if pixels.ndim not in (2, 3) or pixels.size == 0:
        raise DataError(f"image file {path} has shape {pixels.shape}: expected one grey or RGB picture")
    return np.ascontiguousarray(to_uint8(pixels))

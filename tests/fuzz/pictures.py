"""What must hold for every image file: 8-bit pixels or a sentence, and nothing on the terminal; and the corpus."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from PIL import Image

from policy_search.cells.errors import DataError
from policy_search.cells.images import read_image
from tests.fuzz.sentences import check_sentence

GREY = np.random.default_rng(0).integers(0, 256, (20, 24), np.uint8)
COLOUR = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=-1)


def pillow(kind: str, mode: str, **how: Any) -> bytes:
    """A picture of that mode, written by Pillow."""
    buffer = io.BytesIO()
    Image.fromarray(GREY if mode in ("L", "LA", "1") else COLOUR).convert(mode).save(buffer, kind, **how)
    return buffer.getvalue()


def tiff(pixels: np.ndarray, **how: Any) -> bytes:
    """Written by tifffile."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **how)
    return buffer.getvalue()


def opencv(suffix: str, pixels: np.ndarray) -> bytes:
    """Written by OpenCV, which knows 16-bit colours."""
    return bytes(cv2.imencode(suffix, pixels)[1])


WITH_NAN = np.where(GREY > 128, np.nan, GREY).astype(np.float32)
DEEP, DEEP_COLOUR = GREY.astype(np.uint16) * 200, COLOUR.astype(np.uint16) * 200
CORPUS: dict[str, bytes] = {
    "grey.png": pillow("PNG", "L"),
    "colour.png": pillow("PNG", "RGB"),
    "palette.png": pillow("PNG", "P"),
    "alpha.png": pillow("PNG", "RGBA"),
    "grey_alpha.png": pillow("PNG", "LA"),
    "bits.png": pillow("PNG", "1"),
    "deep.png": opencv(".png", DEEP),
    "deep_colour.png": opencv(".png", DEEP_COLOUR[..., ::-1]),
    "grey.jpg": pillow("JPEG", "L"),
    "colour.jpg": pillow("JPEG", "RGB"),
    "cmyk.jpg": pillow("JPEG", "CMYK"),
    "grey.bmp": pillow("BMP", "L"),
    "colour.bmp": pillow("BMP", "RGB"),
    "palette.bmp": pillow("BMP", "P"),
    "palette.gif": pillow("GIF", "P"),
    "grey.tif": tiff(GREY),
    "deep.tif": tiff(DEEP),
    "signed.tif": tiff(GREY.astype(np.int16) - 100),
    "float.tif": tiff(GREY.astype(np.float32)),
    "wide.tif": tiff((GREY.astype(np.float32) / 128 - 1) * np.float32(3e38)),
    "narrow.tif": tiff(GREY.astype(np.float32) * np.float32(1e-44)),
    "nan.tif": tiff(WITH_NAN),
    "double.tif": tiff(GREY.astype(np.float64) * 1e300),
    "zip.tif": tiff(GREY, compression="zlib"),
    "pages.tif": tiff(np.stack([GREY, GREY])),
    "deep_colour.tif": tiff(DEEP_COLOUR, photometric="rgb"),
    "planes.tif": tiff(DEEP_COLOUR.transpose(2, 0, 1), photometric="rgb", planarconfig="separate"),
    "cmyk.tif": pillow("TIFF", "CMYK"),
    "lab.tif": pillow("TIFF", "LAB"),
    "lzw.tif": pillow("TIFF", "RGB", compression="tiff_lzw"),
    "jpeg.tif": pillow("TIFF", "RGB", compression="jpeg"),
    "group4.tif": pillow("TIFF", "1", compression="group4"),
}


def check_picture(path: Path) -> np.ndarray | None:
    """The pixels, or None where the file is refused; a warning is a failure."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            pixels = read_image(path)
        except DataError as error:
            check_sentence(error, path.name)
            return None
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
    assert pixels.size > 0
    return pixels

"""Every kind of image file becomes 8-bit pixels with its contrast, or a sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage

from policy_search.cells.errors import DataError
from policy_search.cells.images import read_image

RAMP = np.linspace(0, 1, 60 * 80).reshape(60, 80)
TWELVE = (200 + 3000 * RAMP).astype(np.uint16)  # what a 12-bit camera leaves in a 16-bit file
EIGHT = (255 * RAMP).astype(np.uint8)
COLOUR = np.stack([TWELVE, TWELVE[::-1], TWELVE[:, ::-1]], axis=-1)


def tif(**how: object) -> Callable[[Path, np.ndarray], None]:
    return lambda path, pixels: tifffile.imwrite(path, pixels, **how)


def opencv(path: Path, pixels: np.ndarray) -> None:
    order = [2, 1, 0, *range(3, pixels.shape[2])] if pixels.ndim == 3 else slice(None)
    assert cv2.imwrite(str(path), pixels[..., order] if pixels.ndim == 3 else pixels)


def stretched(pixels: np.ndarray) -> np.ndarray:
    low, high = np.percentile(pixels.astype(float), [0.1, 99.9])
    return np.clip((pixels.astype(float) - low) / (high - low), 0, 1) * 255


@pytest.mark.parametrize(
    ("name", "write", "pixels"),
    [
        ("grey.tif", tif(), TWELVE),
        ("grey_be.tif", tif(byteorder=">"), TWELVE),
        ("grey.png", opencv, TWELVE),
        ("signed.tif", tif(), TWELVE.astype(np.int16) - 1000),
        ("uint32.tif", tif(), TWELVE.astype(np.uint32)),
        ("float.tif", tif(), (RAMP * 0.01).astype(np.float32)),
        ("colour.tif", tif(photometric="rgb"), COLOUR),
        ("colour_zip.tif", tif(photometric="rgb", compression="zlib"), COLOUR),
        ("colour.png", opencv, COLOUR),
    ],
)
def test_deep_images_keep_their_contrast(tmp_path, name, write, pixels):
    write(tmp_path / name, pixels)
    found = read_image(tmp_path / name)
    assert found.dtype == np.uint8
    assert found.shape == pixels.shape
    assert np.abs(found - stretched(pixels)).max() <= 0.51
    assert len(np.unique(found)) == 256
    assert (found == 255).mean() < 0.005
    assert (found == 0).mean() < 0.005


def test_alpha_is_left_out(tmp_path):
    opaque = np.full((*TWELVE.shape, 1), 65535, np.uint16)
    opencv(tmp_path / "deep.png", np.concatenate([COLOUR, opaque], axis=2))
    opencv(tmp_path / "deep_rgb.png", COLOUR)
    assert np.array_equal(read_image(tmp_path / "deep.png"), read_image(tmp_path / "deep_rgb.png"))
    colour = np.stack([EIGHT, EIGHT[::-1], EIGHT[:, ::-1]], axis=-1)
    PillowImage.fromarray(np.dstack([colour, np.full_like(EIGHT, 255)])).save(tmp_path / "rgba.png")
    assert np.array_equal(read_image(tmp_path / "rgba.png"), colour)
    PillowImage.fromarray(np.dstack([EIGHT, np.full_like(EIGHT, 128)])).save(tmp_path / "la.png")
    assert np.array_equal(read_image(tmp_path / "la.png"), EIGHT)


def test_black_and_white_is_0_and_255(tmp_path):
    for name in ("mask.png", "mask.tif"):
        PillowImage.fromarray(RAMP > 0.5).save(tmp_path / name)
        assert np.array_equal(read_image(tmp_path / name), np.where(RAMP > 0.5, 255, 0))


def test_what_cannot_be_read_right_is_refused(tmp_path):
    holes = RAMP.astype(np.float32)
    for value in (np.nan, np.inf):
        holes[3, 4] = value
        tifffile.imwrite(tmp_path / "holes.tif", holes)
        with pytest.raises(DataError, match="not finite numbers"):
            read_image(tmp_path / "holes.tif")
    planes = np.ascontiguousarray(COLOUR.transpose(2, 0, 1))
    tifffile.imwrite(tmp_path / "planes.tif", planes, photometric="rgb", planarconfig="separate")
    with pytest.raises(DataError, match="separate planes"):
        read_image(tmp_path / "planes.tif")
    tifffile.imwrite(tmp_path / "double.tif", RAMP)
    with pytest.raises(DataError, match=r"double\.tif"):
        read_image(tmp_path / "double.tif")

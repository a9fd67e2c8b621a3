"""Planes of files that hold several: the one that is named, or a sentence with the axes."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from PIL import Image

from policy_search.cells.errors import DataError
from policy_search.cells.images import read_image
from policy_search.cells.planes import Plane, read_tiff_plane

rng = np.random.default_rng(0)
STACK = rng.integers(0, 255, (3, 2, 2, 24, 32), np.uint8)  # t, z, c, y, x


def test_a_page_of_a_plain_stack(tmp_path):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, STACK[:, 0, 0], photometric="minisblack")
    for number in (1, 2, 3):
        assert np.array_equal(read_image(path, Plane(page=number)), STACK[number - 1, 0, 0])
    with pytest.raises(DataError, match=r"a page from 1 to 3 \(--page\)"):
        read_image(path)
    with pytest.raises(DataError, match="no page 4: it holds 3"):
        read_image(path, Plane(page=4))


@pytest.mark.parametrize("how", [{"ome": True}, {"imagej": True}])
def test_page_and_channel_of_a_microscopes_stack(tmp_path, how):
    path = tmp_path / ("stack.ome.tif" if "ome" in how else "stack.tif")
    tifffile.imwrite(path, STACK, metadata={"axes": "TZCYX"}, photometric="minisblack", **how)
    for page in range(1, 7):  # z is faster than t
        for channel in (1, 2):
            found = read_tiff_plane(path, Plane(page, channel))
            assert np.array_equal(found, STACK[(page - 1) // 2, (page - 1) % 2, channel - 1])
    with pytest.raises(DataError, match="3 times, 2 z positions, 2 channels"):
        read_image(path)
    with pytest.raises(DataError, match=r"a channel from 1 to 2 \(--channel\)"):
        read_image(path, Plane(page=1))
    with pytest.raises(DataError, match="no channel 3"):
        read_image(path, Plane(1, 3))


def test_a_colour_of_a_picture(tmp_path):
    colour = rng.integers(0, 255, (24, 32, 3), np.uint8)
    for name in ("a.png", "a.tif"):
        Image.fromarray(colour).save(tmp_path / name)
        assert np.array_equal(read_image(tmp_path / name), colour)
        assert np.array_equal(read_image(tmp_path / name, Plane(channel=2)), colour[..., 1])
        with pytest.raises(DataError, match=r"no (channel|colour) 4"):
            read_image(tmp_path / name, Plane(channel=4))


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits"])
def test_compressed_pages(tmp_path, compression):
    pages = [Image.fromarray(plane) for plane in STACK[:, 0, 0]]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:], compression=compression)
    for number in (1, 2, 3):
        assert np.array_equal(read_image(tmp_path / "a.tif", Plane(page=number)), STACK[number - 1, 0, 0])


def test_a_named_page_of_a_file_that_pillow_does_not_know(tmp_path):
    path = tmp_path / "half.tif"
    pages = np.linspace(0, 1, 2 * 24 * 32, dtype=np.float16).reshape(2, 24, 32)
    tifffile.imwrite(path, pages, photometric="minisblack")
    found = read_image(path, Plane(page=2))
    assert (found[0, 0], found[-1, -1]) == (0, 255)
    assert np.all(np.diff(found.ravel().astype(int)) >= 0)

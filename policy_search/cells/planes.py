"""One plane of an image file that holds several: pages of a TIFF, z or t positions and channels of a microscope's."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image as PillowImage

from policy_search.cells.errors import DataError

TIFF_SUFFIXES = {".tif", ".tiff"}
_NAMES = {"C": "channels", "Z": "z positions", "T": "times", "S": "colours"}


@dataclass(frozen=True)
class Plane:
    """Which plane of a file is meant; both are counted from 1 and None where the file leaves no choice.

    Attributes:
        page: over all axes but channels, rows, columns and colours, in the file's order (z before t where t is slower).
        channel: of the channel axis; of a file without one, a colour.
    """

    page: int | None = None
    channel: int | None = None

    def __bool__(self) -> bool:
        return self.page is not None or self.channel is not None

    def suffix(self) -> str:
        """For names of what is made of this plane, such as `_page3_channel2`; empty when there is no choice."""
        numbers = {"page": self.page, "channel": self.channel}
        return "".join(f"_{axis}{number}" for axis, number in numbers.items() if number is not None)

    def key(self) -> str:
        """Text that tells planes of one file apart, empty when there is no choice."""
        return f"|page {self.page} channel {self.channel}" if self else ""


def is_tiff(path: Path) -> bool:
    """Whether the name says TIFF: other formats hold one picture."""
    return path.suffix.lower() in TIFF_SUFFIXES


def read_tiff_plane(path: Path, plane: Plane) -> NDArray[Any]:
    """One plane of a TIFF, OME-TIFF or ImageJ stack as it is stored: (H, W) or (H, W, colours), any dtype.

    Raises:
        DataError: the file leaves a choice that `plane` does not make, or lacks what it asks for; the message gives the
            file's axes and their sizes.
        ValueError, OSError: the file is damaged (from tifffile).
    """
    with tifffile.TiffFile(path) as file:
        if not file.series:
            raise DataError(f"image file {path} holds no picture")
        series = file.series[0]
        axes, shape = series.axes, tuple(int(n) for n in series.shape)
        flat, lacking = _index(path, axes, shape, plane)
        outer = [axis for axis in axes if axis not in "YXS"]
        pages = prod(n for axis, n in zip(axes, shape, strict=True) if axis in outer)
        if len(series.pages) == pages and "S" not in axes[: axes.find("Y")]:
            page = series.pages[flat]
            pixels = _decoded(path, page)
            order = axes[-pixels.ndim :]
        else:  # ImageJ keeps one page and the others' pixels behind it
            whole = np.moveaxis(series.asarray(), [axes.index(axis) for axis in outer], range(len(outer)))
            pixels = whole.reshape(-1, *whole.shape[len(outer) :])[flat]
            order = "".join(axis for axis in axes if axis not in outer)
    if pixels.ndim != len(order) or pixels.ndim not in (2, 3):
        raise DataError(f"image file {path} has axes {_sizes(axes, shape)}: expected planes of rows and columns")
    if order.startswith("S"):  # stored colour by colour
        pixels, order = np.moveaxis(pixels, 0, -1), order[1:] + "S"
    if not lacking:
        return pixels
    if "S" not in order:
        raise DataError(f"image file {path} has no channels to choose from; leave out channel {plane.channel}")
    assert plane.channel is not None
    _within(path, "colour", plane.channel, pixels.shape[-1])
    return pixels[..., plane.channel - 1]


def _decoded(path: Path, page: Any) -> NDArray[Any]:
    """The pixels of one page. Pillow reads LZW and JPEG pages, for which tifffile wants a further package."""
    if page.compression in (1, 8, 32773, 32946):  # none, zlib, PackBits: tifffile's own
        return np.asarray(page.asarray())
    with PillowImage.open(path) as image:
        image.seek(page.index)
        pixels = np.asarray(image)
    unsigned = pixels.dtype == np.int32 and page.dtype == np.uint32
    return pixels.view(np.uint32) if unsigned else pixels


def _index(path: Path, axes: str, shape: tuple[int, ...], plane: Plane) -> tuple[int, bool]:
    """Position of the plane among the file's planes in their order, and whether the channel is still to be taken."""
    outer = [(axis, n) for axis, n in zip(axes, shape, strict=True) if axis not in "YXS"]
    pages = prod(n for axis, n in outer if axis != "C")
    channels = prod(n for axis, n in outer if axis == "C")
    if (plane.page is None and pages > 1) or (plane.channel is None and channels > 1):
        choices = [f"a page from 1 to {pages} (--page)"] if plane.page is None and pages > 1 else []
        choices += [f"a channel from 1 to {channels} (--channel)"] if plane.channel is None and channels > 1 else []
        raise DataError(
            f"image file {path} holds more than one picture ({_sizes(axes, shape)}): name {' and '.join(choices)}, for "
            "a dataset by `policy-search data import`"
        )
    _within(path, "page", plane.page or 1, pages)
    has_channels = any(axis == "C" for axis, _ in outer)
    if has_channels:
        _within(path, "channel", plane.channel or 1, channels)
    page, channel = (plane.page or 1) - 1, (plane.channel or 1) - 1
    pages_shape = tuple(n for axis, n in outer if axis != "C")
    places = iter(np.unravel_index(page, pages_shape) if pages_shape else ())
    found = tuple(channel if axis == "C" else int(next(places)) for axis, _ in outer)
    flat = int(np.ravel_multi_index(found, tuple(n for _, n in outer))) if outer else 0
    return flat, plane.channel is not None and not has_channels


def _within(path: Path, what: str, number: int, count: int) -> None:
    if not 1 <= number <= count:
        raise DataError(f"image file {path} has no {what} {number}: it holds {count}, counted from 1")


def _sizes(axes: str, shape: tuple[int, ...]) -> str:
    """Axes in words, such as `3 channels, 12 z positions`."""
    named = [(axis, n) for axis, n in zip(axes, shape, strict=True) if axis not in "YX" and n > 1]
    return ", ".join(f"{n} {_NAMES.get(axis, 'pages')}" for axis, n in named) or "one page"

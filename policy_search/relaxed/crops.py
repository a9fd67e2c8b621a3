"""Random crops of images and masks for the search, with a margin so that no warp shows a border."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from policy_search.cells.errors import DataError

Pair = tuple[NDArray[np.uint8], NDArray[np.bool_]]


class PairSampler(Protocol):
    """Gives image and mask crops, and says what their pixels are like."""

    @property
    def channels(self) -> int:
        """Channels of every image, 1 or 3."""
        ...

    def sample(self, count: int, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """`count` random crops: images (B, C, size, size) float in [0, 1] on the 8-bit grid, masks (B, 1, size, size)
        float, 0 or 1. All randomness from `generator`."""
        ...

    def statistics(self) -> PixelStatistics:
        """Of all the data this samples from."""
        ...


class PixelStatistics:
    """Grey levels of a data set.

    Attributes:
        mean, deviation: in [0, 1]; the deviation is that within images, so that images of different brightness do not
            hide how faint each one's texture is.
        median: 0 to 255, the colour of empty background.
    """

    def __init__(self, mean: float, deviation: float, median: int) -> None:
        self.mean, self.deviation, self.median = mean, deviation, median


class CropSampler:
    """Uniform random crops of a list of images; one drawn as often as another.

    Args:
        pairs: images (H, W) or (H, W, 3) uint8 with masks (H, W) bool, all with the same number of channels.

    Raises:
        DataError: nothing given, or images and masks that do not fit.
    """

    def __init__(self, pairs: Sequence[Pair]) -> None:
        if not pairs:
            raise DataError("a search needs at least one image, found none. Check --data and its split.")
        self._images, self._masks = [], []
        for number, (image, mask) in enumerate(pairs):
            if (
                image.dtype != np.uint8
                or image.ndim not in (2, 3)
                or (image.ndim == 3 and image.shape[2] not in (1, 3))
            ):
                raise DataError(
                    f"image {number}: expected uint8 (H, W) or (H, W, 3), found {image.dtype} {image.shape}. "
                    "Convert it to 8 bits first."
                )
            if mask.shape != image.shape[:2]:
                raise DataError(f"image {number}: mask is {mask.shape}, expected {image.shape[:2]} like its image")
            pixels = image[..., None] if image.ndim == 2 else image
            self._images.append(torch.from_numpy(pixels.transpose(2, 0, 1).copy()))
            self._masks.append(torch.from_numpy(np.ascontiguousarray(mask[None] > 0)))
        counts = {len(image) for image in self._images}
        if len(counts) > 1:
            raise DataError(f"all images must have the same number of channels, found {sorted(counts)}")

    @property
    def channels(self) -> int:
        """1 or 3."""
        return len(self._images[0])

    def statistics(self) -> PixelStatistics:
        """Exact, over every pixel."""
        histograms = [torch.bincount(image.flatten().int(), minlength=256).double() for image in self._images]
        levels = torch.arange(256, dtype=torch.float64)
        variances = []
        for histogram in histograms:
            share = histogram / histogram.sum()
            mean = (share * levels).sum()
            variances.append((share * (levels - mean) ** 2).sum())
        pooled = torch.stack(histograms).sum(0)
        pooled = pooled / pooled.sum()
        median = int((pooled.cumsum(0) < 0.5).sum())
        deviation = float(torch.stack(variances).mean().sqrt()) / 255
        if deviation == 0:
            raise DataError("every image is of one grey level: there is nothing to learn from. Check the image files.")
        return PixelStatistics(float((pooled * levels).sum()) / 255, deviation, median)

    def sample(self, count: int, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """See PairSampler. Images smaller than `size` are put in the middle of a field of the median grey."""
        which = torch.randint(len(self._images), (count,), generator=generator)
        place = torch.rand(count, 2, generator=generator)
        images, masks = [], []
        for index, (down, right) in zip(which.tolist(), place.tolist(), strict=True):
            image, mask = self._images[index], self._masks[index]
            spare_y, spare_x = (max(side - size, 0) for side in image.shape[1:])
            y, x = int(down * (spare_y + 1)), int(right * (spare_x + 1))
            images.append(self._fit(image[:, y : y + size, x : x + size], size, self._fill))
            masks.append(self._fit(mask[:, y : y + size, x : x + size], size, 0))
        return torch.stack(images).float() / 255, torch.stack(masks).float()

    @property
    def _fill(self) -> int:
        if not hasattr(self, "_median"):
            self._median = self.statistics().median
        return self._median

    @staticmethod
    def _fit(crop: Tensor, size: int, fill: int) -> Tensor:
        missing_y, missing_x = size - crop.shape[1], size - crop.shape[2]
        if not missing_y and not missing_x:
            return crop
        top, left = missing_y // 2, missing_x // 2
        return functional.pad(crop, (left, missing_x - left, top, missing_y - top), value=fill)

"""Random crops of images and masks for the search, taken on the search's device by index arithmetic alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from policy_search.cells.errors import DataError
from policy_search.relaxed.instance_channels import instance_planes

Pair = tuple[NDArray[np.uint8], NDArray[np.bool_]]


class PairSampler(Protocol):
    """Gives image and mask crops, and says what their pixels are like."""

    @property
    def channels(self) -> int:
        """Channels of every image, 1 or 3."""
        ...

    @property
    def masks(self) -> int:
        """Planes M of every mask; 0 where images come without, and `sample` gives one empty plane."""
        ...

    def sample(self, count: int, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """`count` random crops: images (B, C, size, size) float in [0, 1] on the 8-bit grid, masks (B, M, size, size)
        float, 0 or 1. All randomness from `generator`, all tensors on its device."""
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
        pairs: images (H, W) or (H, W, 3) uint8, all with the same number of channels, each with its mask (H, W): bool,
            or whole numbers, the instance ids with 0 for background. None for a mask is an image without one.
        instance_channels: masks of several planes, see instance_channels.py, from ids; otherwise the foreground alone.

    Raises:
        DataError: nothing given, images and masks that do not fit, or masks for some images only.
    """

    def __init__(
        self,
        pairs: Sequence[tuple[NDArray[np.uint8], NDArray[np.bool_ | np.integer] | None]],
        *,
        instance_channels: bool = False,
    ) -> None:
        if not pairs:
            raise DataError("a search needs at least one image, found none. Check --data and its split.")
        images: list[NDArray[np.uint8]] = []
        planes: list[NDArray[np.bool_]] = []
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
            images.append((image[..., None] if image.ndim == 2 else image).transpose(2, 0, 1))
            if mask is not None:
                planes.append(_planes(number, image, mask, instance_channels))
        if planes and len(planes) < len(pairs):
            raise DataError(f"{len(planes)} of {len(pairs)} images come with masks: give all of them one, or none")
        counts = {len(image) for image in images}
        if len(counts) > 1:
            raise DataError(f"all images must have the same number of channels, found {sorted(counts)}")
        self._channels, self._masks = counts.pop(), len(planes[0]) if planes else 0
        self._sides = np.array([image.shape[1:] for image in images])
        self._stack = np.zeros((len(images), self._channels + self._masks, *self._sides.max(0)), np.uint8)
        for i, image in enumerate(images):
            self._window(i)[: self._channels] = image
            if planes:
                self._window(i)[self._channels :] = planes[i]
        self._placed: dict[tuple[int, torch.device], tuple[Tensor, Tensor]] = {}

    def _window(self, index: int) -> NDArray[np.uint8]:
        """Image and mask planes (C + M, H, W) of one image, a view."""
        height, width = self._sides[index]
        return self._stack[index, :, :height, :width]

    @property
    def channels(self) -> int:
        """1 or 3."""
        return self._channels

    @property
    def masks(self) -> int:
        """Planes of every mask, 0 without."""
        return self._masks

    def statistics(self) -> PixelStatistics:
        """Exact, over every pixel."""
        histograms = [
            torch.from_numpy(np.bincount(self._window(i)[: self._channels].ravel(), minlength=256)).double()
            for i in range(len(self._sides))
        ]
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
        device = generator.device
        stack, fields = self._on(device, size)
        which = torch.randint(len(stack), (count,), generator=generator, device=device)
        place = torch.rand(count, 2, generator=generator, device=device)
        # In double precision: the last place of a large image is drawn too, and none beyond it.
        y, x = (place.double() * (fields[which] - (size - 1))).long().unbind(1)
        # Every window of the stack as a view; indexing copies those that are drawn.
        crops = stack.unfold(2, size, 1).unfold(3, size, 1)[which, :, y, x].float()
        image, mask = crops[:, : self._channels] / 255, crops[:, self._channels :]
        return image, mask if self._masks else torch.zeros_like(image[:, :1])

    def _on(self, device: torch.device, size: int) -> tuple[Tensor, Tensor]:
        """The stack on a device, and the sides (N, 2) of each image's field in it; moved there once.

        An image's field is the image, or as much of the median grey around it as makes it `size` large. It begins in
        the corner of the stack.
        """
        least = size if size > self._sides.min() else 0
        if (least, device) not in self._placed:
            stack, fields = self._framed(least) if least else (self._stack, self._sides)
            self._placed[least, device] = (torch.from_numpy(stack).to(device), torch.from_numpy(fields).to(device))
        return self._placed[least, device]

    def _framed(self, least: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Stack and fields where some images are smaller than `least`."""
        fields = np.maximum(self._sides, least)
        stack = np.zeros((*self._stack.shape[:2], *fields.max(0)), np.uint8)
        stack[:, : self._channels] = self.statistics().median
        for i, (top, left) in enumerate((fields - self._sides) // 2):
            window = self._window(i)
            stack[i, :, top : top + window.shape[1], left : left + window.shape[2]] = window
        return stack, fields


def _planes(
    number: int, image: NDArray[np.uint8], mask: NDArray[np.bool_ | np.integer], instance_channels: bool
) -> NDArray[np.bool_]:
    """(M, H, W) of the mask given with an image."""
    if mask.shape != image.shape[:2]:
        raise DataError(f"image {number}: mask is {mask.shape}, expected {image.shape[:2]} like its image")
    if not instance_channels:
        return mask[None] > 0
    if not np.issubdtype(mask.dtype, np.integer):
        raise DataError(f"image {number}: instance channels need instance ids (H, W), found {mask.dtype}")
    return instance_planes(mask)

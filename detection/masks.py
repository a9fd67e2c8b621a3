"""Instance masks between layered label maps and a network's regions, never as an (N, H, W) block of full frames."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from policy_search.cells.instances import MAX_ID, Instance, InstanceMap

# Pixels of windows that are cut out of the label map at a time: 4 MB as float32.
PORTION = 1 << 20


class LayeredMasks:
    """The masks of one image's training targets; stands where detectron2 expects its `BitMasks`.

    Indexing copies two numbers an instance instead of a frame: detectron2 indexes the masks of all sampled regions, but
    needs the pixels of the few that hold a cell.

    Attributes:
        layers: (L, H, W) int16 label layers, shared by all selections. The bits are those of uint16, which torch can
            hardly compute with; labels are only ever compared for equality.
        layer: (N,) int64, in which layer each instance stands.
        ids: (N,) int16, under which label.
    """

    def __init__(self, layers: torch.Tensor, layer: torch.Tensor, ids: torch.Tensor) -> None:
        self.layers, self.layer, self.ids = layers, layer, ids

    @classmethod
    def of(cls, instances: InstanceMap) -> LayeredMasks:
        """All instances of a map, in the order of its ids."""
        layer = np.zeros(len(instances), np.int64)
        for index, plane in enumerate(instances.layers):
            present = np.zeros(MAX_ID + 1, bool)
            present[plane] = True
            layer[present[instances.ids]] = index
        return cls(
            torch.from_numpy(instances.layers.view(np.int16).copy()),  # caches hand out arrays that others hold
            torch.from_numpy(layer),
            torch.from_numpy(instances.ids.astype(np.uint16).view(np.int16)),
        )

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, item: int | slice | torch.Tensor) -> LayeredMasks:
        if isinstance(item, int):
            item = slice(item, item + 1) if item != -1 else slice(-1, None)
        return LayeredMasks(self.layers, self.layer[item], self.ids[item])

    def to(self, device: torch.device | str) -> LayeredMasks:
        """The same masks on another device."""
        return LayeredMasks(self.layers.to(device), self.layer.to(device), self.ids.to(device))

    def bitmaps(self) -> torch.Tensor:
        """(N, H, W) bool. For a handful of instances."""
        return self.layers[self.layer] == self.ids[:, None, None]

    @torch.no_grad()
    def crop_and_resize(self, boxes: torch.Tensor, mask_size: int) -> torch.Tensor:
        """(N, mask_size, mask_size) bool: instance i inside box i (N, 4 XYXY), as detectron2's `BitMasks`.

        That is region pooling (He et al., Mask R-CNN, section 3; aligned, as many samples as a bin has pixels) of the
        full mask, cut at 0.5. Each value is an average of bilinear samples on a regular grid, so rows and columns
        separate: two small matrices times the pixels under the box. Values that are 0.5 but for float32 rounding may
        fall on the other side than there.
        """
        masks = torch.zeros((len(self), mask_size, mask_size), dtype=torch.bool, device=boxes.device)
        height, width = self.layers.shape[1:]
        # Half precision would move the edges of cells: averages are taken in float32 whatever surrounds this.
        with torch.autocast(boxes.device.type, enabled=False):
            rows, columns = _Axis(boxes[:, 1::2], height, mask_size), _Axis(boxes[:, 0::2], width, mask_size)
            for part, high, wide in _portions(rows.extent.cpu().tolist(), columns.extent.cpu().tolist()):
                chosen = torch.tensor(part, device=boxes.device)
                ys, down = rows.weights(chosen, high)
                xs, across = columns.weights(chosen, wide)
                window = self.layers[self.layer[chosen, None, None], ys[:, :, None], xs[:, None, :]]
                inside = (window == self.ids[chosen, None, None]).float()
                total = torch.bmm(torch.bmm(down, inside), across.transpose(1, 2))
                samples = (rows.samples * columns.samples)[chosen].clamp(min=1)
                masks[chosen] = total / samples[:, None, None] >= 0.5
        return masks


class _Axis:
    """How the pixels of one image axis count for the bins of each box.

    Attributes:
        first, extent: (N,) int64: the pixels that can count are first … first + extent - 1.
        samples: (N,) float32, a bin: its width in pixels, rounded up; 0 for a box without width.
    """

    def __init__(self, ends: torch.Tensor, size: int, bins: int) -> None:
        low, high = ends.float().unbind(1)
        self.size, self.bins = size, bins
        self.start = low - 0.5  # from pixel edges to the centres that samples are taken between
        self.step = (high - low) / bins
        self.samples = ((high - low) / bins).ceil().clamp(min=0)
        self.first = self.start.floor().long().clamp(0, size - 1)
        self.extent = ((high - 0.5).floor().long() + 1).clamp(0, size - 1) - self.first + 1
        self.extent = self.extent.clamp(min=1)

    def weights(self, chosen: torch.Tensor, extent: int) -> tuple[torch.Tensor, torch.Tensor]:
        """For the chosen boxes (n,): pixels (n, extent) int64, and how often each counts in each bin (n, bins, extent).

        A sample counts for its two neighbours by its distance (bilinear); one less than a pixel outside the frame
        counts for the border pixel, one farther out for none.
        """
        start, step, samples = (values[chosen, None] for values in (self.start, self.step, self.samples))
        pixels = self.first[chosen, None] + torch.arange(extent, device=start.device)
        numbers = torch.arange(self.bins, device=start.device, dtype=torch.float32)
        total = torch.zeros((len(chosen), self.bins, extent), device=start.device)
        for k in range(int(samples.max())):
            place = start + numbers * step + (k + 0.5) * step / samples
            counts = (k < samples) & (place >= -1) & (place <= self.size)
            nearby = 1 - (place.clamp(0, self.size - 1)[:, :, None] - pixels[:, None, :]).abs()
            total += torch.where(counts[:, :, None], nearby.clamp(min=0), 0)
        return pixels.clamp(max=self.size - 1), total


def _portions(heights: list[int], widths: list[int]) -> Iterator[tuple[list[int], int, int]]:
    """Boxes of similar windows together: their numbers and the window that holds each, `PORTION` pixels at most."""
    part: list[int] = []
    high = wide = 0
    for number in sorted(range(len(heights)), key=lambda i: (heights[i] * widths[i], i)):
        taller, wider = max(high, heights[number]), max(wide, widths[number])
        if part and (len(part) + 1) * taller * wider > PORTION:
            yield part, high, wide
            part, taller, wider = [], heights[number], widths[number]
        part.append(number)
        high, wide = taller, wider
    if part:
        yield part, high, wide


def paste(
    mask: NDArray[np.float32], box: tuple[float, float, float, float], height: int, width: int, label: int
) -> Instance | None:
    """A region's mask (M, M), probabilities, laid into the frame: bilinear, cut at 0.5; None if no pixel is left.

    Equal to detectron2's `paste_masks_in_image`, but bilinear interpolation is separable, so the pixels of the box
    alone come from two small matrix products.
    """
    x0, y0, x1, y1 = box
    left, right = max(int(np.floor(x0)) - 1, 0), min(int(np.ceil(x1)) + 1, width)
    top, bottom = max(int(np.floor(y0)) - 1, 0), min(int(np.ceil(y1)) + 1, height)
    if right <= left or bottom <= top or x1 <= x0 or y1 <= y0:
        return None
    rows = _interpolation(top, bottom, y0, y1, mask.shape[0])
    columns = _interpolation(left, right, x0, x1, mask.shape[1])
    inside = rows @ mask @ columns.T >= 0.5
    ys, xs = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if len(ys) == 0:
        return None
    tight = inside[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]
    return Instance(label, left + int(xs[0]), top + int(ys[0]), tight)


def _interpolation(first: int, last: int, low: float, high: float, size: int) -> NDArray[np.float32]:
    """(last - first, size): how much each mask cell counts at the centre of each pixel; nothing beyond its border."""
    centres = (np.arange(first, last, dtype=np.float32) + 0.5 - low) / (high - low) * size - 0.5
    return np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(size, dtype=np.float32))).astype(np.float32)

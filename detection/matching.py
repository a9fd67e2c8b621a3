"""Which ground-truth box each anchor belongs to, in portions that fit the processor's cache.

detectron2 builds the whole matrix of overlaps first: 300 cells and 180,000 anchors are 54 million numbers, and each of
the steps that make it writes a matrix of that size. The result here is the same, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

# Overlaps computed at a time. On a processor a portion should stay in its cache; a GPU wants few, large ones.
PORTION_CPU = 1 << 18
PORTION_CUDA = 1 << 26


def match_boxes(
    truth: torch.Tensor,
    boxes: torch.Tensor,
    thresholds: Sequence[float],
    labels: Sequence[int],
    *,
    low_quality: bool,
    portion: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Best ground-truth box of each box, as detectron2's `Matcher` on `pairwise_iou`.

    Args:
        truth: (M, 4) float32 XYXY.
        boxes: (N, 4) float32 XYXY.
        thresholds: T ascending IoUs that split [0, 1].
        labels: T + 1 labels out of -1 (ignored), 0 (background), 1 (foreground), one for each range.
        low_quality: the boxes that overlap a ground-truth box most are foreground, however little that is (Faster
            R-CNN, 3.1.2, case i).
        portion: overlaps computed at a time.

    Returns:
        (N,) int64 index into `truth` (the first of equals; 0 where M is 0), and (N,) int8 label.
    """
    if len(truth) == 0:
        return boxes.new_zeros(len(boxes), dtype=torch.int64), boxes.new_full(
            (len(boxes),), labels[0], dtype=torch.int8
        )
    portion = portion or (PORTION_CUDA if boxes.is_cuda else PORTION_CPU)
    parts = boxes.split(max(portion // len(truth), 1))
    values, matches, tops = [], [], []
    for part in parts:
        overlap = _overlaps(truth, part)
        best = overlap.max(dim=0)
        values.append(best.values)
        matches.append(best.indices)
        if low_quality:
            tops.append(overlap.amax(dim=1))
    best_values = torch.cat(values)
    result = torch.full_like(best_values, 1, dtype=torch.int8)
    for label, low, high in zip(labels, [-torch.inf, *thresholds], [*thresholds, torch.inf], strict=True):
        result[(best_values >= low) & (best_values < high)] = label
    if low_quality:
        _mark_best(result.split(len(parts[0])), truth, parts, torch.stack(tops))
    return torch.cat(matches), result


def _mark_best(
    results: Sequence[torch.Tensor], truth: torch.Tensor, parts: Sequence[torch.Tensor], tops: torch.Tensor
) -> None:
    """Label 1, in place, for the boxes that overlap some ground-truth box most, ties included.

    `tops` (portions, M) are the largest overlaps in each portion: only those portions are computed again that hold a
    largest one.
    """
    highest = tops.amax(dim=0)
    holds = tops == highest
    for index in torch.nonzero(holds.any(dim=1)).flatten().tolist():
        rows = torch.nonzero(holds[index]).flatten()
        equal = _overlaps(truth[rows], parts[index]) == highest[rows, None]
        results[index][equal.any(dim=0)] = 1


def _overlaps(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """(M, N) IoU of (M, 4) and (N, 4), with the operations of detectron2's `pairwise_iou` in their order."""
    x0, y0, x1, y1 = (column[:, None] for column in a.unbind(1))
    left, top, right, bottom = b.unbind(1)
    width = torch.minimum(x1, right).sub_(torch.maximum(x0, left)).clamp_(min=0)
    height = torch.minimum(y1, bottom).sub_(torch.maximum(y0, top)).clamp_(min=0)
    shared = width.mul_(height)
    union = ((x1 - x0) * (y1 - y0) + (right - left) * (bottom - top)).sub_(shared)
    # Two empty boxes share 0 of 0: detectron2 calls that 0.
    return torch.where(shared > 0, shared / union, shared.new_zeros(()))

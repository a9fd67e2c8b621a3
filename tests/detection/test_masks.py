"""Training targets and pasted masks, against detectron2's own and against brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("detectron2", reason="detectron2 is not installed: make setup")

from detectron2.layers.mask_ops import paste_masks_in_image
from detectron2.structures import BitMasks

from detection.dataset import Crops, TrainingSet
from detection.mapper import batches, to_channels, training_input
from detection.masks import LayeredMasks, paste
from policy_search.cells import InstanceMap
from tests.detection.culture import culture, ellipses


def blocks(instances: InstanceMap) -> np.ndarray:
    """(N, H, W) bool by brute force."""
    found = []
    for label in instances.ids:
        found.append((instances.layers == label).any(axis=0))
    return np.stack(found) if found else np.zeros((0, *instances.shape), bool)


@pytest.fixture
def crowded() -> InstanceMap:
    instances = ellipses(70, 110, 40, np.random.default_rng(0))
    assert len(instances.layers) > 1  # cells overlap
    return instances


def test_boxes_are_the_boxes_of_the_masks_and_no_cell_is_lost(crowded):
    sample = training_input(np.zeros(crowded.shape, np.uint8), crowded, 1)
    targets = sample["instances"]
    full = blocks(crowded)
    assert len(targets) == len(full) == 40
    for box, bitmap, mask in zip(targets.gt_boxes.tensor.tolist(), targets.gt_masks.bitmaps(), full, strict=True):
        assert np.array_equal(bitmap.numpy(), mask)
        ys, xs = np.nonzero(mask)
        assert box == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
    assert targets.gt_classes.tolist() == [0] * 40
    assert targets.image_size == (70, 110)


def test_mask_targets_equal_detectron2s_bitmasks(crowded):
    ours, theirs = LayeredMasks.of(crowded), BitMasks(torch.from_numpy(blocks(crowded)))
    rng = np.random.default_rng(1)
    boxes = torch.from_numpy(crowded.boxes()) + torch.from_numpy(rng.uniform(-3, 3, (40, 4)).astype(np.float32))
    assert torch.equal(ours.crop_and_resize(boxes, 28), theirs.crop_and_resize(boxes, 28))
    chosen = torch.tensor([39, 3, 3, 17])
    assert torch.equal(
        ours[chosen].crop_and_resize(boxes[chosen], 14), theirs[chosen].crop_and_resize(boxes[chosen], 14)
    )
    keep = torch.arange(40) % 3 == 0
    assert torch.equal(ours[keep].bitmaps(), theirs[keep].tensor)
    assert torch.equal(ours[-1].bitmaps(), theirs.tensor[-1:])
    assert ours[keep[:0].long()].crop_and_resize(boxes[:0], 28).shape == (0, 28, 28)


def test_no_cell_is_a_target_too():
    targets = training_input(np.zeros((32, 48), np.uint8), InstanceMap.empty(32, 48), 1)["instances"]
    assert len(targets) == 0
    assert targets.gt_boxes.tensor.shape == (0, 4)
    assert targets.gt_masks.crop_and_resize(targets.gt_boxes.tensor, 28).shape == (0, 28, 28)


def test_pasting_equals_detectron2():
    rng = np.random.default_rng(2)
    height, width = 60, 90
    corners = rng.uniform(-10, 70, (50, 2))
    sides = rng.uniform(2, 40, (50, 2))
    boxes = (
        np.concatenate([corners, corners + sides], axis=1).clip(0, [width, height, width, height]).astype(np.float32)
    )
    boxes = boxes[((boxes[:, 2:] - boxes[:, :2]) > 1).all(axis=1)]
    masks = torch.nn.functional.interpolate(torch.from_numpy(rng.random((len(boxes), 1, 5, 5), np.float32)), 28, mode="bilinear")[:, 0]  # fmt: skip  # noqa: E501
    expected = paste_masks_in_image(masks, torch.from_numpy(boxes), (height, width)).numpy()
    different = 0
    for mask, box, want in zip(masks.numpy(), boxes.astype(float).tolist(), expected, strict=True):
        cell = paste(mask, tuple(box), height, width, 1)
        got = np.zeros((height, width), bool)
        if cell is not None:
            x0, y0, x1, y1 = cell.box
            got[y0:y1, x0:x1] = cell.mask
            assert cell.mask.any(axis=1)[[0, -1]].all()
            assert cell.mask.any(axis=0)[[0, -1]].all()
        different += int((got != want).sum())
    assert len(boxes) > 25
    assert different <= 2  # rounding at exactly one half


def test_an_empty_or_outside_mask_is_no_cell():
    assert paste(np.zeros((28, 28), np.float32), (5, 5, 20, 20), 40, 40, 1) is None
    assert paste(np.ones((28, 28), np.float32), (50, 5, 60, 20), 40, 40, 1) is None
    assert paste(np.ones((28, 28), np.float32), (5, 5, 5, 20), 40, 40, 1) is None
    whole = paste(np.ones((28, 28), np.float32), (5, 6, 20, 30), 40, 40, 7)
    assert whole is not None
    assert (whole.id, whole.box, whole.area) == (7, (5, 6, 20, 30), 15 * 24)


def test_channels():
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    colour = np.zeros((3, 4, 3), np.uint8)
    colour[..., 0] = 100
    assert torch.equal(to_channels(grey, 1)[0], torch.from_numpy(grey))
    assert torch.equal(to_channels(grey, 3)[2], torch.from_numpy(grey))
    assert to_channels(colour, 3)[:, 0, 0].tolist() == [100, 0, 0]
    assert to_channels(colour, 1).unique().tolist() == [30]  # 0.299 × 100


def test_workers_change_no_batch():
    crops = Crops(TrainingSet(culture(images=2), None, 0, factor=1), 64, 0, 6)
    for alone, helped in zip(batches(crops, 1, 2), batches(crops, 1, 2, workers=2), strict=True):
        for a, b in zip(alone, helped, strict=True):
            assert torch.equal(a["image"], b["image"])
            assert torch.equal(a["instances"].gt_boxes.tensor, b["instances"].gt_boxes.tensor)
            assert torch.equal(a["instances"].gt_masks.bitmaps(), b["instances"].gt_masks.bitmaps())

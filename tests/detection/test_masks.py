"""Training targets and pasted masks, against detectron2's own and against brute force."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pycocotools.mask
import pytest
import torch

pytest.importorskip("detectron2", reason="detectron2 is not installed: make setup")

from detectron2.layers.mask_ops import paste_masks_in_image
from detectron2.structures import BitMasks, PolygonMasks
from torchvision.ops import roi_align

import detection.masks
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


def random_boxes(instances: InstanceMap, rng: np.random.Generator) -> torch.Tensor:
    """One box an instance: near it, or anywhere, also outside; some on whole pixels, some without width or inverted."""
    count = len(instances)
    low = rng.uniform(-30, 120, (count, 2))
    anywhere = np.concatenate(
        [low, low + rng.choice([-3, 0, 1e-3, 1, 20, 200], (count, 2)) * rng.random((count, 1))], 1
    )
    near = instances.boxes() + rng.uniform(-4, 4, (count, 4))
    boxes = np.where(rng.random((count, 1)) < 0.6, near, anywhere)
    return torch.from_numpy(np.where(rng.random((count, 1)) < 0.3, boxes.round(), boxes).astype(np.float32))


@pytest.mark.parametrize("portion", [1, 1 << 20])  # one box at a time: no larger neighbour widens its window
def test_mask_targets_of_any_box_equal_detectron2s(monkeypatch, portion):
    monkeypatch.setattr(detection.masks, "PORTION", portion)
    compared = ties = different = 0
    for seed in range(25):
        rng = np.random.default_rng(seed)
        instances = ellipses(int(rng.integers(20, 90)), int(rng.integers(20, 120)), 30, rng)
        boxes, size = random_boxes(instances, rng), int(rng.choice([7, 14, 28]))
        full = torch.from_numpy(blocks(instances))
        rois = torch.cat([torch.arange(len(full))[:, None].float(), boxes], dim=1)
        value = roi_align(full[:, None].float(), rois, (size, size), 1.0, 0, True)[:, 0]
        wrong = LayeredMasks.of(instances).crop_and_resize(boxes, size) != BitMasks(full).crop_and_resize(boxes, size)
        tie = (value - 0.5).abs() < 1e-5
        assert not (wrong & ~tie).any()  # nothing but rounding at one half may differ …
        compared, ties, different = compared + wrong.numel(), ties + int(tie.sum()), different + int(wrong.sum())
    assert compared > 100_000
    assert ties > 30
    assert different <= 2  # … and hardly ever does: sums of halves and quarters are exact


def test_mask_targets_do_not_depend_on_portions_or_on_half_precision(crowded, monkeypatch):
    masks, boxes = LayeredMasks.of(crowded), random_boxes(crowded, np.random.default_rng(0))
    expected = masks.crop_and_resize(boxes, 28)
    assert expected.any()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(masks.crop_and_resize(boxes, 28), expected)
    monkeypatch.setattr(detection.masks, "PORTION", 700)
    assert torch.equal(masks.crop_and_resize(boxes, 28), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_mask_targets_are_the_same_on_a_gpu(crowded):
    masks, boxes = LayeredMasks.of(crowded), random_boxes(crowded, np.random.default_rng(0))
    found = masks.to("cuda").crop_and_resize(boxes.cuda(), 28)
    assert int((found.cpu() != masks.crop_and_resize(boxes, 28)).sum()) <= 2


def test_a_label_above_32767_is_a_cell_like_any_other():
    plane = np.zeros((1, 40, 50), np.uint16)
    plane[0, 5:20, 5:20], plane[0, 25:35, 10:40] = 65535, 40000
    masks = LayeredMasks.of(InstanceMap(plane))
    boxes = torch.tensor([[10.0, 25, 40, 35], [5, 5, 20, 20]])
    assert masks.crop_and_resize(boxes, 14).all()
    assert masks.bitmaps().sum(dim=(1, 2)).tolist() == [300, 225]


def test_masks_are_made_once_and_no_polygon_is_ever_drawn(crowded, monkeypatch):
    def drawn(*_, **__):
        raise AssertionError("a polygon was rasterised")

    for name in ("frPyObjects", "merge", "decode"):
        monkeypatch.setattr(pycocotools.mask, name, drawn)
    monkeypatch.setattr(PolygonMasks, "__init__", drawn)
    targets = training_input(np.zeros(crowded.shape, np.uint8), crowded, 1)["instances"]
    layers = targets.gt_masks.layers
    for _ in range(2):  # two iterations: the sampled regions share one label map
        sampled = targets[torch.tensor([3, 3, 0, 17])]
        assert sampled.gt_masks.layers.data_ptr() == layers.data_ptr()
        assert sampled.gt_masks.crop_and_resize(sampled.gt_boxes.tensor, 28).any(dim=(1, 2)).all()


MEMORY = """
import resource, sys
import numpy as np, torch
torch.set_num_threads(1)
from policy_search.cells import Instance, InstanceMap
from detection.mapper import training_input
disc = np.hypot(*np.mgrid[-6:7, -6:7]) <= 6.3
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
def run(count):
    places = [(x, y) for y in range(0, 507, 9) for x in range(0, 690, 12)][:count]
    cells = [Instance(i + 1, x, y, disc) for i, (x, y) in enumerate(places)]
    instances = InstanceMap.from_instances(cells, 520, 704)
    targets = training_input(np.zeros((520, 704), np.uint8), instances, 1)["instances"]
    assert len(targets) == count and len(instances.layers) > 1
    assert targets.gt_masks.crop_and_resize(targets.gt_boxes.tensor, 28).any(dim=(1, 2)).all()
run(20)
before = peak()
run(3000)
print(peak() - before)
"""


def test_three_thousand_cells_take_a_fraction_of_their_bitmaps():
    # RSS of a process of its own, because tracemalloc does not see what torch allocates.
    ran = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    bitmaps = 3000 * 520 * 704 / 2**20
    assert bitmaps > 1000
    assert float(ran.stdout) < 64


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

"""Crops for the search."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from policy_search.cells.errors import DataError
from policy_search.relaxed.crops import CropSampler
from policy_search.relaxed.instance_channels import PLANES, instance_planes
from tests.relaxed.textures import culture


def test_crops_are_pieces_of_the_images_with_their_masks() -> None:
    image = np.arange(40 * 50, dtype=np.int64).reshape(40, 50) % 251
    mask = image % 2 == 0
    crops, masks = CropSampler([(image.astype(np.uint8), mask)]).sample(50, 16, torch.Generator().manual_seed(0))
    assert crops.shape == masks.shape == (50, 1, 16, 16)
    levels = (crops * 255).round()
    assert torch.equal(masks, (levels % 2 == 0).float())
    corners = set()
    for crop in levels[:, 0]:
        found = [(y, x) for y in range(25) for x in range(35) if (image[y : y + 16, x : x + 16] == crop.numpy()).all()]
        assert found
        corners.update(found)
    assert len(corners) > 30


def test_small_images_are_framed_in_their_median() -> None:
    image, mask = np.full((10, 12), 90, np.uint8), np.ones((10, 12), bool)
    image[0, 0] = 200
    crop, inside = CropSampler([(image, mask)]).sample(1, 16, torch.Generator().manual_seed(0))
    assert inside.sum() == 120
    assert torch.equal((crop * 255).round()[0, 0, :3], torch.full((3, 16), 90.0))
    assert (crop * 255).round().max() == 200


def test_images_of_all_sizes_are_framed_each_for_itself() -> None:
    """One image larger than the crop, one smaller, one larger along one side only; brute force over all windows."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, shape).astype(np.uint8) for shape in ((24, 30), (9, 10), (8, 25))]
    sampler = CropSampler([(image, image > 99) for image in images])
    median, size = sampler.statistics().median, 16
    windows: dict[bytes, tuple[int, bytes]] = {}
    for number, image in enumerate(images):
        missing = [max(size - side, 0) for side in image.shape]
        around = [(m // 2, m - m // 2) for m in missing]
        framed = np.pad(image, around, constant_values=median)
        mask = np.pad(image > 99, around)
        for y in range(framed.shape[0] - size + 1):
            for x in range(framed.shape[1] - size + 1):
                window = np.s_[y : y + size, x : x + size]
                windows[framed[window].tobytes()] = number, mask[window].tobytes()
    crops, masks = sampler.sample(3000, size, torch.Generator().manual_seed(0))
    seen, counts = set(), [0, 0, 0]
    for crop, mask in zip((crops * 255).round().byte(), masks.bool(), strict=True):
        number, expected = windows[crop.numpy().tobytes()]
        assert mask.numpy().tobytes() == expected
        seen.add(crop.numpy().tobytes())
        counts[number] += 1
    assert min(counts) > 800
    assert len(seen) > 0.9 * len(windows)


def test_images_without_masks() -> None:
    image = culture(0, size=64)[0]
    sampler = CropSampler([(image, None)])
    crops, masks = sampler.sample(3, 32, torch.Generator().manual_seed(0))
    with_masks = CropSampler([(image, image > 0)])
    assert (sampler.masks, with_masks.masks) == (0, 1)
    assert torch.equal(crops, with_masks.sample(3, 32, torch.Generator().manual_seed(0))[0])
    assert torch.equal(masks, torch.zeros(3, 1, 32, 32))


def test_instance_ids_give_the_foreground_or_all_planes() -> None:
    image = culture(0, size=64)[0]
    labels = np.zeros((64, 64), np.uint16)
    labels[10:30, 5:40], labels[30:50, 5:40] = 7, 3
    _, foreground = CropSampler([(image, labels)]).sample(1, 64, torch.Generator().manual_seed(0))
    assert torch.equal(foreground[0, 0].bool(), torch.from_numpy(labels > 0))
    sampler = CropSampler([(image, labels)], instance_channels=True)
    _, planes = sampler.sample(1, 64, torch.Generator().manual_seed(0))
    assert sampler.masks == PLANES
    assert torch.equal(planes[0].bool(), torch.from_numpy(instance_planes(labels)))


def test_statistics() -> None:
    dark, light = np.full((8, 8), 100, np.uint8), np.full((8, 8), 200, np.uint8)
    dark[::2], light[::2] = 110, 210
    mask = np.zeros((8, 8), bool)
    found = CropSampler([(dark, mask), (dark, mask), (light, mask)]).statistics()
    assert found.mean * 255 == pytest.approx((105 + 105 + 205) / 3)
    assert found.deviation * 255 == pytest.approx(5.0)  # within images, not between them
    assert found.median == 110


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([], "at least one image"),
        ([(np.zeros((8, 8), np.uint16), np.zeros((8, 8), bool))], "expected uint8"),
        ([(np.zeros((8, 8), np.uint8), np.zeros((8, 9), bool))], "mask is"),
        ([(np.zeros((8, 8), np.uint8), np.zeros((8, 8), bool))], None),
        ([culture(0, size=32), (np.zeros((32, 32), np.uint8), None)], "1 of 2 images come with masks"),
        ([culture(0, size=32), (np.zeros((32, 32, 3), np.uint8), np.zeros((32, 32), bool))], "number of channels"),
    ],
)
def test_unusable_data_is_refused(pairs: list, message: str | None) -> None:
    if message is None:
        with pytest.raises(DataError, match="one grey level"):
            CropSampler(pairs).statistics()
    else:
        with pytest.raises(DataError, match=message):
            CropSampler(pairs)


def test_instance_channels_need_ids() -> None:
    with pytest.raises(DataError, match="need instance ids"):
        CropSampler([culture(0, size=32)], instance_channels=True)

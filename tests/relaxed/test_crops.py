"""Crops for the search."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from policy_search.cells.errors import DataError
from policy_search.relaxed.crops import CropSampler
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

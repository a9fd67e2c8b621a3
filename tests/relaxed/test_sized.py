"""A source brought to the size of the target's cells, and the policy that scales first."""

from __future__ import annotations

import albumentations as A
import cv2
import numpy as np
import pytest

from policy_search.augment import Augmenter, PolicyDocument, baseline
from policy_search.cells import InstanceMap
from policy_search.relaxed.catalogue import operations
from policy_search.relaxed.sized import SPREAD, resized, with_sizes, without_size


def disc(side: int = 120, radius: int = 30) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    mask = y**2 + x**2 < radius**2
    return np.where(mask, 200, 100).astype(np.uint8), mask


@pytest.mark.parametrize("size", [0.5, 1.6])
def test_a_cell_has_the_size_asked_for_and_the_image_shrinks_never(size: float) -> None:
    image, mask = disc()
    ((found, found_mask),) = resized([(image, mask)], (size,))
    assert found.shape == found_mask.shape == tuple(max(120, round(120 * size)) for _ in "yx")
    _, labels, stats, _ = cv2.connectedComponentsWithStats(found_mask.astype(np.uint8))
    middle = labels[tuple(n // 2 for n in found.shape)]
    assert middle > 0
    assert stats[middle, cv2.CC_STAT_AREA] == pytest.approx(mask.sum() * size**2, rel=0.04)
    # The mask goes with the image, mirrored parts included.
    assert (found[found_mask] > 150).mean() > 0.95
    assert (found[~found_mask] < 150).mean() > 0.97


def test_what_is_lacking_is_mirrored() -> None:
    """An image of one row of numbers, halved by OpenCV, and its reflection written out by hand."""
    row = np.arange(0, 80, 10, dtype=np.uint8)
    image = np.repeat(row[None], 8, 0)
    ((found, _),) = resized([(image, image > 30)], (0.5,))
    half = cv2.resize(image, (4, 4), interpolation=cv2.INTER_LINEAR)[0]
    np.testing.assert_array_equal(found[0], np.concatenate([half[[2, 1]], half, half[[2, 1]]]))


def test_size_one_changes_nothing_and_every_target_counts() -> None:
    image, mask = disc()
    pairs = resized([(image, mask), (image.T, mask)], (1.0, 0.8, 1.0))
    assert len(pairs) == 6
    for i, j in ((0, 0), (4, 0)):
        np.testing.assert_array_equal(pairs[i][j], image)
        np.testing.assert_array_equal(pairs[i][1], mask)


def test_operations_that_keep_the_area() -> None:
    kept = without_size(())
    assert {o.name for o in operations()} - set(kept) == {"scale", "stretch_x", "stretch_y", "crop_resize"}
    assert without_size(("scale", "rotate", "gamma")) == ("rotate", "gamma")
    assert without_size(("scale",)) == ()


def sides(document: PolicyDocument, draws: int = 300) -> np.ndarray:
    """Root of a disc's area after the policy, over that before."""
    image, mask = disc()
    cells = InstanceMap.from_labels(mask.astype(np.int32))
    augmenter = Augmenter(document)
    areas = []
    for draw in range(draws):
        _, after = augmenter(image, cells, seed=0, image_id="x", draw=draw)
        areas.append(after.foreground().sum())
    return np.sqrt(np.array(areas) / mask.sum())


def test_the_policy_scales_by_each_size_alike() -> None:
    found = sides(with_sizes(baseline("none"), (0.5, 0.8), fill=100))
    small = found < 0.65
    assert small.mean() == pytest.approx(0.5, abs=0.1)
    for part, size in ((found[small], 0.5), (found[~small], 0.8)):
        assert part.mean() == pytest.approx(size, rel=0.02)
        assert part.min() >= (1 - SPREAD) * size - 0.02
        assert part.max() <= (1 + SPREAD) * size + 0.02


def test_without_another_size_nothing_is_scaled() -> None:
    assert sides(with_sizes(baseline("none"), (1.0,), fill=100), 20) == pytest.approx(1.0, abs=1e-6)
    assert "Affine" not in str(with_sizes(baseline("none"), (1.0, 1.0), fill=100).transform)


def test_the_matched_part_is_for_a_share_and_every_image_is_flipped() -> None:
    inverted = PolicyDocument.from_compose(A.Compose([A.InvertImg(p=1.0)]))
    policy = with_sizes(inverted, (1.0,), fill=100, share=0.25).compose()
    policy.set_random_seed(0)
    image = np.array([[10, 20], [30, 40]], np.uint8)
    flips = {(20, 10, 40, 30), (30, 40, 10, 20)}
    seen = [tuple(policy(image=image)["image"].ravel().tolist()) for _ in range(800)]
    plain = [values for values in seen if values in flips]
    assert len(plain) / 800 == pytest.approx(0.75, abs=0.05)
    assert {tuple(255 - v for v in values) for values in seen if values not in flips} == flips

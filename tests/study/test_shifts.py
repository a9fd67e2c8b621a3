"""Held-back shifts: labels follow geometry exactly, grey levels change by the stated amount."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from policy_search.study import shifts
from policy_search.study.probe import ProbeSample

FACTORS = {
    "scale 0.5": (0.5, 0.5),
    "scale 0.7": (0.7, 0.7),
    "scale 1.5": (1.5, 1.5),
    "stretch x 1.5": (1.0, 1.5),
    "squeeze y 0.6": (0.6, 1.0),
}
BY_NAME = {shift.name: shift for shift in shifts.HELD_BACK}


@pytest.mark.parametrize("name", sorted(FACTORS))
def test_geometry_moves_image_and_labels_together(name: str, blobs: tuple[ProbeSample, ...]) -> None:
    fy, fx = FACTORS[name]
    image, truth = blobs[0].image[:100], blobs[0].instances.map_layers(lambda layer: layer[:100])
    shifted, instances = BY_NAME[name].apply(image, truth, np.random.default_rng(0))
    height, width = round(100 * fy), round(128 * fx)
    assert shifted.shape == instances.shape == (height, width)
    # Pixel by pixel: the label at (y, x) is the one at the source pixel under its centre.
    expected = np.zeros((height, width), np.int64)
    for y in range(height):
        for x in range(width):
            expected[y, x] = truth.label_image()[int((y + 0.5) * 100 / height), int((x + 0.5) * 128 / width)]
    specks = [label for label in np.unique(expected) if (expected == label).sum() < 10]
    expected[np.isin(expected, specks)] = 0
    assert np.array_equal(instances.label_image(), expected)
    # The cells are darker than the ground, and still are where the labels say so.
    cells = instances.foreground()
    assert shifted[~cells].mean() - shifted[cells].mean() == pytest.approx(
        float(image[~truth.foreground()].mean() - image[truth.foreground()].mean()), rel=0.1
    )


@pytest.mark.parametrize("name", sorted(set(BY_NAME) - set(FACTORS)))
def test_pixel_shifts_leave_the_labels_alone(name: str, blobs: tuple[ProbeSample, ...]) -> None:
    sample = blobs[1]
    shifted, instances = BY_NAME[name].apply(sample.image, sample.instances, np.random.default_rng(0))
    assert instances is sample.instances
    assert shifted.shape == sample.image.shape
    assert shifted.dtype == np.uint8
    assert np.array_equal(shifted, sample.image) == (name == "unshifted")


def test_grey_levels_change_by_the_stated_amount(blobs: tuple[ProbeSample, ...]) -> None:
    image = blobs[0].image
    mean, std = image.mean(), image.std()
    assert shifts.contrast(image, 0.5).std() == pytest.approx(0.5 * std, rel=0.02)
    assert shifts.contrast(image, 2.2).mean() == pytest.approx(mean, abs=1)
    assert shifts.brightness(image, 0.6).mean() - mean == pytest.approx(0.6 * std, abs=0.5)
    noisy = shifts.noise(image, 0.5, np.random.default_rng(3)).astype(float) - image
    assert noisy.std() == pytest.approx(0.5 * std, rel=0.05)
    assert abs(noisy.mean()) < 0.1
    lit = shifts.illumination(image, 0.8).astype(float) - image
    assert lit[0, 0] == pytest.approx(-0.8 * std, abs=1)
    assert lit[-1, -1] == pytest.approx(0.8 * std, abs=1)
    assert abs(lit.mean()) < 0.2
    blurred = gaussian_filter(image.astype(float), 1.5, truncate=4, mode="mirror")
    assert np.abs(shifts.blur(image, 1.5) - blurred).max() <= 1.5


def test_noise_is_the_generators(blobs: tuple[ProbeSample, ...]) -> None:
    image = blobs[0].image
    first = shifts.noise(image, 0.5, np.random.default_rng(1))
    assert np.array_equal(first, shifts.noise(image, 0.5, np.random.default_rng(1)))
    assert not np.array_equal(first, shifts.noise(image, 0.5, np.random.default_rng(2)))

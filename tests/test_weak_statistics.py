"""The torch form of the weak foreground, against the numpy form, and its gradient against finite differences."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "experiments"))
import weak_statistics
from weak_statistics import MaskedStatistics, mask_statistics, soft_foreground

from policy_search.cells import resolve, weak
from policy_search.relaxed.statistics import ImageStatistics


def pictures(*names: str) -> Tensor:
    """(B, 1, 256, 256) in [0, 1]: an image of each type of the demo culture."""
    parts = [resolve(f"demo/{name}", "val") for name in names]
    return torch.from_numpy(np.stack([p.image(p.records[0]) for p in parts]))[:, None].float() / 255


def test_it_is_nearly_the_mask_of_weak_py() -> None:
    images = pictures("A172", "BV2", "HUH7", "SHSY5Y", "SKBR3", "SKOV3")
    soft = soft_foreground(images)
    assert ((soft >= 0) & (soft <= 1)).all()
    for image, mask in zip(images, soft[:, 0] > 0.5, strict=True):
        hard = weak.weak_foreground((255 * image[0]).round().to(torch.uint8).numpy())
        found = mask.numpy()
        assert (found & hard).sum() / (found | hard).sum() > 0.9


def test_energy_and_threshold_are_those_of_weak_py() -> None:
    images = pictures("MCF7", "SKOV3")
    energy = weak_statistics._energy(images)
    found = weak_statistics._threshold(torch.log(energy).flatten(1)).exp()
    for number, image in enumerate(images):
        expected = weak.gradient_energy((255 * image[0]).round().to(torch.uint8).numpy())
        assert np.allclose(energy[number, 0].numpy(), np.maximum(expected, weak.FLOOR), atol=2e-3)
        assert found[number].item() == pytest.approx(weak.threshold(np.maximum(expected, weak.FLOOR)), rel=0.03)


def blurred(images: Tensor, share: Tensor) -> Tensor:
    """Partly blurred."""
    smooth = ndimage.gaussian_filter(images.numpy(), (0, 0, 2, 2))
    return images + share * (torch.from_numpy(smooth) - images)


def contrasted(images: Tensor, factor: Tensor) -> Tensor:
    """Around the middle grey."""
    return 0.5 + factor * (images - 0.5)


@pytest.mark.parametrize(("change", "at", "step"), [(blurred, 0.3, 0.1), (contrasted, 1.0, 0.2)])
def test_the_gradient_is_that_of_finite_differences(
    change: Callable[[Tensor, Tensor], Tensor], at: float, step: float
) -> None:
    images = pictures("A172", "BT474", "BV2", "SKOV3")

    def measure(value: Tensor) -> Tensor:
        image = change(images, value)
        return mask_statistics((image - 0.5) / 0.05, soft_foreground(image)).mean(0)

    place = torch.tensor(at, requires_grad=True)
    slopes = torch.stack([torch.autograd.grad(v, place, retain_graph=True)[0] for v in measure(place)])
    with torch.no_grad():
        expected = (measure(place + step) - measure(place - step)) / (2 * step)
    assert torch.allclose(slopes, expected, rtol=0.1, atol=0.03)
    assert expected.abs().max() > 0.5
    if change is contrasted:  # the threshold goes with the image: neither share nor outlines change
        shape = torch.cat([slopes[:1], slopes[5:]])
        assert shape.abs().max() < 0.02


def test_both_ways_to_erode_agree() -> None:
    images = pictures("SKBR3")
    with torch.no_grad():
        fast = soft_foreground(images)
    assert torch.equal(fast, soft_foreground(images))


def test_image_statistics_stay_and_flat_images_are_finite() -> None:
    measure = MaskedStatistics(0.5, 0.05)
    image = pictures("A172")[..., :96, :96]
    plain = ImageStatistics(0.5, 0.05)(image)
    assert torch.equal(measure(image)[:, : plain.shape[1]], plain)
    flat = torch.full((2, 3, 64, 64), 0.3, requires_grad=True)
    found = measure(flat)
    found.sum().backward()
    assert torch.isfinite(found).all()
    assert flat.grad is not None
    assert torch.isfinite(flat.grad).all()
    assert soft_foreground(flat).max() < 0.5

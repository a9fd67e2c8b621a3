"""The statistics' shortcuts give what the plain way gives: sorted levels, and the hand-written gradient of texture."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from policy_search.relaxed.pyramid import OCTAVES, texture
from policy_search.relaxed.statistics import ImageStatistics

BANDS = ((0.02, 0.1), (0.2, 0.3), (0.45, 0.55), (0.7, 0.8), (0.9, 0.98))


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    """On the 8-bit grid."""
    image = 0.5 + 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return (image * 255).round().clamp(0, 255) / 255


@pytest.mark.parametrize("channels", [1, 3])
def test_levels_are_means_of_bands_of_the_sorted_pixels(channels: int) -> None:
    image = noise(3, channels, 64, 70)
    ordered = image[:, :, ::2, ::2].flatten(2).sort(2).values
    count = ordered.shape[2]
    wanted = torch.cat([ordered[:, :, int(a * count) : int(b * count)].mean(2) for a, b in BANDS], 1)
    measure = ImageStatistics(0.4, 0.1)
    found = measure.levels(image)
    assert torch.allclose(found, (wanted - 0.4) / 0.1, atol=1e-5)
    assert found.shape[1] == measure.count_levels(channels)
    assert torch.equal(measure(image)[:, : found.shape[1]], found)


def test_the_gradient_of_a_level_is_spread_over_its_band() -> None:
    """A band's mean moves by one with all pixels, and a pixel outside all bands moves nothing."""
    image = noise(1, 1, 64, 64).requires_grad_()
    measure = ImageStatistics(0.0, 1.0)
    for i in range(len(BANDS)):
        (gradient,) = torch.autograd.grad(measure.levels(image)[0, i], image)
        assert gradient.sum().item() == pytest.approx(1, abs=1e-5)
        inside = image[gradient > 0].detach()
        ordered = image.detach()[:, :, ::2, ::2].flatten().sort().values
        first, last = (int(end * len(ordered)) for end in BANDS[i])
        assert inside.min() == ordered[first]
        assert inside.max() == ordered[last - 1]


def plain(image: torch.Tensor) -> torch.Tensor:
    """The texture statistics in autograd's own operations."""
    found = []
    for octave in range(OCTAVES):
        last = octave == OCTAVES - 1
        differences = [image[:, :, 1:] - image[:, :, :-1], image[:, 1:] - image[:, :-1]]
        if not last:
            differences += [image[:, 1:, 1:] - image[:, :-1, :-1], image[:, 1:, :-1] - image[:, :-1, 1:]]
        energies = [0.5 * torch.log(d.square().mean((1, 2)) + 1e-3) for d in differences]
        peaks = [torch.log(d.abs().mean((1, 2)) + 1e-2) - e for d, e in zip(differences[:2], energies[:2], strict=True)]
        found += energies + peaks
        if last:
            break
        half = functional.avg_pool2d(image[:, None], 2)
        detail = image[:, : 2 * half.shape[2], : 2 * half.shape[3]] - functional.interpolate(half, scale_factor=2)[:, 0]
        second, third, fourth = (detail.pow(power).mean((1, 2)) for power in (2, 3, 4))
        found.append(third / (second + 1e-3) ** 1.5)
        found.append(0.25 * torch.log(fourth + 1e-6) - 0.5 * torch.log(second + 1e-3))
        image = half[:, 0]
    return torch.stack(found, 1)


@pytest.mark.parametrize("shape", [(2, 64, 64), (2, 50, 39)])
def test_texture_and_its_gradient_are_autograds(shape: tuple[int, int, int]) -> None:
    image = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    found, wanted = texture(image), plain(image)
    assert torch.allclose(found, wanted, atol=1e-10)
    weights = torch.randn(found.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    (gradient,) = torch.autograd.grad((found * weights).sum(), image)
    (expected,) = torch.autograd.grad((wanted * weights).sum(), image)
    assert torch.allclose(gradient, expected, atol=1e-10)

"""The statistics critic: statistics move as theory says, its cost points where the mismatch falls."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from policy_search.relaxed.moments import MomentCritic, mismatch, reference
from policy_search.relaxed.statistics import ImageStatistics
from tests.relaxed.textures import culture

MEASURE = ImageStatistics(0.5, 0.05)
LEVELS = 5
# Per octave but the last: four log energies, two peaks, skewness and peakedness of the detail.
PER_OCTAVE = 8


def crops(count: int, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    whole = [culture(s)[0] for s in range(3)]
    out = []
    for _ in range(count):
        y, x = rng.integers(0, 192, 2)
        out.append(whole[rng.integers(3)][y : y + 64, x : x + 64])
    return torch.from_numpy(np.stack(out))[:, None].float() / 255


def test_brightness_moves_the_levels_by_deviations_and_nothing_else() -> None:
    image = crops(4)
    change = MEASURE(image + 0.1) - MEASURE(image)
    assert torch.allclose(change[:, :LEVELS], torch.tensor(2.0), atol=1e-4)
    assert change[:, LEVELS:].abs().max() < 1e-3


def test_contrast_moves_all_log_energies_by_its_logarithm() -> None:
    image = crops(4)
    change = MEASURE(0.5 + 1.5 * (image - 0.5)) - MEASURE(image)
    energies = torch.cat([change[:, LEVELS + o * PER_OCTAVE :][:, :4] for o in range(4)], 1)
    # The constant under the logarithm takes a little of the faintest ones.
    assert torch.allclose(energies, torch.tensor(math.log(1.5)), atol=0.02)


def test_white_noise_loses_half_its_deviation_with_every_octave() -> None:
    noise = 0.5 + 0.05 * torch.randn(16, 1, 256, 256, generator=torch.Generator().manual_seed(0))
    found = MEASURE(noise).mean(0)
    for octave in range(4):
        # A difference of two independent pixels has twice their variance.
        wanted = 0.5 * math.log(2) - octave * math.log(2)
        assert found[LEVELS + octave * PER_OCTAVE].item() == pytest.approx(wanted, abs=0.03)
    # log of mean |z| over root mean square, sqrt(2 / pi), of a normal number
    assert found[LEVELS + 4].item() == pytest.approx(0.5 * math.log(2 / math.pi), abs=0.01)


def test_directions_are_told_apart() -> None:
    image = crops(2)
    found, turned = MEASURE(image), MEASURE(image.transpose(2, 3))
    assert torch.allclose(found[:, LEVELS], turned[:, LEVELS + 1], atol=1e-5)
    assert torch.allclose(found[:, LEVELS + 1], turned[:, LEVELS], atol=1e-5)


def test_colour_has_its_levels_per_channel() -> None:
    image = crops(2)
    colour = torch.cat([image, image + 0.05, image], 1)
    found = MEASURE(colour)
    assert found.shape[1] == MEASURE(image).shape[1] + 2 * LEVELS
    assert torch.allclose(found[:, 1:15:3][:, :5] - found[:, 0:15:3][:, :5], torch.tensor(1.0), atol=1e-4)


def test_whitened_statistics_have_unit_variance_and_hardly_any_correlation() -> None:
    seen = MEASURE(crops(600))
    known = reference(seen, seen)
    assert torch.allclose(known.source, known.target)
    spread = torch.cov((seen @ known.whiten).T)
    assert spread.diagonal().max() < 1.3
    off = spread - torch.diag(spread.diagonal())
    assert off.abs().max() < 0.25


def test_deviations_below_the_resolution_count_less() -> None:
    """Independent statistics have the variance s^2 over s^2 + 0.1^2 once whitened."""
    deviations = torch.tensor([0.01, 0.05, 0.1, 0.2, 1.0])
    seen = torch.randn(20000, 5, generator=torch.Generator().manual_seed(0)) * deviations
    known = reference(seen, seen)
    found = torch.cov((seen @ known.whiten).T).diagonal().sort().values
    expected = deviations**2 / (deviations**2 + 0.1**2)
    assert torch.allclose(found, expected, rtol=0.05)


def test_the_mismatch_is_square_near_zero_and_linear_far_off() -> None:
    assert mismatch(torch.tensor([0.1, -0.2])).item() == pytest.approx(0.05, rel=1e-2)
    far = [mismatch(torch.tensor([x])).item() for x in (300.0, 301.0)]
    assert far[1] - far[0] == pytest.approx(2 * 3.0, rel=1e-3)


def test_the_cost_falls_where_the_mismatch_falls() -> None:
    """Its gradient is that of half the mismatch of the running mean, by finite differences of the latter."""
    image = crops(64)
    seen = MEASURE(image)
    known = reference(MEASURE(crops(256, 1)), MEASURE(0.55 + 1.3 * (crops(256, 2) - 0.5)))

    def gap(shift: float) -> float:
        moved = known.source + ((MEASURE(image + shift) - seen) @ known.whiten).mean(0) - known.target
        return mismatch(moved).item()

    shift = torch.tensor(0.01, requires_grad=True)
    critic = MomentCritic(MEASURE, known, variance_weight=0.0)
    cost, found, _ = critic(image + shift, seen @ known.whiten)
    (gradient,) = torch.autograd.grad(cost.mean(), shift)
    assert found.item() == pytest.approx(gap(0.01), rel=1e-3)
    assert gradient.item() == pytest.approx((gap(0.011) - gap(0.009)) / 0.002 / 2, rel=0.02)


def test_too_much_variety_costs() -> None:
    image = crops(64)
    known = reference(MEASURE(crops(256, 1)), MEASURE(crops(256, 2)))
    before = MEASURE(image) @ known.whiten
    for width, sign in ((0.2, 1), (0.0, -1)):
        spread = torch.tensor(width, requires_grad=True)
        places = torch.linspace(-1, 1, 64)[:, None, None, None]
        critic = MomentCritic(MEASURE, known)
        # The variance is asked for by the target: too wide a spread falls, too narrow a one rises.
        wide = 0.5 + (0.3 if sign < 0 else 1.0) * (image - 0.5) + spread * places
        cost, _, _ = critic(wide, before)
        (gradient,) = torch.autograd.grad(cost.mean(), spread)
        if sign > 0:
            assert gradient.item() > 0


def test_running_moments_come_back() -> None:
    image = crops(16)
    known = reference(MEASURE(crops(256, 1)), MEASURE(crops(256, 2)))
    before = MEASURE(image) @ known.whiten
    whole, resumed = MomentCritic(MEASURE, known), MomentCritic(MEASURE, known)
    for _ in range(3):
        whole(image + 0.01, before)
    resumed.load_state_dict(whole.state_dict())
    for a, b in zip(whole(image, before), resumed(image, before), strict=True):
        assert torch.equal(a, b)


def test_a_batch_is_not_judged_by_its_own_noise() -> None:
    """Two steps with the same policy: the second one's gap is that of the first one's crops, whatever it has drawn."""
    known = reference(MEASURE(crops(256, 1)), MEASURE(crops(256, 2)))
    gaps = []
    for seed in (3, 4):
        critic = MomentCritic(MEASURE, known)
        first, second = crops(16, 0), crops(16, seed)
        critic(first + 0.01, MEASURE(first) @ known.whiten)
        gaps.append(critic(second + 0.01, MEASURE(second) @ known.whiten)[1].item())
    assert gaps[0] == pytest.approx(gaps[1], rel=1e-6)

"""Losses against values worked out by other means."""

from __future__ import annotations

import math

import pytest
import torch

from policy_search.relaxed import losses
from policy_search.relaxed.catalogue import operations
from policy_search.relaxed.critic import Critic, RandomFeatures, fold, pool
from policy_search.relaxed.policy import RelaxedPolicy


class Linear(torch.nn.Module):
    """A critic whose gradient is `slope` / pixels at every entry."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, pair: torch.Tensor) -> torch.Tensor:
        return self.slope * pair.mean((2, 3)).sum(1)


@pytest.mark.parametrize("size", [8, 32])
def test_the_penalty_is_per_sample_and_free_of_the_crop_size(size: int) -> None:
    real, augmented = torch.rand(4, 2, size, size), torch.rand(4, 2, size, size)
    generator = torch.Generator().manual_seed(0)
    # Per sample: sqrt(2 * N * (s / N)^2) * sqrt(N) = s * sqrt(2), whatever N pixels.
    found = losses.gradient_penalty(Linear(6.0), real, augmented, generator, 10.0, size**2)  # type: ignore[arg-type]
    assert found.item() == pytest.approx((6 * math.sqrt(2) / 10 - 1) ** 2, rel=1e-5)


def test_the_penalty_trains_the_critic() -> None:
    critic = Critic(1, 0.5, 0.1, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    real, augmented = (torch.randn(2, 32, 8, 8, generator=generator) for _ in range(2))
    losses.gradient_penalty(critic, real, augmented, generator, 10.0, 32**2).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for n, p in critic.named_parameters() if "weight" in n)


def test_spread_pairs_the_two_draws_of_one_image() -> None:
    features = torch.tensor([[0.0, 0.0], [1.0, 1.0], [3.0, 3.0], [1.0, 1.0]])
    assert losses.spread(features).tolist() == pytest.approx([3.0, 0.0], abs=2e-3)


def test_the_chance_of_a_draw_is_that_of_its_choices_and_gates() -> None:
    policy = RelaxedPolicy(
        operations("brightness", "scale", "gamma", "gaussian_blur"),
        sub_policies=2,
        generator=torch.Generator().manual_seed(0),
        spread=1.0,
    )
    draw = policy.draw(50, torch.Generator().manual_seed(1))
    found, table = losses.log_chance(policy, draw), policy.table()
    for i in range(50):
        chance, p = 1.0, int(draw.sub_policy[i])
        for stage in range(policy.stages):
            k = int(draw.choice[i, stage])
            gate = table.gate[p, stage, k].item()
            is_open = policy.raw("gate")[p, stage, k] + draw.logistic[i, stage, k] > 0
            chance *= table.weight[p, stage, k].item() * (gate if is_open else 1 - gate)
        assert math.exp(found[i].item()) == pytest.approx(chance, rel=1e-4)


def test_an_outcome_is_compared_with_the_other_draw_of_its_image_and_with_other_images() -> None:
    found = losses.outcome_advantage(torch.tensor([5.0, 1.0, 3.0, 1.0]), torch.tensor([2.0, 4.0]))
    assert found.tolist() == pytest.approx([2 - 2, 0 - -2.0, -2 - 2, 0 - -2.0])


def test_the_critic_divides_by_the_data_sets_own_deviation() -> None:
    critic = Critic(1, 0.5, 0.05, generator=torch.Generator().manual_seed(0))
    pair = critic.standardise(torch.full((1, 1, 32, 32), 0.6), torch.ones(1, 1, 32, 32))
    assert pair.shape == (1, 32, 8, 8)
    assert pair[0, :, 0, 0].tolist() == pytest.approx([2.0] * 16 + [1.0] * 16)


@pytest.mark.parametrize(("height", "width"), [(32, 40), (35, 41)])
def test_folding_is_the_pixel_unshuffle_of_what_the_block_divides(height: int, width: int) -> None:
    image = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    folded = fold(image, 4)
    assert torch.equal(folded, torch.nn.functional.pixel_unshuffle(image[:, :, :32, :40], 4))
    assert folded.is_contiguous(memory_format=torch.channels_last)


def test_a_critic_without_masks_sees_the_image_alone() -> None:
    critic = Critic(1, 0.5, 0.05, generator=torch.Generator().manual_seed(0), masks=0)
    image = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    scores = [critic(critic.standardise(image, mask)) for mask in (torch.zeros_like(image), torch.ones_like(image))]
    assert torch.equal(*scores)


def test_a_critic_treats_the_samples_of_a_batch_apart() -> None:
    critic = Critic(1, 0.5, 0.05, generator=torch.Generator().manual_seed(0))
    pairs = torch.randn(4, 32, 8, 8, generator=torch.Generator().manual_seed(1))
    apart = torch.cat([critic(pair[None]) for pair in pairs])
    assert torch.allclose(critic(pairs), apart, atol=1e-5)


def test_pooled_deviation_sees_texture() -> None:
    flat, grainy = torch.zeros(1, 1, 8, 8), torch.tensor([1.0, -1.0]).repeat(32).reshape(1, 1, 8, 8)
    assert pool(flat)[0].tolist() == pytest.approx([0.0, 0.01])
    assert pool(grainy)[0].tolist() == pytest.approx([0.0, 1.0], abs=1e-3)


def test_random_features_are_frozen_and_scaled_to_the_data() -> None:
    critic = Critic(1, 0.5, 0.1, generator=torch.Generator().manual_seed(0))
    features = RandomFeatures(critic, generator=torch.Generator().manual_seed(2))
    image = torch.rand(16, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    mask = (image > 0.5).float()
    pair = critic.standardise(image, mask)
    features.calibrate(pair)
    assert not any(p.requires_grad for p in features.parameters())
    assert features(pair).std(0).median().item() == pytest.approx(1.0, abs=0.2)

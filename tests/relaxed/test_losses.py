"""Losses against values worked out by other means."""

from __future__ import annotations

import math

import pytest
import torch

from policy_search.relaxed import losses
from policy_search.relaxed.catalogue import CATALOGUE, operations
from policy_search.relaxed.critic import Critic, RandomFeatures, fold, pool
from policy_search.relaxed.operations import free_plan
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


def test_strengths_are_the_deviations_of_simulated_draws() -> None:
    policy = RelaxedPolicy(
        CATALOGUE, sub_policies=2, plan=free_plan(2), generator=torch.Generator().manual_seed(0), spread=1.0
    )
    table, generator = policy.table(), torch.Generator().manual_seed(1)
    count, variances = 40000, {}
    for k, operation in enumerate(CATALOGUE):
        for p in range(2):
            for s in range(2):
                acts = torch.rand(count, generator=generator) < table.weight[p, s, k] * table.gate[p, s, k]
                if operation.magnitude is None:
                    moved = acts.float()
                else:
                    span = operation.magnitude
                    low, high = span.forward(table.low[p, s, k].item()), span.forward(table.high[p, s, k].item())
                    identity, half = span.forward(span.identity), (span.forward(span.high) - span.forward(span.low)) / 2
                    moved = acts * (low + (high - low) * torch.rand(count, generator=generator) - identity) / half
                variances[operation.group] = variances.get(operation.group, 0.0) + moved.var().item() / 2
    found = losses.group_strengths(policy)
    for group, variance in variances.items():
        assert found[group].item() == pytest.approx(math.sqrt(variance), rel=0.03), group


def test_a_constant_degradation_has_no_strength() -> None:
    policy = RelaxedPolicy(
        operations("gaussian_blur"), sub_policies=1, generator=torch.Generator().manual_seed(0), spread=0.0
    )
    with torch.no_grad():
        policy.base["gate"][:], policy.base["width"][:] = 20.0, -20.0
    assert losses.group_strengths(policy)["texture"].item() < 1e-3
    effect = losses.operation_effects(policy)["gaussian_blur"]
    assert (effect.chance, effect.constancy) == pytest.approx((1, 1), abs=1e-4)


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


def test_effects_are_those_of_simulated_draws() -> None:
    policy = RelaxedPolicy(
        operations("brightness", "scale", "gaussian_blur", "horizontal_flip"),
        sub_policies=3,
        generator=torch.Generator().manual_seed(0),
        spread=1.0,
    )
    effects, generator = losses.operation_effects(policy), torch.Generator().manual_seed(1)
    table, draw = policy.table(), policy.draw(60000, generator)
    for k, operation in enumerate(policy.operations):
        moved = torch.zeros(60000)
        acted = torch.zeros(60000)
        for stage in range(policy.stages):
            at = (draw.sub_policy, stage, k)
            is_open = policy.raw("gate")[at] + draw.logistic[:, stage, k] > 0
            acts = (draw.choice[:, stage] == k) & is_open
            acted += acts
            if operation.magnitude is None:
                moved += acts
            else:
                span, place = operation.magnitude, draw.uniform[:, stage, k]
                low, high = table.low[at], table.high[at]
                if span.logarithmic:
                    low, high = low.log(), high.log()
                half = (span.forward(span.high) - span.forward(span.low)) / 2
                moved += acts * (low + place * (high - low) - span.forward(span.identity)) / half
        found = effects[operation.name]
        assert found.chance == pytest.approx(acted.mean().item(), abs=0.01)
        square = moved.square().mean().item()
        assert found.chance * found.displacement**2 == pytest.approx(square, rel=0.03)
        assert found.constancy == pytest.approx(moved.mean().item() ** 2 / square, abs=0.02)


def test_variety_runs_from_one_choice_to_all() -> None:
    policy = RelaxedPolicy(
        operations("brightness", "gamma", "scale"),
        sub_policies=1,
        generator=torch.Generator().manual_seed(0),
        spread=0.0,
    )
    assert losses.stage_variety(policy).tolist() == pytest.approx([1.0, 1.0])
    with torch.no_grad():
        policy.base["choice"][1, 0] = math.log(9.0)  # weights .9 and .1
    expected = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1)) / math.log(2)
    assert losses.stage_variety(policy).tolist() == pytest.approx([1.0, expected], rel=1e-5)


def test_floors_only_push_up() -> None:
    values = torch.tensor([0.05, 0.1, 0.3], requires_grad=True)
    penalty = losses.floor_penalty(values, 0.1)
    assert penalty.item() == pytest.approx(0.25)
    (gradient,) = torch.autograd.grad(penalty, values)
    assert gradient[0] < 0
    assert gradient[1:].abs().sum() == 0
    assert losses.floor_penalty(values, 0.0).item() == 0


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

"""Losses of the search: WGAN-GP for the critic, and what the policy is asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from policy_search.relaxed.critic import Critic
from policy_search.relaxed.policy import Draw, RelaxedPolicy


def gradient_penalty(
    critic: Critic, real: Tensor, augmented: Tensor, generator: torch.Generator, norm: float, pixels: int
) -> Tensor:
    """Mean of (|gradient| / norm - 1)^2 between real and augmented pairs (B, C, H, W), one norm per *sample*.

    Gulrajani et al. 2017, equation 3. The norm is taken over channels and pixels together and multiplied by the root of
    the number of `pixels` of an image (the critic reads them folded): a critic that averages over pixels has gradients
    of 1 / pixels at each, and the target must not depend on the size of the crop.
    """
    place = torch.rand(len(real), 1, 1, 1, generator=generator, device=real.device, dtype=real.dtype)
    between = torch.lerp(augmented.detach(), real, place).requires_grad_(True)
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    # The constant keeps the root differentiable where the gradient vanishes.
    norms = torch.sqrt(gradient.square().sum((1, 2, 3)) + 1e-12) * math.sqrt(pixels)
    return (norms / norm - 1).square().mean()


def spread(features: Tensor) -> Tensor:
    """Distances (B / 2,) in feature space between the two draws of one image: rows i and i + B / 2 of (B, F)."""
    first, second = features.chunk(2)
    return torch.sqrt((first - second).square().mean(1) + 1e-6)


def log_chance(policy: RelaxedPolicy, draw: Draw) -> Tensor:
    """Logarithm (B,) of the chance of each image's choices and of their gates, differentiable."""
    place = draw.choice[..., None]
    chosen = policy.log_weight()[draw.sub_policy].gather(2, place)
    logit = policy.raw("gate")[draw.sub_policy].gather(2, place)
    is_open = logit.detach() + draw.logistic.gather(2, place) > 0
    return (chosen + functional.logsigmoid(torch.where(is_open, logit, -logit))).sum((1, 2))


def outcome_advantage(gains: Tensor, spreads: Tensor) -> Tensor:
    """How much better (B,) an image's draw came out than another would have: what log_chance is to be raised by.

    Args:
        gains: (B,), rows i and i + B / 2 being draws of one image. Each is the other's baseline, which takes out what
            the image itself is like.
        spreads: (B / 2,) between the two draws of an image; the other images' mean is their baseline.
    """
    twins = gains.roll(len(gains) // 2)
    above = (spreads - spreads.mean()) * (len(spreads) / max(len(spreads) - 1, 1))
    return gains - twins + torch.cat([above, above])


def group_strengths(policy: RelaxedPolicy) -> dict[str, Tensor]:
    """How much each group of operations varies the images, per group, as a fraction of its widest possible variation.

    For one operation of one sub-policy and stage: it acts with probability q = weight * gate and then moves the
    magnitude uniformly within its ends, otherwise leaves it at the identity. The standard deviation of that mixture,
    in units of the bounds' half-width (in the unit in which the ends are learnt), is its strength: 0 for an operation
    that is never drawn, and 0 too for one that always does the same, which is a degradation and not an augmentation.
    Stages add up in the square, sub-policies are averaged, and the operations of a group add up in the square.
    """
    variances: dict[str, Tensor] = {}
    for operation, (_, mean, square) in zip(policy.operations, _moments(policy), strict=True):
        total = (square - mean * mean).sum(1).mean()
        group = str(operation.group)
        variances[group] = variances[group] + total if group in variances else total
    return {group: torch.sqrt(variance + 1e-8) for group, variance in variances.items()}


def _moments(policy: RelaxedPolicy) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Per operation, each (P, S): the chance that it acts, and the mean displacement of the magnitude and its square.

    In units of the bounds' half-width, 0 where it does not act; an operation without a magnitude moves by 1.
    """
    table = policy.table()
    chance = table.weight * table.gate
    for k, operation in enumerate(policy.operations):
        q = chance[..., k]
        span = operation.magnitude
        if span is None:
            yield q, q, q
            continue
        half = (span.forward(span.high) - span.forward(span.low)) / 2
        ends = [table.low[..., k], table.high[..., k]]
        if span.logarithmic:
            ends = [end.log() for end in ends]
        low, high = ((end - span.forward(span.identity)) / half for end in ends)
        yield q, q * (low + high) / 2, q * (low * low + low * high + high * high) / 3


class Effect(NamedTuple):
    """What an operation does to a data set, over sub-policies and stages.

    Attributes:
        chance: that it acts on an image.
        displacement: of the magnitude from the identity where it acts, root mean square, in units of the bounds'
            half-width; 1 for operations without a magnitude.
        constancy: share of its mean square displacement that is the same for all images; 1 is a constant degradation,
            0 one that goes as far one way as the other.
    """

    chance: float
    displacement: float
    constancy: float


@torch.no_grad()
def operation_effects(policy: RelaxedPolicy) -> dict[str, Effect]:
    """The effect of every operation, by name; where several stages may draw it, their displacements are summed."""
    effects = {}
    for operation, moments in zip(policy.operations, _moments(policy), strict=True):
        chance, mean, square = (moment.sum(1).mean().item() for moment in moments)
        if chance < 1e-12 or square < 1e-12:
            effects[operation.name] = Effect(chance, 0.0, 0.0)
        else:
            effects[operation.name] = Effect(chance, math.sqrt(square / chance), mean * mean / square)
    return effects


def stage_variety(policy: RelaxedPolicy) -> Tensor:
    """Entropy (S,) of each stage's choice over all sub-policies, from 0 (one operation) to 1 (all alike).

    Stages with one operation to choose have 1.
    """
    weight = policy.table().weight.mean(0)
    entropy = -torch.xlogy(weight, weight.clamp_min(1e-12)).sum(-1)
    count = policy.allowed.sum(-1)
    return torch.where(count > 1, entropy / count.clamp_min(2).log(), 1.0)


def floor_penalty(values: Tensor, floor: float) -> Tensor:
    """Sum of the squared shortfalls of `values` (N,) below `floor`, relative to it; 0 for a floor of 0."""
    return torch.relu(1 - values / floor).square().sum() if floor > 0 else values.sum() * 0

"""Losses of the search: WGAN-GP for the critic, and what the policy is asked for."""

from __future__ import annotations

import math

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

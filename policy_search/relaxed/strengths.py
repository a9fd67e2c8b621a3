"""How strongly a policy varies images, operation by operation, and the floors that hold that strength up.

Only variation counts, not displacement: an operation that acts always and does the same each time is a degradation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from policy_search.relaxed.operations import Operation
from policy_search.relaxed.policy import RelaxedPolicy

_ROUNDS = 3  # of putting a policy back above its floors; a step of the search leaves it a few percent below
_ABOVE = 1.01  # times the floor: what they put it back to, as the last round ends a little short of its aim
_REACH = 0.1  # raw units: the most that a round changes a parameter


def carries(operation: Operation) -> bool:
    """Whether an operation's strength counts towards the floors.

    Geometry and occlusion do, and so do tone and texture that can grow from nothing. Inversion, solarisation,
    posterisation and equalisation change the look of an image at a stroke: they may be drawn, but must not be what
    keeps a group alive.
    """
    return (operation.curve is None and operation.pixels is None) or operation.rests


class Moments(NamedTuple):
    """What the K operations do to an image, each (K,): means over the sub-policies, stages summed.

    Lengths are in half-widths of the magnitude's bounds, in the unit in which the ends are learnt, and are 0 where the
    operation does not act. Without a magnitude, acting moves by 1.

    Attributes:
        chance: that the operation acts.
        strength: the chance that it acts times how far it varies then. That is, where the identity lies within the
            bounds (brightness, scale), how far the range reaches to *both* sides of it, the lesser of the two;
            elsewhere (blur, noise), half the range's width, less the gap between it and the gentlest magnitude. So a
            range on one side of the identity, or one of blurs that are all strong, has no strength or a negative one,
            and a constant degradation never has any. Without a magnitude: chance x (1 - chance), stages summed.
        mean, square: displacement of the magnitude from the identity, and its square.
    """

    chance: Tensor
    strength: Tensor
    mean: Tensor
    square: Tensor


class _Bounds(NamedTuple):
    """The magnitudes of K operations, each (K,)."""

    identity: Tensor  # its place, where the bounds are 0 and 1
    wide: Tensor  # 1 where the ends may lie apart, else 0
    two_sided: Tensor  # bool, whether the identity lies between the bounds
    plain: Tensor  # bool, whether there is no magnitude

    @classmethod
    def of(cls, operations: tuple[Operation, ...], device: torch.device) -> _Bounds:
        spans = [operation.magnitude for operation in operations]
        places = [
            0.0 if s is None else (s.forward(s.identity) - s.forward(s.low)) / (s.forward(s.high) - s.forward(s.low))
            for s in spans
        ]
        return cls(
            torch.tensor(places, device=device),
            torch.tensor([float(s is not None and not s.single) for s in spans], device=device),
            torch.tensor([1e-6 < place < 1 - 1e-6 for place in places], device=device),
            torch.tensor([s is None for s in spans], device=device),
        )

    def moments(self, raw: Mapping[str, Tensor], weight: Tensor) -> Moments:
        """Of raw gates, centres and widths and of softmax weights, each (P, S, K)."""
        chance = weight * torch.sigmoid(raw["gate"])
        middle = torch.sigmoid(raw["centre"])
        half = torch.sigmoid(raw["width"]) * torch.minimum(middle, 1 - middle) * self.wide
        low, high = (2 * (middle + end - self.identity) for end in (-half, half))
        gap = 2 * (middle - half) - 2 * self.identity.clamp(0, 1)
        down, up, inside = (_total(chance * length) for length in (-low, high, 2 * half - gap))
        average = chance.mean(0)
        strength = torch.where(self.two_sided, torch.minimum(down, up), inside)
        strength = torch.where(self.plain, (average * (1 - average)).sum(0), strength)
        mean, square = (low + high) / 2, (low * low + low * high + high * high) / 3
        mean, square = (_total(chance * torch.where(self.plain, 1.0, part)) for part in (mean, square))
        return Moments(average.sum(0), strength, mean, square)


def _total(part: Tensor) -> Tensor:
    return part.mean(0).sum(0)


def _policy_moments(policy: RelaxedPolicy) -> Moments:
    weight = policy.log_weight().exp()
    raw = {name: policy.raw(name) for name in ("gate", "centre", "width")}
    return _Bounds.of(policy.operations, weight.device).moments(raw, weight)


class Effect(NamedTuple):
    """What an operation does to a data set, over sub-policies and stages.

    Attributes:
        chance: that it acts on an image.
        strength: see `Moments`.
        displacement: of the magnitude from the identity where it acts, root mean square, in units of the bounds'
            half-width; 1 for operations without a magnitude.
        constancy: share of its mean square displacement that is the same for all images; 1 is a constant degradation,
            0 one that goes as far one way as the other.
    """

    chance: float
    strength: float
    displacement: float
    constancy: float


@torch.no_grad()
def operation_effects(policy: RelaxedPolicy) -> dict[str, Effect]:
    """The effect of every operation, by name; where several stages may draw it, their displacements are summed."""
    effects = {}
    for operation, numbers in zip(policy.operations, torch.stack(_policy_moments(policy)).T.tolist(), strict=True):
        chance, strength, mean, square = numbers
        still = chance < 1e-12 or square < 1e-12
        displacement, constancy = (0.0, 0.0) if still else (math.sqrt(square / chance), mean * mean / square)
        effects[operation.name] = Effect(chance, strength, displacement, constancy)
    return effects


def variety(weight: Tensor, allowed: Tensor) -> Tensor:
    """Entropy (S,) of each stage's choice over all sub-policies, from 0 (one operation) to 1 (all alike).

    Args:
        weight: (P, S, K) of the softmax.
        allowed: (S, K) bool. Stages with one operation to choose have 1.
    """
    mean = weight.mean(0)
    entropy = -torch.xlogy(mean, mean.clamp_min(1e-12)).sum(-1)
    count = allowed.sum(-1)
    return torch.where(count > 1, entropy / count.clamp_min(2).log(), 1.0)


class Floors:
    """The least strength of groups and operations, and the least variety of stages, and the way back to them.

    Strengths are measured in those of the policy before learning, whose ranges the catalogue has chosen as moderate and
    whose choices are even: 1 is as strong as that.

    A penalty in the loss would be one voice among losses whose noise grows as the distance is pressed down. So what
    falls below is put back after every step, whatever the losses want: where distance and floors cannot both be had,
    the floors are.

    Args:
        policy: as it starts.
        group: least strength of every group, the mean over its operations that carry it (see `carries`).
        operation: least strength of each of these operations; with 0 their ranges still have to hold the identity.
        variety: least variety of every stage.
        abrupt: largest chance that an image meets one of the operations that do not carry.
    """

    def __init__(self, policy: RelaxedPolicy, *, group: float, operation: float, variety: float, abrupt: float) -> None:
        operations, device = policy.operations, policy.allowed.device
        # What no stage of the plan may choose never acts, and has no strength to be measured in.
        chosen = {k for entries in policy.stage_operations for k, _ in entries}
        carriers = [k for k, entry in enumerate(operations) if carries(entry) and k in chosen]
        self.groups = tuple(dict.fromkeys(str(operations[k].group) for k in carriers))
        self._allowed, self._bounds = policy.allowed, _Bounds.of(operations, device)
        self._carriers = torch.tensor(carriers, dtype=torch.int64, device=device)
        belongs = [[float(str(operations[k].group) == name) for k in carriers] for name in self.groups]
        mean = torch.tensor(belongs, device=device).reshape(len(self.groups), len(carriers))
        self._mean = mean / mean.sum(1, keepdim=True)
        self._others = torch.tensor([float(not carries(entry)) for entry in operations], device=device)
        with torch.no_grad():
            # Without the random offsets, which differ from seed to seed.
            raw = {name: part.expand(1, *policy.allowed.shape) for name, part in policy.base.items()}
            self._start = self._bounds.moments(raw, self._weight(raw["choice"], policy.temperature)).strength
        floors = [group] * len(self.groups) + [operation] * len(carriers) + [variety] * policy.stages + [1 - abrupt]
        self._floors = torch.tensor(floors, device=device)
        # Variety and the chance of no abrupt operation are at most 1.
        shares = torch.tensor([False] * (len(floors) - policy.stages - 1) + [True] * (policy.stages + 1), device=device)
        above = _ABOVE * self._floors
        self._aims = torch.where(shares, torch.minimum(above, (1 + self._floors) / 2), above)

    def strengths(self, policy: RelaxedPolicy) -> dict[str, Tensor]:
        """Of every group."""
        with torch.no_grad():
            raw = {name: policy.raw(name) for name in policy.base}
            strength = self._bounds.moments(raw, self._weight(raw["choice"], policy.temperature)).strength
            return dict(zip(self.groups, (self._mean @ self._relative(strength)).unbind(), strict=True))

    def restore(self, policy: RelaxedPolicy) -> None:
        """Put a policy that has sunk a little below its floors back onto them, by the shortest way, in place."""
        for _ in range(_ROUNDS):
            with torch.no_grad():
                raw = {name: policy.raw(name) for name in policy.base}
            for part in raw.values():
                part.requires_grad_(True)
            with torch.enable_grad():
                weight = self._weight(raw["choice"], policy.temperature)
                moments = self._bounds.moments(raw, weight)
                relative, others = self._relative(moments.strength), moments.chance @ self._others
                values = torch.cat(
                    [self._mean @ relative, relative, variety(weight, self._allowed), (1 - others).reshape(1)]
                )
                lack = torch.relu(self._aims - values) * (values < self._floors)
                loss = lack.square().sum() / 2
                slopes = dict(zip(raw, torch.autograd.grad(loss, list(raw.values())), strict=True))
            with torch.no_grad():
                base = {name: slope.sum_to_size(policy.base[name].shape) for name, slope in slopes.items()}
                steepness = sum(s.square().sum() for part in (base, slopes) for s in part.values())
                # Polyak's step for a loss whose least value, 0, is known: exact for a single floor.
                size = 2 * loss.detach() / (steepness + 1e-12)
                for learnt, part in ((policy.base, base), (policy.offset, slopes)):
                    for name, slope in part.items():
                        learnt[name].sub_((size * slope).clamp(-_REACH, _REACH))

    def _weight(self, choice: Tensor, temperature: float) -> Tensor:
        return torch.softmax((choice / temperature).masked_fill(~self._allowed, -torch.inf), -1)

    def _relative(self, strength: Tensor) -> Tensor:
        """Of the operations that carry, in those of the start."""
        return strength[self._carriers] / self._start[self._carriers]

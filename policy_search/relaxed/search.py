"""The inner search: a policy and a critic trained against each other, until augmented and real pairs match.

Two modes. *Matching* (`real` given): the policy turns the source's pairs into pairs like the real ones. *Source* (no
`real`): matching a data set with itself is solved by doing nothing, so the policy is asked for the widest spread
between two draws of one image that the critic still puts within a stated distance of the real pairs, and never falls
below floors under the strength of groups and operations (strengths.py), so that the cheapest ones do not carry all of
it. Where the distance asked cannot be had above the floors, the floors hold and the reports show a larger distance.

Everything lives on one device. A step computes all losses and gradients, fetches the losses in one transfer, and only
then, if they are finite, updates critic and policy.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from policy_search.relaxed import losses
from policy_search.relaxed.application import Application, apply
from policy_search.relaxed.catalogue import operations
from policy_search.relaxed.control import Control
from policy_search.relaxed.critic import Critic, RandomFeatures
from policy_search.relaxed.crops import CropSampler, Pair, PairSampler, PixelStatistics
from policy_search.relaxed.instance_channels import PLANES
from policy_search.relaxed.operations import PLAN, Plan
from policy_search.relaxed.policy import Draw, RelaxedPolicy
from policy_search.relaxed.strengths import Floors


class SearchSettings(BaseModel):
    """What a search depends on besides its data and seed.

    Learning rates, penalty and pooling are those with which planted shifts were found again (tests/relaxed). The critic
    needs some 60 steps before it tells at all: a policy that learns before that runs away from the distance asked for.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    operation_names: tuple[str, ...] = Field(default=(), description="names in the catalogue; empty for all")
    sub_policies: int = Field(default=8, ge=1)
    plan: Plan = Field(default=PLAN, description="the groups that each stage chooses from")
    application: Application = "fused"
    temperature: float = Field(default=1.0, gt=0)

    steps: int = Field(default=200, ge=1, description="steps in which both policy and critic learn")
    warmup: int = Field(default=60, ge=0, description="steps before, in which the critic alone learns")
    batch: int = Field(default=8, ge=2, multiple_of=2, description="augmented images a step, and as many real ones")
    crop: int = Field(default=128, ge=32, multiple_of=2, description="side of what the critic sees, pixels")
    margin: int = Field(default=48, ge=0, description="pixels of context around the crop, from which warps draw")
    instance_channels: bool = Field(default=False, description="the critic also sees outlines and depth of each cell")

    policy_rate: float = Field(default=3e-2, gt=0)
    offset_share: float = Field(default=0.3, ge=0, description="offsets' learning rate, of the policy's")
    choice_share: float = Field(default=1.0, ge=0, description="learning rate of the choices, of the policy's")
    critic_rate: float = Field(default=2e-3, gt=0)
    average: float = Field(default=0.98, ge=0, lt=1, description="decay of the running average that becomes the result")
    penalty: float = Field(default=10.0, gt=0)
    norm: float = Field(default=10.0, gt=0, description="target of the gradient norm")

    distance: float = Field(default=1.5, gt=0, description="source mode: critic distance that the spread may cost")
    floor: float = Field(
        default=0.6, ge=0, description="source mode: least strength of every group, of that before learning"
    )
    operation_floor: float = Field(
        default=0.4, ge=0, description="source mode: the same of every operation that carries its group"
    )
    abrupt: float = Field(
        default=0.1, ge=0, le=1, description="source mode: largest chance of operations that carry no group"
    )
    variety: float = Field(default=0.6, ge=0, lt=1, description="source mode: least entropy of a stage, of its most")
    constrained: bool = Field(
        default=True,
        description="source mode: ask for spread and keep the floors; without, the policy only lowers the distance, "
        "which ends in doing nothing (for comparison)",
    )
    integral: float = Field(default=0.1, gt=0, description="source mode: change of the log multiplier a step")
    proportion: float = Field(default=1.0, ge=0, description="source mode: the log multiplier's share of the error")


class StepReport(NamedTuple):
    """One step. `distance` is the critic's (mean score of real minus augmented), nan-free or the search stops.

    `strengths` are those of the groups in source mode, of what they were before learning: see `strengths.Floors`.
    `multiplier` weighs the distance against the spread. It rises as far as it may where the floors cost more distance
    than was asked for.
    """

    step: int
    critic_loss: float
    distance: float
    penalty: float
    policy_loss: float
    spread: float
    multiplier: float
    strengths: dict[str, float]


class SearchResult(NamedTuple):
    """What a search found, and what export needs.

    Attributes:
        policy: the running average of the learnt parameters.
        history: one report per step, warm-up included (negative steps).
        statistics: of the source; its median is the fill of emitted warps.
        settings, seed: as given.
    """

    policy: RelaxedPolicy
    history: list[StepReport]
    statistics: PixelStatistics
    settings: BaseModel
    seed: int


class SearchDivergedError(RuntimeError):
    """A loss stopped being a finite number."""


class Search:
    """All state of a search in one place; `step` advances it.

    Args:
        source: the labelled pairs to augment.
        real: what they are to be like; None for source mode. Without masks, the critic sees images alone.
        settings, seed: see SearchSettings; equal ones give equal policies, bit for bit, on a CPU.
        device: where everything is computed.
        amp: convolutions in bfloat16; None for CUDA only.

    Raises:
        ValueError: `instance_channels` are set and the samplers do not give them, or the other way round.
    """

    def __init__(
        self,
        source: PairSampler,
        real: PairSampler | None,
        settings: SearchSettings,
        seed: int,
        *,
        device: torch.device | str = "cpu",
        amp: bool | None = None,
    ) -> None:
        self.source, self.target, self.settings, self.device = source, real, settings, torch.device(device)
        self.amp = self.device.type == "cuda" if amp is None else amp
        self.statistics = source.statistics()
        # Weights are drawn on the CPU, so that a seed means the same start everywhere.
        first = torch.Generator().manual_seed(seed)
        s, pixels = settings, self.statistics
        masks = min(source.masks, (real or source).masks)
        if (source.masks > 1 and masks not in (0, source.masks)) or s.instance_channels != (source.masks == PLANES):
            raise ValueError(
                f"instance_channels is {s.instance_channels}, and the masks of the source have {source.masks} planes, "
                f"those of the real images {(real or source).masks}: make the samplers with the same instance_channels"
            )
        policy = RelaxedPolicy(
            operations(*s.operation_names),
            sub_policies=s.sub_policies,
            plan=s.plan,
            generator=first,
            temperature=s.temperature,
        )
        critic = Critic(source.channels, pixels.mean, pixels.deviation, generator=first, masks=masks)
        features = RandomFeatures(critic, generator=first)
        self.policy, self.critic = policy.to(self.device), critic.to(self.device)
        self.features = features.to(self.device)
        self.average = copy.deepcopy(self.policy).requires_grad_(False)
        on_cpu = self.device.type == "cpu"
        self.generator = first if on_cpu else torch.Generator(self.device).manual_seed(seed)
        with self._precision():
            self.features.calibrate(self.critic.standardise(*source.sample(32, s.crop, self.generator)))
        base, offset = s.policy_rate, s.policy_rate * s.offset_share
        groups = [
            {
                "params": [p],
                "lr": rate * (s.choice_share if name == "choice" else 1.0),
                "initial": rate * (s.choice_share if name == "choice" else 1.0),
            }
            for parameters, rate in ((self.policy.base, base), (self.policy.offset, offset))
            for name, p in parameters.items()
        ]
        self.policy_optimiser = torch.optim.Adam(groups, betas=(0.0, 0.9))
        self.critic_optimiser = torch.optim.Adam(self.critic.parameters(), lr=s.critic_rate, betas=(0.0, 0.9))
        self.control = Control(s.distance, integral=s.integral, proportion=s.proportion)
        self.floors = Floors(
            self.policy, group=s.floor, operation=s.operation_floor, variety=s.variety, abrupt=s.abrupt
        )
        self.done = -s.warmup

    def step(self) -> StepReport:
        """One critic update and, after the warm-up, one policy update on the same augmented pairs.

        Both gradients are taken at the same critic: the critic's own pass over the augmented pairs has the policy's.

        Raises:
            SearchDivergedError: a loss is not finite; nothing is updated with it.
        """
        s = self.settings
        learning = self.done >= 0
        image, mask = self._source_pairs()
        draw = self.policy.draw(s.batch, self.generator)
        with torch.set_grad_enabled(learning):
            image, mask = apply(
                self.policy,
                image,
                mask,
                self.generator,
                fill=self.statistics.median / 255,
                size=s.crop,
                application=s.application,
                draw=draw,
            )
            augmented = self.critic.standardise(image, mask)
        real = self.critic.standardise(*(self.target or self.source).sample(s.batch, s.crop, self.generator))
        found, scores, gradient = self._critic_gradients(real, augmented.detach(), learning)
        strengths: dict[str, Tensor] = {}
        if learning:
            more, strengths = self._policy_gradients(draw, augmented, scores, gradient, found["distance"])
            found |= more
        # The one transfer of a step.
        values = torch.stack([*found.values(), *strengths.values()]).tolist()
        fetched = dict(zip(found, values, strict=False))
        self._require_finite(fetched)
        self.critic_optimiser.step()
        if learning:
            self._update_policy(fetched["distance"])
        report = StepReport(
            self.done,
            fetched["critic loss"],
            fetched["distance"],
            fetched["penalty"],
            fetched.get("policy loss", 0.0),
            fetched.get("spread", 0.0),
            self.control.multiplier,
            dict(zip(strengths, values[len(found) :], strict=True)),
        )
        self.done += 1
        return report

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp)

    def _source_pairs(self) -> tuple[Tensor, Tensor]:
        s = self.settings
        size = s.crop + 2 * s.margin
        if self.target is not None:
            return self.source.sample(s.batch, size, self.generator)
        image, mask = self.source.sample(s.batch // 2, size, self.generator)
        return torch.cat([image, image]), torch.cat([mask, mask])

    def _critic_gradients(
        self, real: Tensor, augmented: Tensor, learning: bool
    ) -> tuple[dict[str, Tensor], Tensor, Tensor | None]:
        """Losses, with the critic's gradients in place; the augmented pairs' scores, and their mean's gradient."""
        s = self.settings
        augmented.requires_grad_(learning)
        with self._precision():
            scores = self.critic(torch.cat([real, augmented]))
            distance = scores[: len(real)].mean() - scores[len(real) :].mean()
            penalty = losses.gradient_penalty(self.critic, real, augmented, self.generator, s.norm, s.crop**2)
        loss = -distance + s.penalty * penalty
        self.critic_optimiser.zero_grad(set_to_none=True)
        loss.backward()
        found = {"critic loss": loss, "distance": distance, "penalty": penalty}
        return {n: value.detach() for n, value in found.items()}, scores[len(real) :].detach(), augmented.grad

    def _policy_gradients(
        self, draw: Draw, augmented: Tensor, scores: Tensor, gradient: Tensor | None, distance: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Losses and strengths, with the policy's gradients in place; `gradient` is that of the mean of `scores`."""
        self.policy_optimiser.zero_grad(set_to_none=True)
        strengths = self.floors.strengths(self.policy)
        if self.target is not None:
            augmented.backward(-gradient)
            return {"policy loss": distance, "spread": torch.zeros_like(distance)}, strengths
        # Weights that sum to 1: a large multiplier must not drown one image's part in the noise of another's.
        share = 1 / (1 + self.control.multiplier) if self.settings.constrained else 0.0
        weight = (1 - share) / self.settings.distance
        with self._precision():
            between = losses.spread(self.features(augmented))
        # The logarithm: it is worth more to vary another image than to vary one beyond recognition.
        worth = torch.log1p(between)
        torch.autograd.backward([-share * worth.mean(), augmented], [None, -weight * gradient])
        # What choices and gates would change is too much for the slope of the critic at another image: they learn
        # from what came of those that were drawn (REINFORCE), and not through the images.
        for parameters in (self.policy.base, self.policy.offset):
            for name in ("choice", "gate"):
                parameters[name].grad = None
        worth = worth.detach()
        outcome = losses.outcome_advantage(weight * scores, share * worth)
        (-(outcome * losses.log_chance(self.policy, draw)).mean()).backward()
        return {"policy loss": weight * distance - share * worth.mean(), "spread": between.detach().mean()}, strengths

    def _update_policy(self, distance: float) -> None:
        """Take the policy's step, and the multiplier's and the running average's."""
        s = self.settings
        constrained = self.target is None and s.constrained
        for group in self.policy_optimiser.param_groups:
            group["lr"] = group["initial"] * min(1.0, 2 * (1 - self.done / s.steps))
        self.policy_optimiser.step()
        if constrained:
            self.control(distance)
            self.floors.restore(self.policy)
        # A running average that starts at the first value would remember the start for ever in a short run.
        decay = min(s.average, self.done / (self.done + 10))
        for kept, now in zip(self.average.parameters(), self.policy.parameters(), strict=True):
            kept.lerp_(now.detach(), 1 - decay)
        if constrained:
            self.floors.restore(self.average)

    def _require_finite(self, values: dict[str, float]) -> None:
        if not all(math.isfinite(v) for v in values.values()):
            found = ", ".join(f"{name} = {value}" for name, value in values.items())
            raise SearchDivergedError(
                f"the search diverged at step {self.done}: {found}. Lower policy_rate or critic_rate, or raise norm."
            )

    def state_dict(self) -> dict[str, Any]:
        """A copy of everything that `step` reads or changes, except data and settings."""
        state = {
            "policy": self.policy.state_dict(),
            "average": self.average.state_dict(),
            "critic": self.critic.state_dict(),
            "features": self.features.state_dict(),
            "policy_optimiser": self.policy_optimiser.state_dict(),
            "critic_optimiser": self.critic_optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "control": self.control.state_dict(),
            "done": self.done,
        }
        return copy.deepcopy(state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        for name in ("policy", "average", "critic", "features", "policy_optimiser", "critic_optimiser", "control"):
            getattr(self, name).load_state_dict(state[name])
        self.generator.set_state(state["generator"].cpu())  # of any device: its state lies on the host
        self.done = state["done"]


def search_policy(
    source: PairSampler | Sequence[Pair],
    real: PairSampler | Sequence[Pair] | None = None,
    *,
    settings: SearchSettings | None = None,
    seed: int,
    on_step: Callable[[StepReport], None] | None = None,
    device: torch.device | str = "cpu",
    amp: bool | None = None,
) -> SearchResult:
    """Learn a policy.

    Args:
        source: the labelled pairs to augment, as for CropSampler, or a sampler.
        real: pairs that the augmented ones are to be like, or images without masks (None); None for the source itself
            (see the module's docstring).
        settings: defaults when None.
        seed: equal seed, data, settings and thread count give an equal result, bit for bit, on a CPU.
        on_step: called after every step; what it raises stops the search.
        device, amp: see Search.

    Raises:
        DataError: images or masks that cannot be used.
        SearchDivergedError: a loss is not finite; the message names the step and the losses.
    """
    settings = settings or SearchSettings()
    planes = settings.instance_channels
    sampler = CropSampler(source, instance_channels=planes) if isinstance(source, Sequence) else source
    target = CropSampler(real, instance_channels=planes) if isinstance(real, Sequence) else real
    search = Search(sampler, target, settings, seed, device=device, amp=amp)
    history: list[StepReport] = []
    while search.done < settings.steps:
        history.append(search.step())
        if on_step is not None:
            on_step(history[-1])
    return SearchResult(search.average, history, search.statistics, settings, seed)

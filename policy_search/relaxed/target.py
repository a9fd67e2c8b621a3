"""Target mode: the policy that makes the source's images look like unlabelled ones of other cells.

In stretches, all on one schedule:

* *levels*: tone alone, by the statistics of grey levels alone. A shift in brightness can be eighty deviations away, and
  nothing else can be learnt beside it.
* *still*: everything but geometry. *moving*, *moved*: everything, first with crops shifted by part of a pixel, then
  as Albumentations will do it. Any warp smooths the image a little, so "no warp" lies behind a wall: both sides are
  searched, and the warp has to be earned by a nearer match. Where one warp is clearly near the target already, the
  search begins at it and leaves the others shut (scan.py).
* *chosen*: until here every operation acts on every image, one after the other (the simple form). Now each stage
  chooses (discretise.py), the choices are put to the test (settle.py), and the policy of P sub-policies, S stages and K
  operations goes on from there. Where the simple form is what was asked for, it goes on with as few operations as do.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from policy_search.relaxed.catalogue import operations
from policy_search.relaxed.chooser import Chooser
from policy_search.relaxed.crops import CropSampler, Pair, PairSampler
from policy_search.relaxed.discretise import choosing, discretise, sparse
from policy_search.relaxed.gauge import Gauge, is_clear
from policy_search.relaxed.learner import Learner
from policy_search.relaxed.moments import MomentCritic, reference
from policy_search.relaxed.operations import PLAN, Plan, simple_plan
from policy_search.relaxed.policy import SHUT, RelaxedPolicy
from policy_search.relaxed.pool import CropPool
from policy_search.relaxed.scan import begin_warp, rest_idle_turns
from policy_search.relaxed.search import SearchDivergedError, SearchResult, StepReport
from policy_search.relaxed.settle import Settler
from policy_search.relaxed.statistics import ImageStatistics

# Shares of the steps.
_STRETCHES = {"levels": 1, "still": 5, "moving": 4, "moved": 2, "chosen": 3}
LEAST_STEPS = 12  # so that every stretch has one
_CROPS = 1024  # that are kept of the source
_REFERENCE = 2048  # of each side, from which the reference moments are taken
_TYPICAL = 64  # of them, whose grey levels stand for the source's
_LAST_SHARE = 0.15  # of the rates, in the last stretch


class TargetSettings(BaseModel):
    """What a target-mode search depends on besides its data and seed; the full form of experiments/recovery.py
    has more sub-policies and is otherwise the default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    operation_names: tuple[str, ...] = Field(default=(), description="names in the catalogue; empty for all")
    sub_policies: int = Field(default=8, ge=1)
    plan: Plan = Field(default=PLAN, description="the groups (or operations) that each stage chooses from")
    steps: int = Field(default=320, ge=LEAST_STEPS)
    batch: int = Field(default=8, ge=2, description="crops a step")
    crop: int = Field(default=128, ge=32, multiple_of=2, description="side of what the critic sees, pixels")
    margin: int = Field(default=64, ge=0, description="pixels of context around the crop, from which warps draw")
    rate: float = Field(default=0.1, gt=0, description="largest change of a raw parameter a step")
    reach: float = Field(default=1.0, gt=0, description="largest change of the statistics a step, in deviations")
    offset_share: float = Field(default=0.3, ge=0)
    choice_share: float = Field(default=0.3, ge=0)
    memory: float = Field(default=0.8, ge=0, lt=1, description="decay of the critic's running moments")
    variance_weight: float = Field(default=0.3, ge=0)
    warmup: int = Field(default=0, ge=0, le=0, description="none: the critic is known in closed form")


class TargetSearch:
    """All state of a target-mode search; `step` advances it.

    Args:
        source: what is augmented.
        target: images of the target; their masks are never looked at.
        settings, seed: as ever.
        device: where everything is computed.
    """

    def __init__(
        self,
        source: PairSampler,
        target: PairSampler,
        settings: TargetSettings,
        seed: int,
        *,
        device: torch.device | str = "cpu",
    ) -> None:
        self.settings, self.device = settings, torch.device(device)
        self.statistics = source.statistics()
        self.fill = self.statistics.median / 255
        # Weights are drawn on the CPU, so that a seed means the same start everywhere.
        first = torch.Generator().manual_seed(seed)
        s = settings
        chosen = operations(*s.operation_names)
        self.policy = RelaxedPolicy(
            chosen, sub_policies=s.sub_policies, plan=s.plan, generator=first, spread=0.0, start="identity"
        ).to(self.device)
        on_cpu = self.device.type == "cpu"
        self.generator = first if on_cpu else torch.Generator(self.device).manual_seed(seed)
        self.measure = ImageStatistics(self.statistics.mean, self.statistics.deviation)
        self.pool = CropPool(source, _CROPS, size=s.crop, margin=s.margin, generator=self.generator)
        # Without context, as crops with it never show the outer parts of an image.
        own, theirs = (
            CropPool(sampler, _REFERENCE, size=s.crop, margin=0, generator=self.generator).measured(self.measure)
            for sampler in (source, target)
        )
        levels = self.measure.count_levels(source.channels)
        self.known = reference(own, theirs)
        self._known_levels = reference(own[:, :levels], theirs[:, :levels])
        before = self.pool.measured(self.measure)
        self._before, self._before_levels = before @ self.known.whiten, before[:, :levels] @ self._known_levels.whiten
        self.gauge = Gauge(self.pool, self._before, self.measure, self.known, fill=self.fill)
        # The simple form of the same stages. What has no smooth beginning (flips, solarize, ...) waits for the choices.
        self._rested = [(k, o) for entries in self.policy.stage_operations for k, o in entries if o.rests]
        self._tone = frozenset(o.name for _, o in self._rested if o.curve is not None)
        self.names = tuple(dict.fromkeys(o.name for _, o in self._rested))
        self.found: dict[str, Any] = {}
        self.done, self._stretch = 0, ""
        self._learner: Learner | None = None
        self.mismatch = float("nan")
        lengths, self._ends = 0, {}
        for name, share in _STRETCHES.items():
            lengths += share
            self._ends[name] = round(s.steps * lengths / sum(_STRETCHES.values()))

    @property
    def average(self) -> RelaxedPolicy:
        """The running average of the policy of the stretch it is in; at the end, the result."""
        return self._learner.average if self._learner is not None else self.policy

    def step(self) -> StepReport:
        """One step of the stretch it is in.

        Raises:
            SearchDivergedError: a loss is not finite; nothing can be learnt from there.
        """
        s = self.settings
        name = next(n for n, end in self._ends.items() if self.done < end)
        if name != self._stretch:
            self._learner, self._stretch = self._begin(name), name
        learner = self._learner
        assert learner is not None  # _begin has just made it
        first = max((end for end in self._ends.values() if end <= self.done), default=0)
        passed = (self.done - first) / (self._ends[name] - first)
        batch = self.pool.sample(s.batch, self.generator)
        before = self._before_levels if name == "levels" else self._before
        # The last stretch starts near its end, and is not to be shaken out of it.
        most = _LAST_SHARE if name == "chosen" else 1.0
        share = most * min(1.0, 0.05 + 1.9 * (1 - passed))
        cost, gap = learner.step(batch, before[batch.which], self.generator, share)
        report = StepReport(self.done, 0.0, gap, 0.0, cost, 0.0, 1.0, {})
        if not (abs(cost) < float("inf") and abs(gap) < float("inf")):
            raise SearchDivergedError(
                f"the search diverged at step {self.done} ({name}): policy loss = {cost}, mismatch = {gap}. "
                "Lower rate or reach."
            )
        self.mismatch = gap
        self.done += 1
        return report

    def _begin(self, name: str) -> Learner:
        """The learner of a stretch, from what the stretches before have found."""
        if self._learner is not None:
            self.found[self._stretch] = copy.deepcopy(self._learner.average.state_dict())
        if name == "levels":
            return self._make(self._simple(), self._critic(levels=True), only=self._tone)
        critic = self._critic()
        if name in ("still", "moving"):
            policy = self._simple(self.found["levels"])
            if name == "still":
                self._shut_geometry(policy)
            else:
                begin_warp(policy, self.gauge)
            return self._make(policy, critic, shifted=name == "moving")
        if name == "moved":
            return self._make(self._simple(self.found["moving"]), critic)
        still, moved = (self._simple(self.found[n]) for n in ("still", "moved"))
        simple, chooser = self._chosen(still, moved)
        if not self.is_simple:
            self.policy.load_state_dict(chooser.policy.state_dict())
            return self._make(self.policy, critic)
        best = self._better(still, moved)
        fewest = sparse(simple, chooser)
        best = self._better(fewest, best)
        if best is not fewest:
            rest_idle_turns(best, self.gauge)
        return self._make(best, critic)

    def _chosen(self, still: RelaxedPolicy, moved: RelaxedPolicy) -> tuple[RelaxedPolicy, Chooser]:
        """The better of two simple forms once choices are made of it, and those, tested."""
        found = []
        for simple in (still, moved):
            policy = choosing(simple) if self.is_simple else copy.deepcopy(self.policy)
            chooser = discretise(simple, policy, self.gauge, self._typical(), self.statistics.deviation)
            found.append((simple, Settler(chooser, self.gauge.gap)))
        gaps = [settler.best.mismatch for _, settler in found]
        self.found["gaps"] = torch.tensor(gaps)
        simple, settler = found[is_clear(gaps[1], gaps[0])]
        settler.settle()
        return simple, settler.chooser

    @property
    def is_simple(self) -> bool:
        """Whether no stage has a choice, so that the simple form is the policy asked for."""
        stages = self.policy.stage_operations
        return self.settings.sub_policies == 1 and all(len(entries) == 1 and entries[0][1].rests for entries in stages)

    def _better(self, plain: RelaxedPolicy, other: RelaxedPolicy) -> RelaxedPolicy:
        """The plainer of two policies, unless the other one is clearly nearer to the target."""
        gaps = [self.gauge(policy) for policy in (plain, other)]
        return other if is_clear(gaps[1], gaps[0]) else plain

    def _simple(self, state: dict[str, Tensor] | None = None) -> RelaxedPolicy:
        policy = RelaxedPolicy(
            operations(*self.names),
            sub_policies=1,
            plan=simple_plan(self.names),
            generator=torch.Generator().manual_seed(0),
            spread=0.0,
            start="identity",
        ).to(self.device)
        if state is not None:
            policy.load_state_dict(state)
        return policy

    @staticmethod
    def _shut_geometry(policy: RelaxedPolicy) -> None:
        with torch.no_grad():
            for k, operation in enumerate(policy.operations):
                if operation.matrix is not None:
                    policy.base["gate"][k] = 4 * SHUT

    def _make(self, policy: RelaxedPolicy, critic: MomentCritic, **keywords: Any) -> Learner:
        s = self.settings
        # One sub-policy has nothing to differ in: its base alone says what it does.
        offset_share = s.offset_share if policy.sub_policies > 1 else 0.0
        return Learner(
            policy, critic, fill=self.fill, size=s.crop, rate=s.rate, reach=s.reach, offset_share=offset_share,
            choice_share=s.choice_share, **keywords,
        )  # fmt: skip

    def _critic(self, *, levels: bool = False) -> MomentCritic:
        measure, known = (self.measure.levels, self._known_levels) if levels else (self.measure, self.known)
        s = self.settings
        return MomentCritic(measure, known, memory=s.memory, variance_weight=s.variance_weight)

    def _typical(self) -> Tensor:
        """Many crops as one tall image (1, C, H, W) on the host: the source's grey levels."""
        return self.pool.middles(_TYPICAL).transpose(0, 1).flatten(1, 2)[None].cpu()

    def state_dict(self) -> dict[str, Any]:
        """A copy of everything that `step` reads or changes, except data, settings and the reference moments."""
        return copy.deepcopy(
            {
                "done": self.done,
                "stretch": self._stretch,
                "mismatch": self.mismatch,
                "found": self.found,
                "policy": self.policy.state_dict(),
                "learner": None if self._learner is None else self._learner.state_dict(),
                "generator": self.generator.get_state(),
            }
        )

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        state = copy.deepcopy(state)
        self.found, self.done, self.mismatch = state["found"], state["done"], state["mismatch"]
        self._stretch = state["stretch"]
        if self._stretch:
            # Made anew for its settings; every number in it is then replaced.
            full = self._stretch == "chosen" and not self.is_simple
            only = self._tone if self._stretch == "levels" else None
            critic = self._critic(levels=self._stretch == "levels")
            policy = self.policy if full else self._simple()
            self._learner = self._make(policy, critic, shifted=self._stretch == "moving", only=only)
            self._learner.load_state_dict(state["learner"])
        self.policy.load_state_dict(state["policy"])
        self.generator.set_state(state["generator"].cpu())  # of any device: its state lies on the host


def search_target(
    source: PairSampler | Sequence[Pair],
    target: PairSampler | Sequence[NDArray[np.uint8]],
    *,
    settings: TargetSettings | None = None,
    seed: int,
    on_step: Callable[[StepReport], None] | None = None,
    device: torch.device | str = "cpu",
) -> SearchResult:
    """Learn a policy that turns source images into images like the target's.

    Args:
        source: pairs of images (H, W) or (H, W, 3) uint8 and masks (H, W) bool, or a sampler.
        target: images (H, W) or (H, W, 3) uint8, or a sampler; no labels.
        settings: defaults when None.
        seed: equal seed, data, settings and thread count give an equal result, bit for bit, on a CPU.
        on_step: called after every step; what it raises stops the search.
        device: where everything is computed.

    Raises:
        DataError: images that cannot be used.
        SearchDivergedError: a loss is not finite; the message names the step and the losses.
    """
    settings = settings or TargetSettings()
    images = target if not isinstance(target, Sequence) else unlabelled(target)
    sampler = CropSampler(source) if isinstance(source, Sequence) else source
    search = TargetSearch(sampler, images, settings, seed, device=device)
    history: list[StepReport] = []
    while search.done < settings.steps:
        history.append(search.step())
        if on_step is not None:
            on_step(history[-1])
    return SearchResult(search.average, history, search.statistics, settings, seed)


def unlabelled(images: Sequence[NDArray[np.uint8]]) -> CropSampler:
    """A sampler of images (H, W) or (H, W, 3) uint8 alone."""
    return CropSampler([(image, None) for image in images])

"""The space of policies: families with conditional parameters, and the policies that are tried first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.trial import BaseTrial

from policy_search.augment import SINGLE_STRATEGIES, PolicyDocument, baseline, choice, stacked
from policy_search.augment.sub_policies import choice_of, stack_of
from policy_search.study.trivial import NAME as TRIVIAL
from policy_search.study.trivial import trivial_augment

FAMILIES = ("searched", "stacked", "choice", "stacked_searched", "choice_searched")
TARGETED = "targeted"  # one more, where there are images of the types that a policy is for
SEARCHED = ("searched", TARGETED)  # the families whose policies an inner search learns
FAMILY = "family"  # the parameter that all others depend on
# A stack or a choice over a searched policy takes its heaviest sub-policies, at most these: as many as there are naive
# strategies, and few enough for a model of their weights to be learnt in some tens of trials.
HEAVIEST = 6
_RANKS = tuple(range(1, HEAVIEST + 1))
_UNIT = FloatDistribution(0.0, 1.0)


@dataclass(frozen=True)
class Knobs:
    """What a trial decides about the inner search.

    Attributes:
        sub_policies: 1 … 16.
        distance: critic distance that the spread of the policy may cost, 0.2 … 10: small stays close to the source.
        floor: least strength of every group of operations, 0 … 1 of what it is before learning (moderate ranges, even
            choices): large forces all of them to act.
        variety: least entropy of a stage's choice of operation, as a share of its most, 0 … 0.9.
    """

    sub_policies: int = 8
    distance: float = 1.5
    floor: float = 0.6
    variety: float = 0.6


@dataclass(frozen=True)
class TargetKnobs:
    """What a trial decides about a search in target mode (`relaxed.target`, `relaxed.sized`).

    Attributes:
        sub_policies: 1 … 16.
        share: of the images that meet what was matched, 0 … 1; all of them meet flips and the recognised size.
        spread: of that scaling to either side, 0 … 0.5 of the size.
    """

    sub_policies: int = 8
    share: float = 0.5
    spread: float = 0.1


@dataclass(frozen=True)
class Over:
    """A policy over the sub-policies of a searched one: a stack of them, or a choice among them.

    The values are for the heaviest sub-policy, the next, … `HEAVIEST` of them. Where the searched policy has fewer, the
    last ones mean nothing; where it has more, the lightest are left out (`augment.sub_policies`).

    Attributes:
        p: of a stack, the probability of each, 0 … 1; None for a choice.
        weights: of a choice, summing to 1; None for a stack.
    """

    p: tuple[float, ...] | None = None
    weights: tuple[float, ...] | None = None

    @property
    def kind(self) -> str:
        """`stack` or `choice`."""
        return "choice" if self.p is None else "stack"

    def document(self, searched: PolicyDocument) -> PolicyDocument:
        """The policy over the sub-policies of `searched`; its provenance is left to the caller.

        Raises:
            ValueError: neither p nor weights.
        """
        if self.p is not None:
            return stack_of(searched, self.p)
        if self.weights is None:
            raise ValueError("a policy over sub-policies needs p or weights, and has neither")
        return choice_of(searched, self.weights)


@dataclass(frozen=True)
class Proposal:
    """What a trial is to score. Exactly one of document, knobs and over is there.

    Attributes:
        name: what tables call it.
        family: one of the space's families, or naive.
        baseline: whether it is one of the policies to beat.
        document: a finished policy.
        knobs: with which a policy has to be searched.
        over: what has to be made of the sub-policies of a searched policy.
        weights: of the choice that it is, by strategy or by sub-policy (`sub_policy_1` is the heaviest); else None.
    """

    name: str
    family: str
    baseline: bool
    document: PolicyDocument | None = None
    knobs: Knobs | TargetKnobs | None = None
    over: Over | None = None
    weights: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Queued:
    """A trial that does not wait for the sampler: its parameters, and the name of the baseline it is, if it is one."""

    params: dict[str, Any]
    baseline: str | None


@dataclass(frozen=True)
class Space:
    """Which parameters there are.

    Attributes:
        per_transform: a stack has one probability for each of its members instead of one for all.
        targets: whether there are images of the types that a policy is for, and so policies learnt from them.
    """

    per_transform: bool = False
    targets: bool = False

    @property
    def families(self) -> tuple[str, ...]:
        """What a trial chooses from."""
        return (*FAMILIES, TARGETED) if self.targets else FAMILIES

    def distributions(self, family: str) -> dict[str, BaseDistribution]:
        """The family's own parameters, in the order in which they are drawn."""
        return {
            "searched": {
                "searched.sub_policies": IntDistribution(1, 16, log=True),
                "searched.distance": FloatDistribution(0.2, 10.0, log=True),
                "searched.floor": _UNIT,
                "searched.variety": FloatDistribution(0.0, 0.9),
            },
            "stacked": self._probabilities("stacked", SINGLE_STRATEGIES),
            "choice": {f"choice.u_{name}": _UNIT for name in SINGLE_STRATEGIES},
            "stacked_searched": self._probabilities("stacked_searched", _RANKS),
            "choice_searched": {f"choice_searched.u_{rank}": _UNIT for rank in _RANKS},
            TARGETED: {
                "targeted.sub_policies": IntDistribution(1, 16, log=True),
                "targeted.share": _UNIT,
                "targeted.spread": FloatDistribution(0.0, 0.5),
            },
        }[family]

    def _probabilities(self, family: str, members: Any) -> dict[str, BaseDistribution]:
        if not self.per_transform:
            return {f"{family}.p": _UNIT}
        return {f"{family}.p_{member}": _UNIT for member in members}


def queue(space: Space) -> tuple[Queued, ...]:
    """The first trials, in this order, so that a study cut short after N of them still compares something.

    1. none, 2. random_choice (the paper's best), 3. a searched policy with default knobs, 4. with targets a targeted
    one, then stacked_p0.5, stacked_p0.8, the TrivialAugment-like policy and the six single strategies.

    Baselines that lie in the space carry its parameters, so the sampler learns from them as well.
    """
    even = dict.fromkeys(SINGLE_STRATEGIES, 1.0)
    singles = [Queued(choice_params({name: 1.0}), name) for name in SINGLE_STRATEGIES]
    return (
        Queued(stacked_params(0.0, space), "none"),
        Queued(choice_params(even), "random_choice"),
        Queued(searched_params(Knobs()), None),
        *([Queued(targeted_params(TargetKnobs()), None)] if space.targets else []),
        Queued(stacked_params(0.5, space), "stacked_p0.5"),
        Queued(stacked_params(0.8, space), "stacked_p0.8"),
        Queued({}, TRIVIAL),
        *singles,
    )


def propose(trial: BaseTrial, slot: int, space: Space, fixed: str | None = None) -> Proposal:
    """The proposal of a slot.

    Args:
        trial: asked for the parameters and for nothing else: a trial of a study, or Optuna's FixedTrial.
        slot: its number, for the name.
        space: see `Space`.
        fixed: the baseline that it is, as `queue` names it; the trial is asked for the baseline's parameters all the
            same, so that they stand in the study.

    Raises:
        PolicyError: no such baseline.
    """
    if fixed == TRIVIAL:
        return Proposal(TRIVIAL, "naive", True, document=trivial_augment())
    family = trial.suggest_categorical(FAMILY, space.families)
    drawn = _drawn(trial, space.distributions(family))
    weights = _weights(family, drawn)
    if fixed is not None:
        return Proposal(fixed, "naive", True, document=baseline(fixed), weights=weights)
    name = f"{family}_t{slot:03d}"
    if family == "searched":
        return Proposal(name, family, False, knobs=Knobs(**drawn))
    if family == TARGETED:
        return Proposal(name, family, False, knobs=TargetKnobs(**drawn))
    if family == "stacked":
        p = drawn if space.per_transform else dict.fromkeys(SINGLE_STRATEGIES, drawn["p"])
        p = {member.removeprefix("p_"): value for member, value in p.items()}
        return Proposal(name, family, False, document=stacked(p, name))
    if family == "stacked_searched":
        each = tuple(drawn.values()) if space.per_transform else (drawn["p"],) * HEAVIEST
        return Proposal(name, family, False, over=Over(p=each))
    assert weights is not None  # the two that are left are choices
    if family == "choice":
        return Proposal(name, family, False, document=choice(weights, name), weights=weights)
    return Proposal(name, family, False, over=Over(weights=tuple(weights.values())), weights=weights)


def _drawn(trial: BaseTrial, distributions: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    """The values, by their names without the family."""
    drawn: dict[str, Any] = {}
    for name, kind in distributions.items():
        member = name.partition(".")[2]
        if isinstance(kind, IntDistribution):
            drawn[member] = trial.suggest_int(name, kind.low, kind.high, log=kind.log)
        else:
            drawn[member] = trial.suggest_float(name, kind.low, kind.high, log=kind.log)
    return drawn


def _weights(family: str, drawn: Mapping[str, Any]) -> dict[str, float] | None:
    if family not in ("choice", "choice_searched"):
        return None
    weights = simplex_weights({member.removeprefix("u_"): u for member, u in drawn.items()})
    return weights if family == "choice" else {f"sub_policy_{rank}": weight for rank, weight in weights.items()}


def simplex_weights(uniforms: Mapping[str, float]) -> dict[str, float]:
    """Weights that sum to one, -log(u) normalised: flat on the simplex when every u is uniform on (0, 1].

    u = 0 counts as the smallest normal number instead of an infinite weight; all u = 1 (all weights 0) means equal
    weights.
    """
    raw = {name: -math.log(max(u, 2.0**-1022)) for name, u in uniforms.items()}
    total = sum(raw.values())
    if total == 0.0:
        return dict.fromkeys(raw, 1.0 / len(raw))
    return {name: value / total for name, value in raw.items()}


def choice_params(weights: Mapping[str, float]) -> dict[str, Any]:
    """Parameters of the choice family with which `propose` gives these weights (strategies not named weigh 0)."""
    total = sum(weights.values())
    uniforms = {f"choice.u_{s}": math.exp(-weights.get(s, 0.0) / total) for s in SINGLE_STRATEGIES}
    return {FAMILY: "choice", **uniforms}


def stacked_params(p: float, space: Space) -> dict[str, Any]:
    """Parameters of the stacked family with the same p for all."""
    return {FAMILY: "stacked", **dict.fromkeys(space.distributions("stacked"), p)}


def searched_params(knobs: Knobs) -> dict[str, Any]:
    """Parameters of the searched family."""
    return {
        FAMILY: "searched",
        "searched.sub_policies": knobs.sub_policies,
        "searched.distance": knobs.distance,
        "searched.floor": knobs.floor,
        "searched.variety": knobs.variety,
    }


def targeted_params(knobs: TargetKnobs) -> dict[str, Any]:
    """Parameters of the targeted family."""
    return {FAMILY: TARGETED, **{f"{TARGETED}.{name}": value for name, value in asdict(knobs).items()}}

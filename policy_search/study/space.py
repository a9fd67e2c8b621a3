"""The space of policies: three families with conditional parameters, and the policies that are tried first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optuna

from policy_search.augment import SINGLE_STRATEGIES, PolicyDocument, baseline, choice, stacked
from policy_search.study.trivial import NAME as TRIVIAL
from policy_search.study.trivial import trivial_augment

FAMILIES = ("searched", "stacked", "choice")
BASELINE_ATTR = "baseline"  # user attribute of a queued trial that is one of the policies to beat


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
class Proposal:
    """What a trial is to score: a finished document, or knobs with which one has to be searched.

    Attributes:
        name: what tables call it.
        family: searched, stacked, choice or naive.
        document: None for the searched family.
        knobs: None for the others.
        baseline: whether it is one of the policies to beat.
    """

    name: str
    family: str
    document: PolicyDocument | None
    knobs: Knobs | None
    baseline: bool


@dataclass(frozen=True)
class Queued:
    """A trial that does not wait for the sampler: its parameters, and the name of the baseline it is, if it is one."""

    params: dict[str, Any]
    baseline: str | None


def queue() -> tuple[Queued, ...]:
    """The first trials, in this order, so that a study cut short after N of them still compares something.

    1. none, 2. random_choice (the paper's best), 3. a searched policy with default knobs, 4. stacked_p0.5,
    5. stacked_p0.8, 6. the TrivialAugment-like policy, 7. … the six single strategies.

    Baselines that lie in the space carry its parameters, so the sampler learns from them as well.
    """
    even = dict.fromkeys(SINGLE_STRATEGIES, 1.0)
    singles = [Queued(choice_params({name: 1.0}), name) for name in SINGLE_STRATEGIES]
    return (
        Queued(stacked_params(0.0), "none"),
        Queued(choice_params(even), "random_choice"),
        Queued(searched_params(Knobs()), None),
        Queued(stacked_params(0.5), "stacked_p0.5"),
        Queued(stacked_params(0.8), "stacked_p0.8"),
        Queued({}, TRIVIAL),
        *singles,
    )


def propose(trial: optuna.Trial, slot: int) -> Proposal:
    """Draw the proposal of a slot; sets the user attribute `weights` for the choice family."""
    fixed = trial.user_attrs.get(BASELINE_ATTR)
    if fixed == TRIVIAL:
        return Proposal(TRIVIAL, "naive", trivial_augment(), None, True)
    family = trial.suggest_categorical("family", FAMILIES)
    name = f"{family}_t{slot:03d}"
    if family == "searched":
        return Proposal(name, family, None, _suggest_knobs(trial), False)
    if family == "stacked":
        document = stacked(trial.suggest_float("stacked.p", 0.0, 1.0), name)
    else:
        uniforms = {s: trial.suggest_float(f"choice.u_{s}", 0.0, 1.0) for s in SINGLE_STRATEGIES}
        weights = simplex_weights(uniforms)
        trial.set_user_attr("weights", weights)
        document = choice(weights, name)
    if fixed is not None:
        return Proposal(fixed, "naive", baseline(fixed), None, True)
    return Proposal(name, family, document, None, False)


def _suggest_knobs(trial: optuna.Trial) -> Knobs:
    return Knobs(
        sub_policies=trial.suggest_int("searched.sub_policies", 1, 16, log=True),
        distance=trial.suggest_float("searched.distance", 0.2, 10.0, log=True),
        floor=trial.suggest_float("searched.floor", 0.0, 1.0),
        variety=trial.suggest_float("searched.variety", 0.0, 0.9),
    )


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
    return {"family": "choice", **uniforms}


def stacked_params(p: float) -> dict[str, Any]:
    """Parameters of the stacked family."""
    return {"family": "stacked", "stacked.p": p}


def searched_params(knobs: Knobs) -> dict[str, Any]:
    """Parameters of the searched family."""
    return {
        "family": "searched",
        "searched.sub_policies": knobs.sub_policies,
        "searched.distance": knobs.distance,
        "searched.floor": knobs.floor,
        "searched.variety": knobs.variety,
    }

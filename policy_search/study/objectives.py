"""The objectives that `--objective` names, and the one that decides the second round."""

from __future__ import annotations

import hashlib

from policy_search.cells.errors import InputError
from policy_search.config import RunConfig
from policy_search.study.affinity import AffinityDiversityObjective
from policy_search.study.ap50 import Ap50Objective, Ap50Settings
from policy_search.study.bridge import BridgeObjective
from policy_search.study.data import StudyData
from policy_search.study.objective import Objective
from policy_search.study.objectives_probe import ProbeObjective
from policy_search.study.probe import ProbeSettings
from policy_search.study.tradeoff import TradeoffObjective

__all__ = [
    "NAMES",
    "Objective",
    "ProbeObjective",
    "build_objective",
    "fingerprint_of",
    "judge_of",
    "probe_settings",
    "scored_on",
]

NAMES = ("probe", "bridge", "affinity-diversity", "tradeoff", "ap50")


def build_objective(config: RunConfig, data: StudyData) -> Objective:
    """What `config.objective` names, on `data`. Only checks are made here; nothing is trained or written.

    Raises:
        InputError: it needs what is not there: `--target`, held-out source images, the command `detect`, the weights.
    """
    if config.objective == "probe":
        return ProbeObjective(data, probe_settings(config))
    if config.objective == "bridge":
        return BridgeObjective(data)
    if config.objective in ("affinity-diversity", "tradeoff"):
        both = AffinityDiversityObjective(ProbeObjective(data, probe_settings(config)))
        return both if config.objective == "affinity-diversity" else TradeoffObjective(both)
    if config.objective == "ap50":
        settings = Ap50Settings(iterations=config.ap50_iterations, base_seed=config.seed)
        return Ap50Objective(data, config.out / "ap50", config.weights, settings)
    raise InputError(f"--objective {config.objective}: expected one of {', '.join(NAMES)}")


def judge_of(objective: Objective, config: RunConfig, data: StudyData) -> Objective:
    """The objective with one value that decides the second round: itself, or the product of affinity and diversity."""
    if len(objective.metrics) == 1:
        return objective
    if isinstance(objective, AffinityDiversityObjective):
        return TradeoffObjective(objective)  # its common starts are there already
    return ProbeObjective(data, probe_settings(config))


def fingerprint_of(config: RunConfig, data: StudyData) -> str:
    """Of all that a study is given: the data, and for ap50 the base model where one is named.

    Raises:
        InputError: the base model is not there.
    """
    if config.objective != "ap50" or config.weights is None:
        return data.fingerprint
    try:
        digest = hashlib.sha256(config.weights.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"--weights {config.weights}: cannot be read ({error.strerror})") from None
    return f"{data.fingerprint}-{digest[:8]}"


def scored_on(objective: Objective, data: StudyData) -> str:
    """What scores are taken on, in words that go on after "scored on"."""
    if objective.name == "bridge":
        return f"unlabelled images of {', '.join(data.targets)}"
    if objective.name in ("affinity-diversity", "tradeoff"):
        return f"{len(data.held_out)} held-out images of the source under the policy, and a training with it"
    return data.validation


def probe_settings(config: RunConfig) -> ProbeSettings:
    """The probe's budget in a configuration."""
    return ProbeSettings(base_steps=config.probe_base_steps, steps=config.probe_steps, crop=config.probe_crop)

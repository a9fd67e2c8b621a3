"""Which parameters of the policy space mattered, family by family, where a study has enough trials to ask."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState
from scipy import stats

from policy_search.augment import SINGLE_STRATEGIES
from policy_search.study.verdict import Direction

# The conditional parameters of `space.propose`; the sampler models each family by itself, and so does this.
PARAMETERS = {
    "searched": ("searched.sub_policies", "searched.distance", "searched.floor", "searched.variety"),
    "stacked": ("stacked.p",),
    "choice": tuple(f"choice.u_{name}" for name in SINGLE_STRATEGIES),
}
LEAST, LEAST_PER_PARAMETER = 10, 3  # complete trials: with fewer, importances are noise
BETTER_SHARE = 1 / 3  # importance: how far the values of this best share of the trials differ from all values


@dataclass(frozen=True)
class Parameter:
    """One parameter.

    Attributes:
        name: as a reader knows it: the weight of a strategy, not the uniform number behind it.
        importance: share among the parameters of its family, 0 … 1.
        trend: Spearman's rank correlation with the score, -1 … 1; None where one of both does not vary.
    """

    name: str
    importance: float
    trend: float | None


@dataclass(frozen=True)
class FamilyImportance:
    """The parameters of a family, most important first; empty where `trials` are fewer than `needed`."""

    family: str
    trials: int
    needed: int
    parameters: tuple[Parameter, ...]


def importances(trials: Sequence[FrozenTrial], direction: Direction) -> list[FamilyImportance]:
    """PED-ANOVA's importances (Watanabe et al., IJCAI 2023) and trends of every family.

    Args:
        trials: of a study; complete ones count, naive strategies that lie in a family included.
        direction: of the study.
    """
    return [_of(family, names, trials, direction) for family, names in PARAMETERS.items()]


def _of(family: str, names: Sequence[str], trials: Sequence[FrozenTrial], direction: Direction) -> FamilyImportance:
    own = [t for t in trials if t.state == TrialState.COMPLETE and all(name in t.params for name in names)]
    needed = max(LEAST, LEAST_PER_PARAMETER * len(names))
    if len(own) < needed:
        return FamilyImportance(family, len(own), needed, ())
    shares = {names[0]: 1.0} if len(names) == 1 else _shares(own, names, direction)
    found = [Parameter(_label(name), shares[name], _trend(own, name)) for name in names]
    return FamilyImportance(family, len(own), needed, tuple(sorted(found, key=lambda p: -p.importance)))


def _shares(trials: Sequence[FrozenTrial], names: Sequence[str], direction: Direction) -> dict[str, float]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # a study in memory is no news
    try:
        study = optuna.create_study(direction=direction)
        study.add_trials(trials)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            evaluator = PedAnovaImportanceEvaluator(target_quantile=BETTER_SHARE)
            return get_param_importances(study, evaluator=evaluator, params=list(names))
    finally:
        optuna.logging.set_verbosity(before)


def _trend(trials: Sequence[FrozenTrial], name: str) -> float | None:
    values, scores = [_value(t, name) for t in trials], [t.value for t in trials]
    if len(set(values)) < 2 or len(set(scores)) < 2:
        return None
    return float(stats.spearmanr(values, scores).statistic)


def _value(trial: FrozenTrial, name: str) -> float:
    """The parameter's value; of a choice the weight, to which all six uniform numbers contribute."""
    if name.startswith("choice.u_"):
        return float(trial.user_attrs["weights"][name.removeprefix("choice.u_")])
    return float(trial.params[name])


def _label(name: str) -> str:
    if name.startswith("choice.u_"):
        return f"weight of {name.removeprefix('choice.u_')}"
    return {"stacked.p": "probability p", "searched.sub_policies": "sub-policies"}.get(name, name.partition(".")[2])

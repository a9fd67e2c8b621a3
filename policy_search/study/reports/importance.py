"""Which parameters of the policy space mattered, family by family, where a study has enough trials to ask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState
from scipy import stats

from policy_search.study.quiet import quiet_optuna
from policy_search.study.space import TARGETED, Space
from policy_search.study.storages.memory import in_memory
from policy_search.study.verdict import Direction

LEAST, LEAST_PER_PARAMETER = 10, 3  # complete trials: with fewer, importances are noise
_KINDS = {"u": "weight", "p": "probability"}
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
    """PED-ANOVA's importances (Watanabe et al., IJCAI 2023) and trends of every family, in the order of the space.

    A family is judged by itself, as the planning learns from it: its parameters exist in its own trials only.

    Args:
        trials: of a study; complete ones count, naive strategies that lie in a family included.
        direction: of the study.
    """
    members = ("stacked.p_", "stacked_searched.p_")
    names = {name for trial in trials for name in trial.params}
    space = Space(
        per_transform=any(name.startswith(members) for name in names),
        targets=any(name.startswith(f"{TARGETED}.") for name in names),
    )
    return [_of(family, list(space.distributions(family)), trials, direction) for family in space.families]


def _of(family: str, names: Sequence[str], trials: Sequence[FrozenTrial], direction: Direction) -> FamilyImportance:
    own = [t for t in trials if t.state == TrialState.COMPLETE and all(name in t.params for name in names)]
    needed = max(LEAST, LEAST_PER_PARAMETER * len(names))
    if len(own) < needed:
        return FamilyImportance(family, len(own), needed, ())
    shares = {names[0]: 1.0} if len(names) == 1 else _shares(own, names, direction)
    found = [Parameter(_label(name), shares[name], _trend(own, name)) for name in names]
    return FamilyImportance(family, len(own), needed, tuple(sorted(found, key=lambda p: -p.importance)))


def _shares(trials: Sequence[FrozenTrial], names: Sequence[str], direction: Direction) -> dict[str, float]:
    study = in_memory(trials, (direction,))
    with quiet_optuna():
        evaluator = PedAnovaImportanceEvaluator(target_quantile=BETTER_SHARE)
        return get_param_importances(study, evaluator=evaluator, params=list(names))


def _trend(trials: Sequence[FrozenTrial], name: str) -> float | None:
    values, scores = [_value(t, name) for t in trials], [t.value for t in trials]
    if len(set(values)) < 2 or len(set(scores)) < 2:
        return None
    return float(stats.spearmanr(values, scores).statistic)


def _value(trial: FrozenTrial, name: str) -> float:
    """The parameter's value; of a choice the weight, to which all six uniform numbers contribute."""
    family, _, own = name.partition(".")
    if own.startswith("u_"):
        member = own.removeprefix("u_")
        return float(trial.user_attrs["weights"][member if family == "choice" else f"sub_policy_{member}"])
    return float(trial.params[name])


def _label(name: str) -> str:
    family, _, own = name.partition(".")
    kind, _, member = own.partition("_")
    if kind in _KINDS and member:
        return f"{_KINDS[kind]} of {f'sub-policy {member}' if family.endswith('_searched') else member}"
    return {"p": "probability p", "sub_policies": "sub-policies"}.get(own, own)

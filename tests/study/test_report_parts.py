"""Parts of a report by themselves: importances with a known answer, operations, costs, markup, the Markdown's end."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from policy_search.augment import SINGLE_STRATEGIES, load_policy
from policy_search.study.report import FamilyCost, TrialRow, costs, with_origin
from policy_search.study.reports import markup as html
from policy_search.study.reports.importance import importances
from policy_search.study.reports.operations import operations
from policy_search.study.space import FAMILIES, Space, choice_params
from tests.conftest import ROOT

FAMILY = CategoricalDistribution(FAMILIES)
KNOBS = {
    "searched.sub_policies": IntDistribution(1, 16, log=True),
    "searched.distance": FloatDistribution(0.2, 10.0, log=True),
    "searched.floor": FloatDistribution(0.0, 1.0),
    "searched.variety": FloatDistribution(0.0, 0.9),
}


def searched(count: int, sign: float = 1.0) -> list[FrozenTrial]:
    """Trials whose score depends on `floor` alone."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(count):
        params = {
            "family": "searched", "searched.sub_policies": int(rng.integers(1, 17)),
            "searched.distance": float(rng.uniform(0.2, 10)), "searched.floor": float(rng.uniform()),
            "searched.variety": float(rng.uniform(0, 0.9)),
        }  # fmt: skip
        value = sign * params["searched.floor"]
        found.append(create_trial(params=params, distributions={"family": FAMILY, **KNOBS}, value=value))
    return found


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_the_parameter_that_decides_comes_first(direction: Any) -> None:
    (family, *others) = importances(searched(40, 1.0 if direction == "maximize" else -1.0), direction)
    assert (family.family, family.trials) == ("searched", 40)
    assert family.parameters[0].name == "floor"
    assert family.parameters[0].importance > 0.5
    assert family.parameters[0].trend == pytest.approx(1.0 if direction == "maximize" else -1.0)
    assert sum(p.importance for p in family.parameters) == pytest.approx(1.0)
    assert {p.name for p in family.parameters} == {"sub-policies", "distance", "floor", "variety"}
    assert [(o.family, o.trials, o.parameters) for o in others] == [(name, 0, ()) for name in FAMILIES[1:]]


def test_too_few_or_unfinished_trials_give_no_importance() -> None:
    assert importances(searched(11), "maximize")[0].parameters == ()
    assert importances(searched(12), "maximize")[0].parameters != ()
    trials = searched(12)
    trials[0].state = TrialState.PRUNED
    assert (importances(trials, "maximize")[0].trials, importances(trials, "maximize")[0].needed) == (11, 12)


def test_choices_are_judged_by_their_weights_and_one_parameter_is_alone() -> None:
    rng = np.random.default_rng(1)
    trials = []
    for _ in range(24):
        weights = dict(zip(SINGLE_STRATEGIES, rng.dirichlet(np.ones(6)).tolist(), strict=True))
        params = choice_params(weights)
        distributions = {"family": FAMILY, **{k: FloatDistribution(0.0, 1.0) for k in params if k != "family"}}
        trials.append(
            create_trial(
                params=params, distributions=distributions, value=weights["crop"], user_attrs={"weights": weights}
            )
        )
    for p in np.linspace(0, 1, 10):
        params = {"family": "stacked", "stacked.p": float(p)}
        kinds = {"family": FAMILY, "stacked.p": FloatDistribution(0.0, 1.0)}
        trials.append(create_trial(params=params, distributions=kinds, value=-float(p)))
    _, stacked, choice, _, _ = importances(trials, "maximize")
    trends = {p.name: p.trend for p in choice.parameters}
    assert trends["weight of crop"] == pytest.approx(1.0)
    assert choice.parameters[0].name == "weight of crop"
    assert [(p.name, p.importance, p.trend) for p in stacked.parameters] == [
        ("probability p", 1.0, pytest.approx(-1.0))
    ]
    assert optuna.logging.get_verbosity() == optuna.logging.INFO


def test_policies_over_sub_policies_are_judged_by_their_ranks() -> None:
    rng = np.random.default_rng(2)
    trials = []
    for _ in range(24):
        weights = rng.dirichlet(np.ones(6)).tolist()
        params = {f"choice_searched.u_{k + 1}": math.exp(-weight) for k, weight in enumerate(weights)}
        kinds = {"family": FAMILY, **dict.fromkeys(params, FloatDistribution(0.0, 1.0))}
        named = {f"sub_policy_{k + 1}": weight for k, weight in enumerate(weights)}
        trials.append(
            create_trial(
                params={"family": "choice_searched", **params},
                distributions=kinds,
                value=-weights[1],
                user_attrs={"weights": named},
            )
        )
    found = importances(trials, "maximize")[4]
    assert found.parameters[0].name == "weight of sub-policy 2"
    assert found.parameters[0].trend == pytest.approx(-1.0)
    assert {p.name for p in found.parameters} == {f"weight of sub-policy {rank}" for rank in range(1, 7)}


@pytest.mark.parametrize(
    ("family", "members"),
    [("stacked", list(SINGLE_STRATEGIES)), ("stacked_searched", [f"sub-policy {rank}" for rank in range(1, 7)])],
)
def test_stacks_with_one_probability_each(family: str, members: list[str]) -> None:
    rng = np.random.default_rng(3)
    kinds = Space(per_transform=True).distributions(family)
    trials = []
    for _ in range(24):
        params = {name: float(rng.uniform()) for name in kinds}
        trials.append(
            create_trial(
                params={"family": family, **params},
                distributions={"family": FAMILY, **kinds},
                value=list(params.values())[3],
            )
        )
    found = importances(trials, "maximize")[FAMILIES.index(family)]
    assert {p.name for p in found.parameters} == {f"probability of {member}" for member in members}
    assert (found.parameters[0].name, found.parameters[0].trend) == (f"probability of {members[3]}", pytest.approx(1.0))


@pytest.mark.parametrize("name", ["random_choice", "lateral_stretch", "stacked_p0.5", "simple_copy_paste", "none"])
def test_chances_add_up_to_those_in_the_file(name: str) -> None:
    """Against a walk over the JSON that knows Albumentations' rules and nothing of `describe`."""
    transform = json.loads((ROOT / "policies" / f"{name}.json").read_text())["transform"]

    def walk(node: dict[str, Any], chance: float) -> dict[str, float]:
        kind, children = node["__class_fullname__"].rpartition(".")[2], node.get("transforms")
        if not children:
            return {kind: chance}
        total = sum(child["p"] for child in children)
        found: dict[str, float] = {}
        for child in children:
            own = child["p"] / total if kind == "OneOf" else child["p"]
            for leaf, value in walk(child, chance * own).items():
                found[leaf] = found.get(leaf, 0.0) + value
        return found

    found: dict[str, float] = {}
    for operation in operations(load_policy(name).transform):
        found[operation.name] = found.get(operation.name, 0.0) + operation.chance
    assert found == pytest.approx(walk(transform, transform["p"]))


def test_costs_by_family() -> None:
    def row(family: str, seconds: float) -> TrialRow:
        return TrialRow(0, "complete", "x", family, False, None, 0.5, {}, seconds, None, None)

    found = costs([row("naive", 2.0), row("searched", 10.0), row("naive", 3.5), row("", 0.25)])
    assert found == [FamilyCost("searched", 1, 10.0), FamilyCost("naive", 2, 5.5), FamilyCost("", 1, 0.25)]
    assert costs([]) == []


def test_texts_cannot_break_the_page() -> None:
    table = html.table('a "label"', ["<h>"], [["<script>&"]], "l")
    assert "&lt;script&gt;&amp;" in table
    assert "<script>" not in table + html.text("<script>") + html.listing(["<script>"])
    assert 'aria-label="a &quot;label&quot;"' in table
    with pytest.raises(ValueError, match="2 columns"):
        html.table("label", ["a", "b"], [["only one"]], "ll")
    assert math.isclose(len(html.picture(b"123456", "x")), len('<img alt="x" src="data:image/png;base64,MTIzNDU2">'))


def test_the_origin_is_replaced_not_repeated() -> None:
    once = with_origin("# Title\n\ntext\n", ["one"])
    assert once == "# Title\n\ntext\n\n## How it was made\n\none\n"
    assert with_origin(once, ["two"]) == once.replace("one", "two")

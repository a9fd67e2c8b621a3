"""The space: weights on the simplex, conditional parameters, what is proposed, the queue of first trials."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import FixedTrial

from policy_search.augment import (
    BASELINES,
    SINGLE_STRATEGIES,
    Augmenter,
    PolicyDocument,
    PolicyError,
    baseline,
    choice,
    stacked,
)
from policy_search.study.space import (
    FAMILIES,
    Knobs,
    Over,
    Proposal,
    Space,
    TargetKnobs,
    choice_params,
    propose,
    queue,
    simplex_weights,
)
from policy_search.study.trivial import trivial_augment
from tests.study.conftest import culture

FAMILY_KIND = CategoricalDistribution(FAMILIES)


def test_uniform_numbers_give_flat_weights() -> None:
    """Six weights that are flat on the simplex have mean 1/6 and variance 5 / (36 · 7) each (Dirichlet of ones)."""
    rng = np.random.default_rng(0)
    drawn = np.array([list(simplex_weights(dict(enumerate(rng.random(6)))).values()) for _ in range(20000)])  # type: ignore[arg-type]
    assert drawn.sum(1) == pytest.approx(np.ones(20000))
    assert drawn.min() >= 0
    assert drawn.mean(0) == pytest.approx(np.full(6, 1 / 6), abs=0.005)
    assert drawn.var(0) == pytest.approx(np.full(6, 5 / 252), rel=0.06)


def test_ends_of_the_interval_are_finite() -> None:
    weights = simplex_weights({"a": 0.0, "b": 0.5})
    assert sum(weights.values()) == pytest.approx(1)
    assert weights["a"] == pytest.approx(708.396 / 709.089, abs=1e-4)
    assert simplex_weights({"a": 1.0, "b": 1.0}) == {"a": 0.5, "b": 0.5}
    assert simplex_weights({"a": 1.0, "b": 0.2}) == {"a": 0.0, "b": 1.0}


def test_params_give_the_weights_back() -> None:
    wanted = {"flip": 3.0, "crop": 1.0}
    params = choice_params(wanted)
    found = simplex_weights({s: params[f"choice.u_{s}"] for s in SINGLE_STRATEGIES})
    assert found == pytest.approx({**dict.fromkeys(SINGLE_STRATEGIES, 0.0), "flip": 0.75, "crop": 0.25})


SPACES = [Space(), Space(per_transform=True)]


def proposed(params: dict[str, Any], space: Space, fixed: str | None = None) -> tuple[Proposal, optuna.Trial]:
    """What a trial of a real study proposes, and the trial."""
    study = optuna.create_study()
    study.enqueue_trial(params)
    trial = study.ask()
    return propose(trial, 7, space, fixed), trial


def document(params: dict[str, Any], space: Space) -> PolicyDocument:
    found = propose(FixedTrial(params), 7, space).document
    assert found is not None
    return found


def test_queue_names_every_baseline_once_in_the_documented_order() -> None:
    names = [q.baseline for q in queue(Space())]
    assert names[:6] == ["none", "random_choice", None, "stacked_p0.5", "stacked_p0.8", "trivial_augment"]
    assert set(names) - {None} == set(BASELINES) | {"trivial_augment"}
    assert len(names) == len(set(names))
    assert [q.baseline for q in queue(Space(per_transform=True))] == names


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("index", range(12))
def test_queued_baselines_are_exactly_the_baselines(index: int, space: Space) -> None:
    queued = queue(space)[index]
    proposal, trial = proposed(queued.params, space, queued.baseline)
    assert trial.params == queued.params
    assert trial.user_attrs == {}
    if queued.baseline is None:
        assert proposal == Proposal("searched_t007", "searched", False, knobs=Knobs())
    else:
        wanted = trivial_augment() if queued.baseline == "trivial_augment" else baseline(queued.baseline)
        assert proposal.document is not None
        assert proposal.document.content_hash == wanted.content_hash
        assert (proposal.name, proposal.family, proposal.baseline) == (queued.baseline, "naive", True)


@pytest.mark.parametrize("space", SPACES)
def test_queued_parameters_mean_the_same_policy_as_the_baseline(space: Space) -> None:
    """The sampler learns from the parameters, so they have to describe what was scored."""
    even = dict.fromkeys(SINGLE_STRATEGIES, 1 / 6)
    for queued in queue(space):
        name = queued.baseline
        if name is None or name == "trivial_augment":
            continue
        proposal, _ = proposed(queued.params, space)
        assert proposal.document is not None
        if name in SINGLE_STRATEGIES:
            assert proposal.document.content_hash == choice({name: 1.0}).content_hash
        elif name == "random_choice":
            assert proposal.weights == pytest.approx(even)
        else:
            assert proposal.document.content_hash == stacked(0.0 if name == "none" else float(name[-3:])).content_hash
        fixed, _ = proposed(queued.params, space, name)
        assert fixed.weights == proposal.weights


@pytest.mark.parametrize("space", SPACES)
def test_a_proposal_asks_for_its_familys_parameters_and_holds_one_recipe(space: Space) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    recipes: dict[str, set[str]] = {}
    for slot in range(60):
        trial = study.ask()
        proposal = propose(trial, slot, space)
        family = proposal.family
        assert proposal.name == f"{family}_t{slot:03d}"
        assert not proposal.baseline
        assert trial.params.keys() == {"family", *space.distributions(family)}
        assert trial.distributions == {"family": FAMILY_KIND, **space.distributions(family)}
        assert trial.user_attrs == {}
        found = {name for name in ("document", "knobs", "over") if getattr(proposal, name) is not None}
        recipes.setdefault(family, set()).update(found)
        assert len(found) == 1
        assert (proposal.weights is None) == (not family.startswith("choice"))
        if proposal.knobs is not None:
            assert 1 <= proposal.knobs.sub_policies <= 16
            assert 0.2 <= proposal.knobs.distance <= 10
            assert 0 <= proposal.knobs.floor <= 1
            assert 0 <= proposal.knobs.variety <= 0.9
        study.tell(trial, 0.0)
    assert recipes == {
        "searched": {"knobs"}, "stacked": {"document"}, "choice": {"document"},
        "stacked_searched": {"over"}, "choice_searched": {"over"},
    }  # fmt: skip


def test_a_stack_has_one_probability_or_one_each() -> None:
    assert list(Space().distributions("stacked")) == ["stacked.p"]
    assert list(Space().distributions("stacked_searched")) == ["stacked_searched.p"]
    each = Space(per_transform=True)
    assert list(each.distributions("stacked")) == [f"stacked.p_{name}" for name in SINGLE_STRATEGIES]
    assert list(each.distributions("stacked_searched")) == [f"stacked_searched.p_{rank}" for rank in range(1, 7)]
    shared = document({"family": "stacked", "stacked.p": 0.3}, Space())
    assert shared.content_hash == stacked(0.3).content_hash
    ps = dict(zip(SINGLE_STRATEGIES, (0.0, 0.1, 0.2, 0.3, 0.4, 1.0), strict=True))
    found = document({"family": "stacked", **{f"stacked.p_{name}": p for name, p in ps.items()}}, each)
    assert [t["p"] for t in found.transform["transforms"]] == [0.0, 0.1, 0.2, 0.3, 0.4, 1.0]


def test_stacks_by_strategy_are_checked() -> None:
    assert stacked({"crop": 1.0}).transform["transforms"][2]["p"] == 1.0
    assert [t["p"] for t in stacked({"crop": 1.0}).transform["transforms"]] == [0, 0, 1, 0, 0, 0]
    with pytest.raises(PolicyError, match="unknown strategy 'crpo': expected flip, "):
        stacked({"crpo": 1.0})
    with pytest.raises(PolicyError, match=r"in \[0, 1\], got 1.5"):
        stacked({"crop": 1.5})


def test_policies_over_a_searched_one_take_its_sub_policies() -> None:
    searched = choice({"flip": 0.5, "crop": 0.3, "color_jitter": 0.2})  # laid out as a searched policy is
    shared, _ = proposed({"family": "stacked_searched", "stacked_searched.p": 0.25}, Space())
    assert shared.over == Over(p=(0.25,) * 6)
    assert shared.over.kind == "stack"
    assert [t["p"] for t in shared.over.document(searched).transform["transforms"]] == [0.25] * 3
    ps = (1.0, 0.0, 0.5, 0.1, 0.1, 0.1)
    params = {"family": "stacked_searched", **{f"stacked_searched.p_{k + 1}": p for k, p in enumerate(ps)}}
    each, _ = proposed(params, Space(per_transform=True))
    assert each.over == Over(p=ps)
    uniforms = [math.exp(-w) for w in (0.1, 0.4, 0.5, 0.0, 0.0, 0.0)]
    params = {"family": "choice_searched", **{f"choice_searched.u_{k + 1}": u for k, u in enumerate(uniforms)}}
    mixed, _ = proposed(params, Space())
    assert mixed.over is not None
    assert mixed.over.kind == "choice"
    assert mixed.over.weights == pytest.approx((0.1, 0.4, 0.5, 0, 0, 0))
    assert mixed.weights is not None
    assert list(mixed.weights) == [f"sub_policy_{rank}" for rank in range(1, 7)]
    assert tuple(mixed.weights.values()) == mixed.over.weights
    made = mixed.over.document(searched).transform["transforms"][0]["transforms"]
    assert [t["p"] for t in made] == pytest.approx([0.1, 0.4, 0.5])
    with pytest.raises(ValueError, match="needs p or weights"):
        Over().document(searched)


def test_trivial_policy_keeps_the_frame_and_changes_most_images() -> None:
    sample = culture(0)
    augment = Augmenter(trivial_augment())
    changed, moved = 0, 0
    for draw in range(60):
        image, instances = augment(sample.image, sample.instances, seed=0, image_id="x", draw=draw)
        assert image.shape == sample.image.shape
        changed += not np.array_equal(image, sample.image)
        moved += not np.array_equal(instances.foreground(), sample.instances.foreground())
    assert 45 <= changed <= 60
    assert 10 <= moved <= 35  # 5 of its 13 operations are geometric


def test_targets_bring_one_more_family() -> None:
    space = Space(targets=True)
    assert space.families == (*FAMILIES, "targeted")
    queued = queue(space)
    assert [q.baseline for q in queued[:4]] == ["none", "random_choice", None, None]
    assert [q for q in queued if q not in queue(Space())] == [queued[3]]
    proposal = propose(optuna.trial.FixedTrial(queued[3].params), 3, space)
    assert proposal == Proposal("targeted_t003", "targeted", False, knobs=TargetKnobs())
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    families = [propose(study.ask(), slot, space).family for slot in range(60)]
    assert set(families) == set(space.families)

"""The space: weights on the simplex, conditional parameters, the queue of first trials."""

from __future__ import annotations

import numpy as np
import optuna
import pytest

from policy_search.augment import BASELINES, SINGLE_STRATEGIES, Augmenter, baseline, choice, stacked
from policy_search.study.space import (
    BASELINE_ATTR,
    Knobs,
    Proposal,
    choice_params,
    propose,
    queue,
    simplex_weights,
)
from policy_search.study.trivial import trivial_augment
from tests.study.conftest import culture


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


def drawn(params: dict[str, object], **attrs: object) -> tuple[Proposal, optuna.Trial]:
    study = optuna.create_study()
    study.enqueue_trial(params, user_attrs=attrs)
    trial = study.ask()
    return propose(trial, 7), trial


def test_queue_names_every_baseline_once_in_the_documented_order() -> None:
    names = [q.baseline for q in queue()]
    assert names[:6] == ["none", "random_choice", None, "stacked_p0.5", "stacked_p0.8", "trivial_augment"]
    assert set(names) - {None} == set(BASELINES) | {"trivial_augment"}
    assert len(names) == len(set(names))


@pytest.mark.parametrize("index", range(12))
def test_queued_baselines_are_exactly_the_baselines(index: int) -> None:
    queued = queue()[index]
    attrs = {BASELINE_ATTR: queued.baseline} if queued.baseline else {}
    proposal, trial = drawn(queued.params, **attrs)
    assert trial.params == queued.params
    if queued.baseline is None:
        assert proposal == Proposal("searched_t007", "searched", None, Knobs(), False)
    else:
        wanted = trivial_augment() if queued.baseline == "trivial_augment" else baseline(queued.baseline)
        assert proposal.document is not None
        assert proposal.document.content_hash == wanted.content_hash
        assert (proposal.name, proposal.family, proposal.baseline) == (queued.baseline, "naive", True)


def test_queued_parameters_mean_the_same_policy_as_the_baseline() -> None:
    """The sampler learns from the parameters, so they have to describe what was scored."""
    even = dict.fromkeys(SINGLE_STRATEGIES, 1 / 6)
    for queued in queue():
        name = queued.baseline
        if name is None or name == "trivial_augment":
            continue
        proposal, trial = drawn(queued.params)
        assert proposal.document is not None
        if name in SINGLE_STRATEGIES:
            assert proposal.document.content_hash == choice({name: 1.0}).content_hash
        elif name == "random_choice":
            assert trial.user_attrs["weights"] == pytest.approx(even)
        else:
            assert proposal.document.content_hash == stacked(0.0 if name == "none" else float(name[-3:])).content_hash


def test_only_the_drawn_family_has_parameters_and_all_families_are_drawn() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    families = set()
    for slot in range(40):
        trial = study.ask()
        proposal = propose(trial, slot)
        families.add(proposal.family)
        assert {name.split(".")[0] for name in trial.params} <= {"family", proposal.family}
        if proposal.family == "choice":
            assert sum(trial.user_attrs["weights"].values()) == pytest.approx(1)
        if proposal.knobs is not None:
            assert 1 <= proposal.knobs.sub_policies <= 16
            assert 0.2 <= proposal.knobs.distance <= 10
            assert 0 <= proposal.knobs.variety <= 0.9
        study.tell(trial, 0.0)
    assert families == {"searched", "stacked", "choice"}


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

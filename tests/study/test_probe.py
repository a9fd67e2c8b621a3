"""The probe learns, pairs its seeds, reports on the way, and stops on a loss that is not finite."""

from __future__ import annotations

import albumentations as A
import numpy as np
import pytest
import torch

from policy_search.augment import PolicyDocument, baseline
from policy_search.cells import InstanceMap
from policy_search.study.data import StudyData
from policy_search.study.draws import donor_for
from policy_search.study.objectives_probe import ProbeObjective
from policy_search.study.probe import (
    Base,
    Domain,
    ProbeError,
    ProbeSample,
    ProbeSettings,
    run_probe,
    score,
    statistics,
    train_base,
)
from policy_search.study.trivial import trivial_augment
from tests.study.conftest import culture

SMALL = ProbeSettings(base_steps=160, steps=10, batch=4, crop=64, width=8, base_rate=2e-2)


@pytest.fixture(scope="module")
def train() -> tuple[ProbeSample, ...]:
    return tuple(culture(seed) for seed in range(3))


@pytest.fixture(scope="module")
def domains() -> tuple[Domain, ...]:
    return (Domain("first", (culture(10), culture(11))), Domain("second", (culture(12),)))


@pytest.fixture(scope="module")
def base(train: tuple[ProbeSample, ...]) -> Base:
    return train_base(train, seed=0, settings=SMALL)


def identity(image: np.ndarray, instances: InstanceMap, image_id: str, draw: int) -> tuple[np.ndarray, InstanceMap]:
    return image, instances


def test_training_beats_not_training(train: tuple[ProbeSample, ...], domains: tuple[Domain, ...], base: Base) -> None:
    from policy_search.study.network import ProbeNet

    untrained = Base(ProbeNet(8, generator=torch.Generator().manual_seed(0)), *statistics(train))
    before = np.mean([c.score for c in score(untrained, domains).values()])
    after = np.mean([c.score for c in score(base, domains).values()])
    assert before < 0.1
    assert after > 0.6


@pytest.mark.parametrize("steps", range(1, 8))
def test_any_number_of_steps_can_be_trained(train: tuple[ProbeSample, ...], steps: int) -> None:
    """PyTorch's one-cycle schedule divides by zero at 5."""
    counted: list[int] = []
    settings = ProbeSettings(base_steps=steps, batch=2, crop=32, width=4)
    train_base(train, seed=0, settings=settings, after=counted.append)
    assert counted == list(range(1, steps + 1))


def test_value_is_the_mean_of_the_domains_and_the_base_stays(
    train: tuple[ProbeSample, ...], domains: tuple[Domain, ...], base: Base
) -> None:
    weights = {k: v.clone() for k, v in base.net.state_dict().items()}
    reports: list[tuple[float, float]] = []
    found = run_probe(
        base,
        train,
        domains,
        identity,
        seed=1,
        settings=SMALL,
        report=lambda share, value: reports.append((share, value)),
    )
    assert set(found.domains) == {"first", "second"}
    assert found.value == pytest.approx((found.domains["first"] + found.domains["second"]) / 2)
    assert [share for share, _ in reports] == [0.25, 0.5]
    assert all(torch.equal(v, weights[k]) for k, v in base.net.state_dict().items())


def test_policies_at_one_seed_see_the_same_crops(train: tuple[ProbeSample, ...], base: Base) -> None:
    """A policy that changes nothing but writes down what it is given, and one that draws numbers of its own."""
    seen: dict[str, list[tuple[str, int]]] = {"a": [], "b": []}
    domain = (Domain("one", (culture(12),)),)

    def recorder(name: str, draws: bool):  # type: ignore[no-untyped-def]
        def augment(image, instances, image_id, draw):  # type: ignore[no-untyped-def]
            if draws:
                np.random.default_rng().random()
            seen[name].append((image_id, draw))
            return image, instances

        return augment

    first = run_probe(base, train, domain, recorder("a", False), seed=3, settings=SMALL)
    second = run_probe(base, train, domain, recorder("b", True), seed=3, settings=SMALL)
    assert seen["a"] == seen["b"]
    assert len({draw for _, draw in seen["a"]}) == len(seen["a"])
    assert first.domains == second.domains
    # Every third image of the pool is untouched: 4 at the start and one a step make 14, of which 5 are.
    assert len(seen["a"]) == 9


def test_a_harmful_policy_scores_less(train: tuple[ProbeSample, ...], domains: tuple[Domain, ...], base: Base) -> None:
    def shuffled_labels(image, instances, image_id, draw):  # type: ignore[no-untyped-def]
        return image, instances.map_layers(lambda layer: np.ascontiguousarray(np.roll(layer, 40, (0, 1))))

    settings = ProbeSettings(steps=30, batch=4, crop=64, width=8, rate=5e-3)
    good = run_probe(base, train, domains, identity, seed=1, settings=settings).value
    bad = run_probe(base, train, domains, shuffled_labels, seed=1, settings=settings).value
    assert good > bad + 0.2


def test_a_loss_that_is_not_finite_stops_the_probe(train: tuple[ProbeSample, ...], domains: tuple[Domain, ...]) -> None:
    broken = train_base(train, seed=0, settings=ProbeSettings(base_steps=1, batch=2, crop=32, width=8))
    with torch.no_grad():
        broken.net.head.weight.fill_(float("nan"))
    with pytest.raises(ProbeError, match="nan at step 1 of 10"):
        run_probe(broken, train, domains, identity, seed=0, settings=SMALL)


def test_images_smaller_than_a_crop_are_reflected() -> None:
    tiny = (culture(0, height=48, width=40, cells=3),)
    settings = ProbeSettings(base_steps=2, steps=2, batch=2, crop=64, width=8)
    base = train_base(tiny, seed=0, settings=settings)
    found = run_probe(base, tiny, (Domain("d", tiny),), identity, seed=0, settings=settings)
    assert 0.0 <= found.value <= 1.0


FAINT = {"0.5": 0.5, "0.4": 0.4, "0.3": 0.3}


def _faint(sample: ProbeSample, factor: float) -> ProbeSample:
    return ProbeSample(sample.id, (128 + factor * (sample.image - 128.0)).astype(np.uint8), sample.instances)


def test_objective_is_repeatable_and_tells_policies_apart(
    train: tuple[ProbeSample, ...], domains: tuple[Domain, ...]
) -> None:
    hard = tuple(Domain(name, tuple(_faint(s, factor) for s in domains[0].samples)) for name, factor in FAINT.items())
    data = StudyData("blobs", True, "0", train, hard, "blobs")
    first, second = (ProbeObjective(data, SMALL) for _ in range(2))
    document = trivial_augment()
    found = first.score(document, seed=0)
    assert found.domains == second.score(document, seed=0).domains
    assert first.score(baseline("crop"), seed=0).domains != found.domains
    assert first.score(document, seed=0).domains == found.domains


def test_scoring_leaves_the_training_images_alone(train: tuple[ProbeSample, ...], base: Base) -> None:
    """AutoContrast of Albumentations 2.0.8 writes into the image it is given."""
    objective = ProbeObjective(StudyData("blobs", True, "0", train, (Domain("v", train[:1]),), "blobs"), SMALL)
    objective._bases[0] = base
    before = [sample.image.copy() for sample in train]
    objective.score(PolicyDocument.from_compose(A.Compose([A.AutoContrast(p=1.0)])), seed=0)
    assert all(np.array_equal(a, s.image) for a, s in zip(before, train, strict=True))


def test_donors_are_other_images_or_mirror_images(train: tuple[ProbeSample, ...]) -> None:
    rng = np.random.default_rng(0)
    donate = donor_for(train[0], train)
    for _ in range(10):
        image, _ = donate(rng)
        assert not np.array_equal(image, train[0].image)
        assert any(np.array_equal(image, other.image) for other in train[1:])
    alone = donor_for(train[0], train[:1])
    kinds = set()
    for _ in range(30):
        image, instances = alone(rng)
        mirrored = [np.flip(train[0].image, axes) for axes in ((0,), (1,), (0, 1))]
        kind = next(i for i, m in enumerate(mirrored) if np.array_equal(m, image))
        expected = np.flip(train[0].instances.label_image(), ((0,), (1,), (0, 1))[kind])
        assert np.array_equal(instances.label_image(), expected)
        kinds.add(kind)
    assert kinds == {0, 1, 2}

"""Stacks and choices of sub-policies: how often each acts, by what plain Albumentations does to one image."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import albumentations as A
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from policy_search.augment import SINGLE_STRATEGIES, Augmenter, PolicyDocument, PolicyError, baseline, load_policy
from policy_search.augment.chains import in_turn
from policy_search.augment.sub_policies import choice_of, split, stack_of
from policy_search.cells.instances import InstanceMap
from policy_search.relaxed.catalogue import operations
from policy_search.relaxed.export import to_compose
from policy_search.relaxed.policy import RelaxedPolicy
from policy_search.relaxed.sized import with_sizes


def added(by: int, p: float) -> A.Sequential:
    """A sub-policy of one stage that adds `by` grey levels, laid out as the export does."""
    limit = (by / 255, by / 255)
    operation = A.RandomBrightnessContrast(limit, (0.0, 0.0), p=1.0)
    return A.Sequential([A.OneOf([A.Sequential([operation], p=1.0)], p=1.0)], p=p)


def searched(*parts: tuple[int, float]) -> PolicyDocument:
    """A searched policy of sub-policies (grey levels added, weight): powers of two tell which of them acted."""
    branches = [added(by, weight) for by, weight in parts]
    return PolicyDocument.from_compose(A.Compose(branches if len(branches) == 1 else [A.OneOf(branches, p=1.0)]))


def draws(document: PolicyDocument, image: NDArray[np.uint8], count: int) -> list[NDArray[np.uint8]]:
    """One stream for the whole tree: with `set_random_seed` all gates of a stack would open and close together."""
    policy = document.compose()
    policy.set_random_state(np.random.default_rng(0), random.Random(0))
    return [policy(image=image)["image"] for _ in range(count)]


def shares(document: PolicyDocument, count: int = 3000) -> dict[int, float]:
    """Grey level of a black image -> how often."""
    levels = [int(image[0, 0]) for image in draws(document, np.zeros((2, 2), np.uint8), count)]
    return {level: levels.count(level) / count for level in sorted(set(levels))}


THREE = searched((1, 0.2), (2, 0.5), (4, 0.3))


def test_sub_policies_come_heaviest_first_and_do_what_they_did() -> None:
    parts = split(THREE)
    assert [part.weight for part in parts] == pytest.approx([0.5, 0.3, 0.2])
    assert [shares(part.document, 20) for part in parts] == [{2: 1.0}, {4: 1.0}, {1: 1.0}]
    even = split(searched((1, 1.0), (2, 1.0), (4, 1.0)))
    assert [part.weight for part in even] == pytest.approx([1 / 3] * 3)
    assert [shares(part.document, 20) for part in even] == [{1: 1.0}, {2: 1.0}, {4: 1.0}]


def test_a_choice_draws_by_its_weights_from_the_heaviest_on() -> None:
    assert shares(choice_of(THREE, [0.6, 0.1, 0.3])) == pytest.approx({2: 0.6, 4: 0.1, 1: 0.3}, abs=0.03)
    assert shares(choice_of(THREE, [6, 0, 3])) == pytest.approx({2: 2 / 3, 1: 1 / 3}, abs=0.03)


def test_a_choice_of_fewer_or_more_than_there_are() -> None:
    assert shares(choice_of(THREE, [1.0, 3.0])) == pytest.approx({2: 0.25, 4: 0.75}, abs=0.03)
    assert shares(choice_of(THREE, [0.1, 0.3, 0.1, 0.5])) == pytest.approx({2: 0.2, 4: 0.6, 1: 0.2}, abs=0.03)
    assert shares(choice_of(THREE, [0, 0, 0, 1])) == pytest.approx({1: 1 / 3, 2: 1 / 3, 4: 1 / 3}, abs=0.03)


def test_a_stack_applies_each_by_itself_with_its_probability() -> None:
    found = shares(stack_of(THREE, [0.9, 0.5, 0.2]))
    for level, p in ((2, 0.9), (4, 0.5), (1, 0.2)):
        assert sum(share for total, share in found.items() if total & level) == pytest.approx(p, abs=0.03)
    # Gates are independent: all three act in 0.9 · 0.5 · 0.2 of the images, none in 0.1 · 0.5 · 0.8.
    assert found[7] == pytest.approx(0.09, abs=0.02)
    assert found[0] == pytest.approx(0.04, abs=0.02)


def test_a_stack_of_fewer_or_more_than_there_are() -> None:
    assert shares(stack_of(THREE, [1.0, 1.0]), 20) == {6: 1.0}
    assert shares(stack_of(THREE, [1.0, 0.0, 1.0, 1.0, 1.0]), 20) == {3: 1.0}


def test_a_stack_begins_with_the_heaviest() -> None:
    """White inverted and then 51 brighter is 51; the other way round it is black."""
    invert = A.Sequential([A.OneOf([A.Sequential([A.InvertImg(p=1.0)], p=1.0)], p=1.0)], p=0.6)
    document = PolicyDocument.from_compose(A.Compose([A.OneOf([added(51, 0.4), invert], p=1.0)]))
    (image,) = draws(stack_of(document, [1.0, 1.0]), np.full((2, 2), 255, np.uint8), 1)
    assert image[0, 0] == 51


def learnt(sub_policies: int) -> PolicyDocument:
    policy = RelaxedPolicy(operations(), sub_policies=sub_policies, generator=torch.Generator().manual_seed(3))
    return PolicyDocument.from_compose(to_compose(policy, 128))


@pytest.fixture
def cells() -> tuple[NDArray[np.uint8], InstanceMap]:
    rng = np.random.default_rng(5)
    labels = np.zeros((1, 64, 64), np.uint16)
    labels[0, 8:30, 10:40], labels[0, 40:60, 30:55] = 1, 2
    return rng.integers(0, 256, (64, 64), dtype=np.uint8), InstanceMap(labels)


def same(
    one: PolicyDocument, other: PolicyDocument, cells: tuple[NDArray[np.uint8], InstanceMap], count: int = 12
) -> bool:
    """Whether two policies give the same image and the same cells, draw by draw."""

    def donor(generator: np.random.Generator) -> tuple[NDArray[np.uint8], InstanceMap]:
        return cells[0][::-1].copy(), InstanceMap(cells[1].layers[:, ::-1].copy())

    for draw in range(count):
        (image, layers), (wanted, expected) = (
            Augmenter(document)(*cells, seed=0, image_id="x", draw=draw, donor=donor) for document in (one, other)
        )
        if not np.array_equal(image, wanted) or not np.array_equal(layers.layers, expected.layers):
            return False
    return True


def test_the_export_of_a_search_is_taken_apart(cells: tuple[NDArray[np.uint8], InstanceMap]) -> None:
    document = learnt(5)
    parts = split(document)
    assert [part.weight for part in parts] == pytest.approx([0.2] * 5)
    written = document.transform["transforms"][0]["transforms"]  # OneOf's, in the file's order
    for part, branch in zip(parts, written, strict=True):
        assert part.document.transform["transforms"][0] == {**branch, "p": 1.0}
    assert not same(parts[0].document, parts[1].document, cells)


@pytest.mark.parametrize("rank", [0, 2, 4])
def test_all_weight_on_one_is_that_one_pixel_for_pixel(rank: int, cells: tuple[NDArray[np.uint8], InstanceMap]) -> None:
    document = learnt(5)
    one = split(document)[rank].document
    only = [float(rank == k) for k in range(5)]
    assert same(choice_of(document, only), one, cells)
    assert same(stack_of(document, only), one, cells)


def test_probability_zero_changes_neither_image_nor_cells(cells: tuple[NDArray[np.uint8], InstanceMap]) -> None:
    assert same(stack_of(learnt(5), [0.0] * 6), baseline("none"), cells)


def test_a_policy_of_one_sub_policy_or_none_is_one(cells: tuple[NDArray[np.uint8], InstanceMap]) -> None:
    for document in (learnt(1), baseline("flip"), baseline("stacked_p0.8"), searched((8, 1.0))):
        (part,) = split(document)
        assert part.weight == 1.0
        assert same(choice_of(document, [0.3, 0.7]), part.document, cells)
        assert same(stack_of(document, [1.0]), part.document, cells)
    assert shares(stack_of(searched((8, 1.0)), [0.4, 1.0])) == pytest.approx({0: 0.6, 8: 0.4}, abs=0.03)
    assert shares(stack_of(in_turn(searched((8, 1.0)), searched((16, 1.0))), [0.4])) == pytest.approx(
        {0: 0.6, 24: 0.4}, abs=0.03
    )


@pytest.mark.parametrize(
    "compose",
    [
        A.Compose([A.OneOf([added(1, 0.5), added(2, 0.5)], p=1.0)], p=0.4),
        A.Compose([A.OneOf([added(1, 0.5), added(2, 0.5)], p=0.4)]),
        A.Compose([A.Sequential([A.OneOf([added(1, 0.5), added(2, 0.5)], p=1.0)], p=0.4)]),
    ],
)
def test_a_mixture_for_some_images_only_is_one_sub_policy(compose: A.Compose) -> None:
    document = PolicyDocument.from_compose(compose)
    assert [part.weight for part in split(document)] == [1.0]
    assert shares(stack_of(document, [0.5])) == pytest.approx({0: 0.8, 1: 0.1, 2: 0.1}, abs=0.03)


def test_a_choice_of_strategies_is_taken_apart_too() -> None:
    assert len(split(baseline("random_choice"))) == len(SINGLE_STRATEGIES)


def test_what_stands_around_the_mixture_stays() -> None:
    """Target mode: flips and scalings come first, and a share of the images goes without the sub-policies."""
    document = with_sizes(THREE, (0.8, 1.25), fill=7, share=0.6)
    assert [part.weight for part in split(document)] == pytest.approx([0.5, 0.3, 0.2])
    changed = choice_of(document, [0.5, 0.5])
    around = document.transform["transforms"][:-1]
    assert len(around) == 2
    for policy in (changed, stack_of(document, [1.0, 0.5])):
        assert policy.transform["transforms"][:-1] == around
    tone_only = with_sizes(THREE, (1.0,), fill=7, share=0.6)
    assert shares(choice_of(tone_only, [0.5, 0.5])) == pytest.approx({0: 0.4, 2: 0.3, 4: 0.3}, abs=0.03)
    assert shares(stack_of(tone_only, [1.0, 0.5])) == pytest.approx({0: 0.4, 2: 0.3, 6: 0.3}, abs=0.03)
    alone = with_sizes(searched((8, 1.0)), (1.0,), fill=7, share=0.5)
    assert shares(stack_of(alone, [0.5])) == pytest.approx({0: 0.75, 8: 0.25}, abs=0.03)


@pytest.mark.parametrize(
    "make",
    [
        lambda document: stack_of(document, [0.3, 0.6, 0.0, 1.0]),
        lambda document: choice_of(document, [0.3, 0.6, 0.0, 0.1]),
        lambda document: stack_of(document, [0.0]),
        lambda document: choice_of(with_sizes(document, (0.5, 0.9), fill=9), [0.3, 0.7]),
    ],
)
def test_files_load_in_plain_albumentations_and_keep_their_hash(
    make: Callable[[PolicyDocument], PolicyDocument], tmp_path: Path
) -> None:
    document = make(learnt(5))
    document.save(tmp_path / "policy.json")
    assert load_policy(tmp_path / "policy.json").content_hash == document.content_hash
    loaded = A.load(tmp_path / "policy.json")
    assert json.loads(json.dumps(loaded.to_dict()["transform"])) == document.transform


@pytest.mark.parametrize("p", [[], [0.5, 1.5], [-0.1], [float("nan")]])
def test_probabilities_are_checked(p: list[float]) -> None:
    with pytest.raises(PolicyError, match=r"in \[0, 1\]"):
        stack_of(THREE, p)


@pytest.mark.parametrize("weights", [[], [0.0, 0.0], [1.0, -0.5], [float("nan")], [float("inf"), 1.0]])
def test_weights_are_checked(weights: list[float]) -> None:
    with pytest.raises(PolicyError, match="0 or more with a positive sum"):
        choice_of(THREE, weights)

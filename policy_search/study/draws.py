"""A policy as a function of an image and a number, for whoever trains or looks under it in a study."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from policy_search.augment import Augmenter, Donor, PolicyDocument
from policy_search.cells import InstanceMap
from policy_search.study.probe import Augment, ProbeSample


def draws_of(document: PolicyDocument, train: tuple[ProbeSample, ...], *, seed: int) -> Augment:
    """The policy as `Augment`: draw number d of an image is a function of (seed, image id, d).

    Args:
        document: the policy.
        train: images that copy-paste takes cells from.
        seed: of all draws.
    """
    augmenter = Augmenter(document)

    def augment(
        image: NDArray[np.uint8], instances: InstanceMap, image_id: str, draw: int
    ) -> tuple[NDArray[np.uint8], InstanceMap]:
        donor = donor_for(ProbeSample(image_id, image, instances), train)
        return augmenter(image, instances, seed=seed, image_id=image_id, draw=draw, donor=donor)

    return augment


def donor_for(sample: ProbeSample, train: tuple[ProbeSample, ...]) -> Donor:
    """Gives copy-paste another training image at random.

    The only training image of a source has no other: then its mirror images stand in (pasting an image onto itself in
    place would change nothing).
    """
    others = [other for other in train if other.id != sample.id]

    def donate(rng: np.random.Generator) -> tuple[NDArray[np.uint8], InstanceMap]:
        if others:
            other = others[int(rng.integers(len(others)))]
            return other.image, other.instances
        axes = ((0,), (1,), (0, 1))[int(rng.integers(3))]

        def flip(plane: NDArray[np.uint16]) -> NDArray[np.uint16]:
            return np.ascontiguousarray(np.flip(plane, axes))

        return np.ascontiguousarray(np.flip(sample.image, axes)), sample.instances.map_layers(flip)

    return donate

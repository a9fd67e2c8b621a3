"""What a trial is scored by: the interface of objectives, and the probe."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from policy_search.augment import Augmenter, Donor, PolicyDocument
from policy_search.cells import InstanceMap
from policy_search.study.data import StudyData
from policy_search.study.probe import Base, ProbeSample, ProbeScore, ProbeSettings, Report, run_probe, train_base
from policy_search.study.verdict import Direction


class Objective(Protocol):
    """A way to score a policy.

    Attributes:
        name: of the metric, as the study and the report show it.
        direction: which way is better.
    """

    @property
    def name(self) -> str: ...

    @property
    def direction(self) -> Direction: ...

    def score(self, document: PolicyDocument, *, seed: int, report: Report | None = None) -> ProbeScore:
        """Score a policy; equal seeds make the scores of different policies comparable pairs.

        Args:
            document: the policy.
            seed: of everything random in the scoring.
            report: called on the way with (share of the work done, score so far); may raise to stop.
        """
        ...


@dataclass
class ProbeObjective:
    """Instances matched by a small network after a short training under the policy (see `probe`).

    The common start of all policies at one seed is trained on first use of the seed and kept.
    """

    data: StudyData
    settings: ProbeSettings
    name: str = "matched at IoU 0.5"
    direction: Direction = "maximize"
    _bases: dict[int, Base] = field(default_factory=dict, repr=False)

    def prepare(self, seed: int) -> None:
        """Train the common start at `seed` now, unless it is there: for who measures what one policy costs."""
        if seed not in self._bases:
            self._bases[seed] = train_base(self.data.train, seed=seed, settings=self.settings)

    def restricted(self, domain: str) -> ProbeObjective:
        """The same objective, its common starts included, on one domain alone."""
        alone = tuple(d for d in self.data.domains if d.name == domain)
        return replace(self, data=replace(self.data, domains=alone))

    def score(self, document: PolicyDocument, *, seed: int, report: Report | None = None) -> ProbeScore:
        """See `Objective`."""
        self.prepare(seed)
        augmenter = Augmenter(document)
        donors = {sample.id: donor_for(sample, self.data.train) for sample in self.data.train}

        def augment(
            image: NDArray[np.uint8], instances: InstanceMap, image_id: str, draw: int
        ) -> tuple[NDArray[np.uint8], InstanceMap]:
            # A copy: Albumentations 2.0.8's AutoContrast writes into the image it is given, and a training image that
            # one draw has changed spoils every later draw and every later trial.
            return augmenter(image.copy(), instances, seed=seed, image_id=image_id, draw=draw, donor=donors[image_id])

        return run_probe(
            self._bases[seed],
            self.data.train,
            self.data.domains,
            augment,
            seed=seed,
            settings=self.settings,
            report=report,
        )


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

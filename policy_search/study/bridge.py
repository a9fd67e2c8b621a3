"""The objective `bridge`: how far the source's augmented images are from unlabelled images of the targets.

The critic is that of target mode (relaxed/moments.py): the best linear critic of fixed statistics, in closed form. Here
it looks at what Albumentations makes of whole images, so that the policy that is scored is the one that will be used.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from policy_search.augment import PolicyDocument
from policy_search.cells.errors import InputError
from policy_search.relaxed.crops import CropSampler
from policy_search.relaxed.moments import Reference, moments_mismatch, reference
from policy_search.relaxed.pool import CropPool
from policy_search.relaxed.statistics import ImageStatistics
from policy_search.relaxed.target import unlabelled
from policy_search.study.data import StudyData
from policy_search.study.draws import draws_of
from policy_search.study.objective import Report, Score
from policy_search.study.verdict import Direction


@dataclass(frozen=True)
class BridgeSettings:
    """The budget of a scoring.

    Attributes:
        images: augmented images; those of the source in turn, each time another draw.
        crops: that are measured of each.
        crop: side in pixels.
        reference: crops of the source, and of each target, from which the critic is made, once a seed.
        checks: shares of the images after which the distance so far is reported.
    """

    images: int = 96
    crops: int = 4
    crop: int = 128
    reference: int = 1024
    checks: tuple[float, ...] = (0.25, 0.5)


@dataclass(frozen=True)
class _Critics:
    """What one seed knows: how images are measured, and each target as the source's images see it."""

    measure: Callable[[Tensor], Tensor]
    known: dict[str, Reference]


@dataclass
class BridgeObjective:
    """Distance to the targets, mean over their types: 0 is equal in every statistic, in squared whitened deviations.

    Labels of targets are never looked at. What a policy does to the labels is not seen either.

    Raises:
        InputError: no target was named.
    """

    data: StudyData
    settings: BridgeSettings = field(default_factory=BridgeSettings)
    name: str = "bridge"
    metrics: tuple[str, ...] = ("distance to the targets",)
    directions: tuple[Direction, ...] = ("minimize",)
    prunable: bool = True
    _critics: dict[int, _Critics] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not self.data.targets:
            raise InputError(
                "--objective bridge measures the distance to images of other types and has none: name them by --target"
            )

    def prepare(self, seed: int) -> _Critics:
        """The critics at `seed`, made now unless they are there."""
        if seed not in self._critics:
            self._critics[seed] = self._make(seed)
        return self._critics[seed]

    @torch.no_grad()
    def score(self, document: PolicyDocument, *, seed: int, report: Report | None = None) -> Score:
        """See `Objective`. Reports after a quarter and after half of the images."""
        started = time.perf_counter()
        s, critics = self.settings, self.prepare(seed)
        stops = {round(s.images * share): share for share in s.checks} if report else {}
        seen: list[Tensor] = []
        for done, image in enumerate(self._augmented(document, seed), start=1):
            seen.append(critics.measure(self._crops(image, seed, done)))
            if report is not None and done in stops:
                report(stops[done], _mean(distances(torch.cat(seen), critics.known)))
        found = distances(torch.cat(seen), critics.known)
        return Score((_mean(found),), found, time.perf_counter() - started)

    def _augmented(self, document: PolicyDocument, seed: int) -> Iterator[NDArray[np.uint8]]:
        """Whole images; the order depends on the seed alone."""
        train, augment = self.data.train, draws_of(document, self.data.train, seed=seed)
        order = np.random.default_rng(seed)
        for first in range(0, self.settings.images, len(train)):
            for i in order.permutation(len(train))[: self.settings.images - first]:
                yield augment(train[i].image, train[i].instances, train[i].id, first)[0]

    def _crops(self, image: NDArray[np.uint8], seed: int, number: int) -> Tensor:
        """(crops, 1, S, S) in [0, 1] at places that depend on seed and number alone."""
        places = torch.Generator().manual_seed(int(np.random.SeedSequence([seed, number]).generate_state(1)[0]))
        return unlabelled([image]).sample(self.settings.crops, self.settings.crop, places)[0]

    def _make(self, seed: int) -> _Critics:
        generator, s = torch.Generator().manual_seed(seed), self.settings
        source = unlabelled([sample.image for sample in self.data.train])
        pixels = source.statistics()
        measure = ImageStatistics(pixels.mean, pixels.deviation)

        def measured(sampler: CropSampler) -> Tensor:
            return CropPool(sampler, s.reference, size=s.crop, margin=0, generator=generator).measured(measure)

        own = measured(source)
        known = {name: reference(own, measured(unlabelled(images))) for name, images in self.data.targets.items()}
        return _Critics(measure, known)


def distances(seen: Tensor, known: dict[str, Reference]) -> dict[str, float]:
    """Distance of statistics (N, D) of augmented crops to each target."""
    return {name: float(moments_mismatch(seen @ one.whiten, one)) for name, one in known.items()}


def _mean(found: dict[str, float]) -> float:
    return float(np.mean(list(found.values())))

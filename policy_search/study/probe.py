"""One probe: a small network trained for a short time under a policy, scored on validation domains."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from policy_search.cells import InstanceMap
from policy_search.study.matching import MatchCounts, match
from policy_search.study.network import ProbeNet, confidences, decode, predict, targets
from policy_search.study.ranking import average_precision, judge_ranked
from policy_search.study.stopping import raise_if_asked

Image = NDArray[np.uint8]
# (image, instances, image id, draw index) -> augmented image of the same shape, and its instances
Augment = Callable[[Image, InstanceMap, str, int], tuple[Image, InstanceMap]]
# (finished share of the training in (0, 1), score so far) -> None; may raise to stop (a pruner)
Report = Callable[[float, float], None]


@dataclass(frozen=True)
class ProbeSample:
    """A labelled grey image: id, image (H, W) uint8 and its instances."""

    id: str
    image: Image
    instances: InstanceMap


@dataclass(frozen=True)
class Domain:
    """A set of validation images that is scored on its own: a held-back shift, or a cell type."""

    name: str
    samples: tuple[ProbeSample, ...]


@dataclass(frozen=True)
class ProbeSettings:
    """The budget of a probe.

    Attributes:
        base_steps: optimiser steps on untouched images, once a seed, shared by all policies.
        steps: optimiser steps under the policy, starting from the base.
        batch: crops a step; each comes from another entry of the pool of augmented images.
        crop: side in pixels, a multiple of 8.
        width: channels of the network's first level, a multiple of 4.
        base_rate, rate: peaks of the one-cycle schedules (AdamW).
        untouched: every so many-th image that enters the pool is not augmented, as in the fine-tuning protocol (one
            untouched copy, two augmented draws).
        checks: shares of the training at which the score so far is reported on the way.
        check_images: images of every domain that a check looks at. One of each rather than all of a few domains: the
            images of a domain show the same shift and fail alike, the domains do not.
    """

    base_steps: int = 300
    steps: int = 120
    batch: int = 8
    crop: int = 128
    width: int = 16
    base_rate: float = 5e-3
    rate: float = 2e-3
    untouched: int = 3
    checks: tuple[float, ...] = (0.25, 0.5)
    check_images: int = 1


DEFAULT = ProbeSettings()


@dataclass(frozen=True)
class ProbeScore:
    """What a probe found.

    Attributes:
        value: mean of `domains`.
        domains: matched instances (`MatchCounts.score`) of every domain.
        seconds: wall seconds.
        ap50: `average_precision` of every domain.
        losses: of the training, step by step.
    """

    value: float
    domains: Mapping[str, float]
    seconds: float
    ap50: Mapping[str, float] = field(default_factory=dict)
    losses: tuple[float, ...] = ()


class DomainScore(NamedTuple):
    """One network on one domain: matched instances, and AP50 of the same instances ranked by confidence."""

    counts: MatchCounts
    ap50: float

    @property
    def score(self) -> float:
        """What a probe is scored by: `MatchCounts.score`."""
        return self.counts.score


class ProbeError(RuntimeError):
    """The training of a probe went wrong (a loss that is not finite)."""


@dataclass(frozen=True)
class Base:
    """A network trained on untouched source images: where every policy at one seed starts.

    Attributes:
        net: not to be changed; probes copy it.
        mean, std: standardisation of network inputs, grey levels.
    """

    net: ProbeNet
    mean: float
    std: float


def train_base(
    train: Sequence[ProbeSample],
    *,
    seed: int,
    settings: ProbeSettings = DEFAULT,
    after: Callable[[int], None] | None = None,
) -> Base:
    """The common start at `seed`, as the fine-tuning protocol starts from a model of the source type alone.

    `after` is called with the number of finished steps; what it raises ends the training.
    """
    mean, std = statistics(train)
    net = ProbeNet(settings.width, generator=torch.Generator().manual_seed(seed))
    base = Base(net.to(memory_format=torch.channels_last), mean, std)
    pool = _Pool(train, lambda image, instances, image_id, draw: (image, instances), settings, [seed, 0])
    told = None if after is None else (lambda losses: after(len(losses)))
    _fit(base, pool, settings.base_steps, settings.base_rate, told)
    return base


def run_probe(
    base: Base,
    train: Sequence[ProbeSample],
    domains: Sequence[Domain],
    augment: Augment,
    *,
    seed: int,
    settings: ProbeSettings = DEFAULT,
    report: Report | None = None,
) -> ProbeScore:
    """Go on training `base` on `train` under `augment`, score on `domains`.

    The order of the images and the positions of the crops depend on `seed` alone, so that two policies at one seed (and
    one base) differ by what they did to the images and by nothing else.

    Raises:
        ProbeError: the loss is not finite; names step and loss.
    """
    started = time.perf_counter()
    stops = {round(settings.steps * share): share for share in settings.checks} if report else {}
    few = [Domain(domain.name, domain.samples[: settings.check_images]) for domain in domains]

    def check(net: Base, losses: Sequence[float]) -> None:
        if report is not None and len(losses) in stops:
            report(stops[len(losses)], matched(net, few))

    tuned, losses = train_under(base, train, augment, seed=seed, settings=settings, after=check)
    found = score(tuned, domains)
    by_domain = {name: domain.score for name, domain in found.items()}
    ap50 = {name: domain.ap50 for name, domain in found.items()}
    return ProbeScore(float(np.mean(list(by_domain.values()))), by_domain, time.perf_counter() - started, ap50, losses)


def train_under(
    base: Base,
    train: Sequence[ProbeSample],
    augment: Augment,
    *,
    seed: int,
    settings: ProbeSettings = DEFAULT,
    after: Callable[[Base, Sequence[float]], None] | None = None,
) -> tuple[Base, tuple[float, ...]]:
    """A copy of `base` trained on under `augment`, and the loss of every step. See `run_probe` on the seed.

    `after` is called with the copy and the losses of the finished steps; what it raises ends the training.
    """
    tuned = Base(copy.deepcopy(base.net), base.mean, base.std)
    pool = _Pool(train, augment, settings, [seed, 1])
    told = None if after is None else (lambda losses: after(tuned, losses))
    return tuned, _fit(tuned, pool, settings.steps, settings.rate, told)


def _fit(
    base: Base, pool: _Pool, steps: int, rate: float, after: Callable[[Sequence[float]], None] | None = None
) -> tuple[float, ...]:
    """Train `base.net` in place; `after` is called with the number of finished steps. Gives back the loss of each."""
    optimiser = torch.optim.AdamW(base.net.parameters(), lr=rate, weight_decay=1e-4)
    # PyTorch divides by zero where the rate is to rise for exactly one step.
    rise = 0.2 if 0.2 * steps != 1 else 0.25
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=rise)
    losses = []
    for step in range(1, steps + 1):
        raise_if_asked()
        images, wanted = pool.batch()
        batch = torch.from_numpy((images.astype(np.float32) - base.mean) / base.std)
        target = torch.from_numpy(wanted)
        logits = base.net(batch.contiguous(memory_format=torch.channels_last))
        # Depth counts twice: it decides where touching cells part, which foreground alone never learns.
        loss = F.binary_cross_entropy_with_logits(logits[:, 0], target[:, 0])
        loss = loss + 2 * F.binary_cross_entropy_with_logits(logits[:, 1], target[:, 1])
        if not torch.isfinite(loss):
            raise ProbeError(f"the probe's loss is {loss.item()} at step {step} of {steps}")
        losses.append(loss.item())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        if after is not None:
            after(losses)
    return tuple(losses)


def statistics(samples: Sequence[ProbeSample]) -> tuple[float, float]:
    """Mean and standard deviation of all pixels (grey levels), the fixed standardisation of network inputs."""
    pixels = np.concatenate([s.image.ravel() for s in samples])
    return float(pixels.mean()), max(float(pixels.std()), 1.0)


def score(base: Base, domains: Sequence[Domain]) -> dict[str, DomainScore]:
    """Scores per domain, its images taken together."""
    found = {}
    for domain in domains:
        counts, ranked = MatchCounts(0, 0, 0), []
        for sample in domain.samples:
            probabilities = predict(base.net, (sample.image.astype(np.float32) - base.mean) / base.std)
            labels = decode(probabilities)
            counts = counts.plus(match(labels, sample.instances))
            ranked.append(judge_ranked(labels, confidences(probabilities, labels), sample.instances))
        found[domain.name] = DomainScore(counts, average_precision(ranked))
    return found


def matched(base: Base, domains: Sequence[Domain]) -> float:
    """Mean over the domains of the matched instances alone, cheaper than `score` by the ranking of instances."""
    found = []
    for domain in domains:
        counts = MatchCounts(0, 0, 0)
        for sample in domain.samples:
            labels = decode(predict(base.net, (sample.image.astype(np.float32) - base.mean) / base.std))
            counts = counts.plus(match(labels, sample.instances))
        found.append(counts.score)
    return float(np.mean(found))


class _Pool:
    """A rolling pool of augmented whole images; every step one is replaced and each gives one crop.

    Augmenting whole images keeps the context that geometric operations need, and costs one image a step instead of one
    a crop.
    """

    def __init__(
        self, train: Sequence[ProbeSample], augment: Augment, settings: ProbeSettings, seed: list[int]
    ) -> None:
        self._train, self._augment, self._settings = train, augment, settings
        self._order_rng, self._crop_rng = np.random.default_rng(seed).spawn(2)
        self._entered = 0
        self._order: list[int] = []
        self._entries = [self._next() for _ in range(settings.batch)]

    def _next(self) -> tuple[Image, NDArray[np.float32]]:
        if not self._order:
            self._order = self._order_rng.permutation(len(self._train)).tolist()
        sample = self._train[self._order.pop()]
        image, instances = sample.image, sample.instances
        if self._entered % self._settings.untouched:
            image, instances = self._augment(image, instances, sample.id, self._entered)
        self._entered += 1
        return image, targets(instances)

    def batch(self) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Crops (B, 1, S, S) uint8 and their targets (B, 2, S, S) float32."""
        self._entries[self._entered % len(self._entries)] = self._next()
        side = self._settings.crop
        images, wanted = [], []
        for image, target in self._entries:
            height, width = image.shape
            if height < side or width < side:
                grow = ((0, max(side - height, 0)), (0, max(side - width, 0)))
                image, target = np.pad(image, grow, mode="reflect"), np.pad(target, ((0, 0), *grow), mode="reflect")
                height, width = image.shape
            y = self._crop_rng.integers(height - side + 1)
            x = self._crop_rng.integers(width - side + 1)
            images.append(image[None, y : y + side, x : x + side])
            wanted.append(target[:, y : y + side, x : x + side])
        return np.stack(images), np.stack(wanted)

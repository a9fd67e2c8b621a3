"""How large are the cells of a type nobody labelled? By the size at which networks of the source are surest of them.

Images of the type are shown to them enlarged and reduced. At the size at which its cells look most like those of the
source, they are surest of what they find (experiments/recognised_size.py compares that with the true sizes). Several
networks, as one that was trained so shortly may be surer of any image the more it is enlarged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from policy_search.study.network import confidences, decode, predict
from policy_search.study.probe import Base, ProbeSample, ProbeSettings, train_base

SIZES = (0.32, 0.4, 0.5, 0.63, 0.8, 1.0, 1.25, 1.6, 2.0)  # of the target's cells, in those of the source
NETWORKS = 3
IMAGES = 6  # that are looked at
WINDOW = 320  # pixels: the side of their middles that is looked at; enlarging whole images costs minutes
# Confidence that another size than 1 must bring, and an outermost one. Chosen on the demo culture.
CLEAR, CLEAR_AT_ENDS = 0.02, 0.1
_STRIDE = 1_000_003  # between the seeds of networks: two runs of small seeds share none


@dataclass(frozen=True)
class Recognised:
    """What was found.

    Attributes:
        size: of the cells, in those of the source; 1 unless another size is clearly better.
        confidence: mean confidence in [0, 1] by size tried.
    """

    size: float
    confidence: Mapping[float, float]


def train_networks(
    train: Sequence[ProbeSample], *, seed: int, steps: int, after: Callable[[int, int], None] | None = None
) -> list[Base]:
    """The networks that are asked, each trained by itself.

    Args:
        train: the labelled source.
        seed: of all of them.
        steps: of each.
        after: called after every step with the networks and steps finished; what it raises ends the training.

    Raises:
        ProbeError: a loss is not finite.
    """
    settings = ProbeSettings(base_steps=steps)
    return [
        train_base(
            train, seed=seed + number * _STRIDE, settings=settings,
            after=None if after is None else lambda step, number=number: after(number, step),
        )
        for number in range(NETWORKS)
    ]  # fmt: skip


def recognise(networks: Sequence[Base], images: Sequence[NDArray[np.uint8]]) -> Recognised:
    """The size of the cells in these images (H, W); the middles of the first `IMAGES` of them are looked at."""
    middles = [_middle(image) for image in images[:IMAGES]]
    by_size = {size: float(np.mean([confidence(net, middles, size) for net in networks])) for size in SIZES}
    return Recognised(choose(by_size), by_size)


class Answers(NamedTuple):
    """Whether the networks know their own source, and what they say of each target: size 1 where they do not."""

    knows: bool
    by_target: dict[str, Recognised]


def ask(
    networks: Sequence[Base],
    source: Sequence[NDArray[np.uint8]],
    targets: Mapping[str, Sequence[NDArray[np.uint8]]],
    check: Callable[[], None] = lambda: None,
) -> Answers:
    """The sizes of the cells of all targets.

    Args:
        networks: of `train_networks`.
        source: the images (H, W) that they were trained on.
        targets: type -> images (H, W).
        check: called between targets; what it raises ends the questions.
    """
    own, found = recognise(networks, source), {}
    for name, images in targets.items():
        check()
        found[name] = recognise(networks, images)
        if not knows(own):
            found[name] = replace(found[name], size=1.0)
    return Answers(knows(own), found)


def knows(own: Recognised) -> bool:
    """Whether the networks can be asked at all.

    Of the images that they were trained on they must be surer as these are than at most other sizes, by half of what is
    clear, and at no other size clearly surer.
    """
    typical = float(np.median(list(own.confidence.values())))
    return own.size == 1 and own.confidence[1.0] >= typical + CLEAR / 2


def _middle(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    (top, height), (left, width) = ((max(0, n - WINDOW) // 2, min(n, WINDOW)) for n in image.shape)
    return image[top : top + height, left : left + width]


def confidence(base: Base, images: Sequence[NDArray[np.uint8]], size: float) -> float:
    """Mean confidence, in [0, 1], of all instances found once images are resized by 1 / `size`; 0 if none is."""
    found: list[float] = []
    for image in images:
        resized = cv2.resize(image, None, fx=1 / size, fy=1 / size, interpolation=cv2.INTER_LINEAR)
        probabilities = predict(base.net, (resized.astype(np.float32) - base.mean) / base.std)
        found += list(confidences(probabilities, decode(probabilities)))
    return float(np.mean(found)) if found else 0.0


def choose(by_size: Mapping[float, float]) -> float:
    """The size with the highest confidence, if that is clearly higher than at 1; else 1.

    An outermost size has to be far better: a network that is ever a little surer of ever larger (or smaller) images has
    not recognised a size; it sees texture, or nothing. Even then it is the least extreme of those that are nearly as
    good. Elsewhere the place between the sizes tried is that of the parabola through the three around the highest, in
    the logarithm of the size.
    """
    sizes = sorted(by_size)
    at = max(range(len(sizes)), key=lambda i: by_size[sizes[i]])
    gain = by_size[sizes[at]] - by_size[1.0]
    if at in (0, len(sizes) - 1):
        near = [size for size in sizes if by_size[size] > by_size[sizes[at]] - CLEAR]
        return min(near, key=lambda size: abs(np.log(size))) if gain > CLEAR_AT_ENDS else 1.0
    if gain < CLEAR:
        return 1.0
    logs = np.log(sizes[at - 1 : at + 2])
    bend, slope, _ = np.polyfit(logs, [by_size[size] for size in sizes[at - 1 : at + 2]], 2)
    return float(np.exp(np.clip(-slope / (2 * bend), logs[0], logs[2])))

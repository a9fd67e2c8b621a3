"""The size of unlabelled cells, by the size at which a network of the source is most sure of what it finds."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from policy_search.study.network import confidences, decode, predict
from policy_search.study.probe import Base

SIZES = (0.4, 0.5, 0.63, 0.8, 1.0, 1.25, 1.6)  # of the target's cells, in those of the source
IMAGES = 6  # of each type
CLEAR = 0.02  # confidence that another size must bring; chosen after a look at seed 0


def confidence(base: Base, images: Sequence[NDArray[np.uint8]], size: float) -> float:
    """Mean confidence, in [0, 1], of all instances found once images are resized by 1 / `size`."""
    found: list[float] = []
    for image in images:
        resized = cv2.resize(image, None, fx=1 / size, fy=1 / size, interpolation=cv2.INTER_LINEAR)
        probabilities = predict(base.net, (resized.astype(np.float32) - base.mean) / base.std)
        found += list(confidences(probabilities, decode(probabilities)))
    return float(np.mean(found)) if found else 0.0


def best(by_size: dict[float, float]) -> float:
    """The size with the highest confidence."""
    return max(by_size, key=by_size.__getitem__)


def recognised(base: Base, images: Sequence[NDArray[np.uint8]]) -> float:
    """The size of the cells of these images, in those of the source; 1 unless another one is clearly better."""
    by_size = {size: confidence(base, images[:IMAGES], size) for size in SIZES}
    size = best(by_size)
    return size if by_size[size] > by_size[1.0] + CLEAR else 1.0

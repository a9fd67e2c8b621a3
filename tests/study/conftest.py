"""A generated culture for the study's tests: dark ellipses on a noisy grey ground, some of them touching."""

from __future__ import annotations

import numpy as np
import pytest

from policy_search.cells import InstanceMap
from policy_search.study.probe import ProbeSample
from tests.study.fake_detect import FakeDetect


def culture(seed: int, height: int = 128, width: int = 128, cells: int = 12) -> ProbeSample:
    """One image with up to `cells` ellipses that overlap little, and their masks."""
    rng = np.random.default_rng(seed)
    image = rng.normal(128, 4, (height, width))
    labels = np.zeros((height, width), np.int64)
    ys, xs = np.mgrid[:height, :width]
    for label in range(1, cells + 1):
        cy, cx = rng.uniform(8, height - 8), rng.uniform(8, width - 8)
        a, b, turn = rng.uniform(8, 12), rng.uniform(6, 8), rng.uniform(0, np.pi)
        dy, dx = ys - cy, xs - cx
        along, across = dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)
        inside = (along / a) ** 2 + (across / b) ** 2 < 1
        if (labels[inside] > 0).mean() > 0.05:
            continue
        inside &= labels == 0
        labels[inside] = label
        image[inside] -= 30 - 20 * ((along / a) ** 2 + (across / b) ** 2)[inside]
    return ProbeSample(f"blobs/{seed}", np.clip(image, 0, 255).astype(np.uint8), InstanceMap.from_labels(labels))


@pytest.fixture
def blobs() -> tuple[ProbeSample, ...]:
    """Three images of the culture."""
    return tuple(culture(seed) for seed in range(3))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeDetect:
    fake = FakeDetect()
    monkeypatch.setattr("policy_search.study.ap50_command.subprocess.run", fake)
    return fake

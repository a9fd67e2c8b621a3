"""The size of unlabelled cells: what is shown to the network, and when its answer counts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from policy_search.study import sizes
from policy_search.study.probe import ProbeSettings
from policy_search.study.sizes import SIZES, Recognised, choose, confidence, knows, recognise


def curve(peak: float, height: float, floor: float = 0.4) -> dict[float, float]:
    """A parabola in the logarithm of the size, as high above `floor` as said, 0 further out."""
    return {s: max(floor, floor + height * (1 - (np.log(s / peak) / np.log(2)) ** 2)) for s in SIZES}


@pytest.mark.parametrize("peak", [0.44, 0.57, 0.72, 1.4])
def test_the_place_between_the_sizes_tried(peak: float) -> None:
    assert choose(curve(peak, 0.3)) == pytest.approx(peak, rel=1e-3)


def test_no_clear_answer_is_size_one() -> None:
    flat = dict.fromkeys(SIZES, 0.5)
    assert choose(flat) == 1
    assert choose(flat | {0.63: 0.5 + sizes.CLEAR - 1e-4}) == 1
    assert choose(flat | {0.63: 0.5 + sizes.CLEAR + 1e-4}) == pytest.approx(0.63, rel=0.01)
    for end in (SIZES[0], SIZES[-1]):
        assert choose(flat | {end: 0.5 + sizes.CLEAR_AT_ENDS - 1e-4}) == 1
        assert choose(flat | {end: 0.5 + sizes.CLEAR_AT_ENDS + 1e-4}) == end
    assert choose(flat | {SIZES[0]: 0.8, SIZES[1]: 0.8 - sizes.CLEAR / 2, SIZES[2]: 0.8 - 2 * sizes.CLEAR}) == SIZES[1]


def test_a_network_that_does_not_know_its_own_source_is_not_asked() -> None:
    def asked(by_size: dict[float, float]) -> bool:
        return knows(Recognised(choose(by_size), by_size))

    flat = dict.fromkeys(SIZES, 0.5)
    assert asked(curve(1.0, 0.2))
    assert not asked(curve(0.8, 0.2))  # takes it for another size
    assert not asked(flat)
    assert not asked(flat | {1.0: 0.5 + sizes.CLEAR / 2 - 1e-4})
    assert asked(flat | {1.0: 0.5 + sizes.CLEAR / 2 + 1e-4})
    # A little more at an end is no size.
    assert asked(flat | {1.0: 0.53, SIZES[0]: 0.54})


def test_cells_half_as_large_are_shown_twice_as_large_and_only_middles(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[np.ndarray] = []
    monkeypatch.setattr(sizes, "predict", lambda net, image: seen.append(image) or np.zeros((2, *image.shape)))
    base = type("Base", (), {"net": None, "mean": 100.0, "std": 10.0})()
    image = np.full((40, 60), 120, np.uint8)
    assert confidence(base, [image], 0.5) == 0.0
    assert [s.shape for s in seen] == [(80, 120)]
    assert np.all(seen[0] == 2)
    seen.clear()
    wide = np.zeros((40, 1000), np.uint8)
    wide[:, 340:660] = 100  # the middle 320
    assert recognise([base], [wide] * 9).size == 1
    assert len(seen) == sizes.IMAGES * len(SIZES)
    assert [s.shape for s in seen[:: sizes.IMAGES]] == [(round(40 / s), round(320 / s)) for s in SIZES]
    assert all(np.all(s == 0) for s in seen)


def test_the_mean_is_over_the_cells_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two images, one with two cells of depth .9 and .5, the other with one of .7: the mean of the three."""
    planes = []
    for cells in ([(4, 0.9), (24, 0.5)], [(14, 0.7)]):
        plane = np.zeros((2, 40, 48), np.float32)
        for left, depth in cells:
            plane[0, 8:28, left : left + 16] = 1
            plane[1, 8:28, left : left + 16] = depth
        planes.append(plane)
    remaining = iter(planes)
    monkeypatch.setattr(sizes, "predict", lambda net, image: next(remaining))
    base = type("Base", (), {"net": None, "mean": 0.0, "std": 1.0})()
    assert confidence(base, [np.zeros((40, 48), np.uint8)] * 2, 1.0) == pytest.approx(0.7, abs=1e-6)


def test_networks_are_asked_together_and_trained_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    steps: list[tuple[int, int]] = []

    def train(samples: object, *, seed: int, settings: ProbeSettings, after: Callable[[int], None]) -> float:
        seeds.append(seed)
        after(settings.base_steps)
        return 0.1 * len(seeds)

    monkeypatch.setattr(sizes, "train_base", train)
    networks = sizes.train_networks([], seed=7, steps=5, after=lambda number, step: steps.append((number, step)))
    assert seeds[0] == 7
    assert len(set(seeds)) == sizes.NETWORKS == len(networks)
    assert steps == [(number, 5) for number in range(sizes.NETWORKS)]
    monkeypatch.setattr(sizes, "confidence", lambda net, images, size: net)
    found = recognise(networks, [np.zeros((8, 8), np.uint8)])
    assert found.confidence[1.0] == pytest.approx(0.2)

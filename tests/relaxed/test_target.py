"""Target mode: planted shifts are found in the form of choices, nothing is invented, runs repeat and resume."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from policy_search.relaxed.application import compose_curve, compose_matrix, resolve
from policy_search.relaxed.crops import CropSampler
from policy_search.relaxed.operations import PLAN, simple_plan
from policy_search.relaxed.policy import RelaxedPolicy
from policy_search.relaxed.search import SearchDivergedError
from policy_search.relaxed.settle import Settler
from policy_search.relaxed.target import TargetSearch, TargetSettings, search_target, unlabelled
from policy_search.relaxed.threads import one_thread
from tests.relaxed.textures import culture, shifted

NAMES = ("rotate", "scale", "stretch_x", "brightness", "contrast", "gamma", "gaussian_blur", "horizontal_flip")
TINY = TargetSettings(operation_names=NAMES, sub_policies=2, steps=16, batch=2, crop=32, margin=8)
FOUND = TargetSettings(operation_names=NAMES, sub_policies=4, steps=320, batch=6, crop=96, margin=48)


@pytest.fixture(autouse=True)
def single_thread() -> object:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def source() -> list[np.ndarray]:
    return [culture(seed)[0] for seed in range(6)]


def outcome(policy: RelaxedPolicy, source: list[np.ndarray]) -> tuple[float, float, float]:
    """Medians over draws: what level 128 becomes, and the factors of lengths along x and y."""
    generator = torch.Generator().manual_seed(9)
    image, _ = unlabelled(source).sample(200, 64, generator)
    with torch.no_grad():
        draw = policy.draw(200, generator)
        drawn = resolve(policy, draw)
        matrix, curve = compose_matrix(policy, drawn), compose_curve(policy, drawn, draw, image)
    lengths = (matrix[:, :2, :2] @ matrix[:, :2, :2].mT).diagonal(dim1=1, dim2=2).sqrt().median(0).values
    return curve[:, 0, 128].median().item(), lengths[0].item(), lengths[1].item()


def test_a_planted_pair_is_found_by_the_policy_of_choices(source: list[np.ndarray]) -> None:
    """Target: other images of the culture, 64 grey levels brighter and at 0.6 of the size (OpenCV)."""
    target = [shifted(culture(10 + seed, size=384), brightness=64, scale=0.6)[0] for seed in range(6)]
    search = TargetSearch(unlabelled(source), unlabelled(target), FOUND, seed=0)
    while search.done < FOUND.steps:
        search.step()
    level, x, y = outcome(search.average, source)
    assert level == pytest.approx(192 / 255, abs=0.03)
    assert (x, y) == pytest.approx((0.6, 0.6), rel=0.07)
    # Chosen, not blended: one operation has the stage.
    table = search.average.table()
    at = [o.name for o in search.average.operations].index("scale")
    assert table.weight[:, 1, at].min() > 0.9
    still, moved = search.found["gaps"].tolist()
    assert moved < 0.3 * still


def test_nothing_is_found_where_nothing_was_planted(source: list[np.ndarray]) -> None:
    target = [culture(10 + seed)[0] for seed in range(6)]
    result = search_target([(i, np.zeros(i.shape, bool)) for i in source], target, settings=FOUND, seed=0)
    level, x, y = outcome(result.policy, source)
    assert level == pytest.approx(128 / 255, abs=0.02)
    assert (x, y) == pytest.approx((1.0, 1.0), rel=0.05)


@pytest.mark.parametrize("plan", [PLAN, simple_plan(NAMES[:-1])], ids=["choices", "simple"])
def test_a_search_goes_on_from_its_state_bit_for_bit_in_every_stretch(source: list[np.ndarray], plan: object) -> None:
    updates: dict[str, object] = {"plan": plan}
    if plan is not PLAN:
        updates |= {"sub_policies": 1, "operation_names": NAMES[:-1]}
    settings = TINY.model_copy(update=updates)
    target = [culture(20)[0]]

    def fresh(seed: int) -> TargetSearch:
        return TargetSearch(unlabelled(source[:2]), unlabelled(target), settings, seed)

    whole = fresh(3)
    states, reports = [], []
    for _ in range(settings.steps):
        states.append(whole.state_dict())
        reports.append(whole.step())
    assert whole.is_simple == (plan is not PLAN)
    for done in (0, 1, 3, 5, 6, 9, 12, 13, 15):
        resumed = fresh(3)
        resumed.load_state_dict(states[done])
        assert [resumed.step() for _ in range(settings.steps - done)] == reports[done:], done
        for name, value in whole.average.state_dict().items():
            assert torch.equal(value, resumed.average.state_dict()[name]), (done, name)
    assert [fresh(4).step() for _ in range(1)] != reports[:1]


def test_what_stays_of_the_choices_is_learnt_on(source: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    """The test of the choices is made to leave one brightness."""
    at = NAMES.index("brightness")

    def settle(settler: Settler) -> None:
        with torch.no_grad():
            settler.make({2: (at, 0.875)})  # 0.3 in [-0.4, 0.4], in the stage of tone

    monkeypatch.setattr(Settler, "settle", settle)
    search = TargetSearch(unlabelled(source[:2]), unlabelled(source[2:4]), TINY, seed=0)
    while search._stretch != "chosen":
        search.step()
    table = search.average.table()
    assert ((table.low + table.high) / 2)[:, 2, at].tolist() == pytest.approx([0.3] * 2, abs=0.02)
    acting = (table.weight * table.gate).amax((0, 1)) > 0.3
    assert [NAMES[k] for k in acting.nonzero()[:, 0].tolist()] == ["brightness"]


def test_masks_are_never_looked_at(source: list[np.ndarray]) -> None:
    rng = np.random.default_rng(0)
    found = []
    for fill in (np.zeros, lambda shape, dtype: rng.random(shape) < 0.5):
        pairs = [(image, fill(image.shape, bool)) for image in source[:2]]
        search = TargetSearch(CropSampler(pairs), CropSampler(pairs[::-1]), TINY, seed=0)
        found.append([search.step() for _ in range(TINY.steps)])
    assert found[0] == found[1]


def test_three_channels(source: list[np.ndarray]) -> None:
    colour = [np.repeat(image[..., None], 3, 2) for image in source[:2]]
    search = TargetSearch(unlabelled(colour), unlabelled(colour), TINY, seed=0)
    assert all(np.isfinite(search.step().distance) for _ in range(TINY.steps))


def test_a_loss_that_is_not_finite_stops_with_step_and_losses(source: list[np.ndarray]) -> None:
    search = TargetSearch(unlabelled(source[:2]), unlabelled(source[2:4]), TINY, seed=0)
    search.step()
    search.step()
    with torch.no_grad():
        search.known.target[0] = float("nan")
    before = {name: value.clone() for name, value in search.average.state_dict().items()}
    with pytest.raises(SearchDivergedError, match=r"step 2 \(still\): policy loss = nan, mismatch = nan"):
        search.step()
    assert all(torch.equal(value, before[name]) for name, value in search.average.state_dict().items())


def test_no_tensor_is_made_on_another_device(source: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors without a device of their own are made where no number is, so that a step that meets one fails."""
    begin = TargetSearch._begin

    def begun(search: TargetSearch, name: str) -> object:
        # Choices are made on the host.
        with torch.device("cpu"):
            return begin(search, name)

    monkeypatch.setattr(TargetSearch, "_begin", begun)
    search = TargetSearch(unlabelled(source[:2]), unlabelled(source[2:4]), TINY, seed=0, device="cpu")
    other = TargetSearch(unlabelled(source[:2]), unlabelled(source[2:4]), TINY, seed=0)
    with torch.device("meta"):
        found = [search.step() for _ in range(TINY.steps)]
    assert found == [other.step() for _ in range(TINY.steps)]

"""What every objective keeps, run over all four; what each of them is to know; and that none can see a test split.

`detect` is stood in for by something that answers from its command line; test_ap50.py has the real one.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import albumentations as A
import numpy as np
import pytest
import torch

from policy_search.augment import PolicyDocument, baseline, stacked
from policy_search.cells import resolve
from policy_search.cells.errors import DataError, InputError
from policy_search.config import RunConfig
from policy_search.relaxed.moments import Reference
from policy_search.relaxed.threads import one_thread
from policy_search.study import probe as probe_module
from policy_search.study.affinity import AffinityDiversityObjective
from policy_search.study.bridge import BridgeObjective, BridgeSettings, distances
from policy_search.study.data import StudyData, load_study_data
from policy_search.study.objective import Objective
from policy_search.study.objectives import NAMES, build_objective, judge_of
from policy_search.study.objectives_probe import ProbeObjective, thinned
from policy_search.study.probe import Domain, ProbeSample, ProbeSettings
from policy_search.study.splits import read_split
from policy_search.study.tradeoff import TradeoffObjective
from tests.conftest import write_livecell
from tests.study.conftest import culture
from tests.study.fake_detect import FakeDetect

PRUNABLE = {"tradeoff": True, "probe": True, "bridge": True, "affinity-diversity": False, "ap50": True}
SHARES = {name: [0.25, 0.5] for name in ("tradeoff", "probe", "bridge")} | {"affinity-diversity": [], "ap50": [0.25]}
DIRECTIONS = {
    "tradeoff": ("maximize",), "probe": ("maximize",), "bridge": ("minimize",),
    "affinity-diversity": ("maximize", "maximize"),
    "ap50": ("maximize",),
}  # fmt: skip
DARK = PolicyDocument.from_compose(
    A.Compose([A.RandomBrightnessContrast(brightness_limit=(-0.2, -0.2), contrast_limit=(0.0, 0.0), p=1.0)])
)


def darkened(image: np.ndarray) -> np.ndarray:
    return np.clip(image - 51.0, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def data() -> StudyData:
    held_out = (culture(10), culture(11))
    faint = tuple(
        ProbeSample(s.id, (128 + 0.4 * (s.image - 128.0)).astype(np.uint8), s.instances) for s in held_out
    )  # fmt: skip
    return StudyData(
        "blobs",
        True,
        "f1",
        tuple(culture(seed) for seed in range(3)),
        (Domain("first", held_out), Domain("faint", faint)),
        "blobs",
        held_out,
        {"dark": tuple(darkened(culture(seed).image) for seed in range(20, 24)), "same": (culture(25).image,)},
    )


# Small, and quick to learn these blobs, so that scores are more than zeros.
QUICK = ProbeSettings(base_steps=160, steps=30, batch=4, crop=64, width=8, base_rate=2e-2)


def config(out: Path, **options: Any) -> RunConfig:
    return RunConfig(**{"data": "blobs", "out": out, "target": ("dark",), "ap50_iterations": 7, **options})


def quick(out: Path, data: StudyData, name: str, settings: ProbeSettings = QUICK) -> Objective:
    """The objective that the command builds, with a quick probe."""
    objective = build_objective(config(out, objective=name), data)
    both = objective.both if isinstance(objective, TradeoffObjective) else objective
    probe = both.probe if isinstance(both, AffinityDiversityObjective) else both
    if isinstance(probe, ProbeObjective):
        probe.settings = settings
    return objective


@pytest.fixture(scope="module")
def kept() -> dict[str, Objective]:
    """Objectives that keep what they have trained between tests of this file."""
    return {}


@pytest.fixture
def make(data: StudyData, kept: dict[str, Objective], tmp_path: Path, fake: FakeDetect) -> Callable[[str], Objective]:
    def build(name: str) -> Objective:
        if name == "ap50":  # its folder is another in every test
            return quick(tmp_path / "run", data, name)
        if name not in kept:
            kept[name] = quick(tmp_path / "run", data, name)
        return kept[name]

    return build


@pytest.fixture(autouse=True)
def one() -> Iterator[None]:
    """As in a study. With more threads sums are another order's, and counts of matched cells may be equal by chance."""
    with one_thread():
        yield


each = pytest.mark.parametrize("name", NAMES)


@each
def test_it_says_what_it_is(name: str, make: Callable[[str], Objective]) -> None:
    objective = make(name)
    assert objective.name == name
    assert objective.directions == DIRECTIONS[name]
    assert len(objective.metrics) == len(objective.directions)
    assert objective.prunable is PRUNABLE[name]


@each
def test_scores_repeat_tell_policies_apart_and_leave_the_data_alone(
    name: str, make: Callable[[str], Objective], data: StudyData, tmp_path: Path
) -> None:
    before = pixels(data)
    objective = make(name)
    heavy = PolicyDocument.from_compose(A.Compose([A.AutoContrast(p=1.0), *stacked(0.9).compose().transforms]))
    first = objective.score(heavy, seed=3)
    assert len(first.values) == len(objective.metrics)
    assert all(math.isfinite(v) for v in [*first.values, *first.domains.values()])
    assert first.seconds > 0
    again = quick(tmp_path / "other", data, name).score(heavy, seed=3)
    assert again.values == first.values
    assert again.domains == first.domains
    assert again.losses == first.losses
    assert objective.score(baseline("none"), seed=3).values != first.values
    assert objective.score(heavy, seed=4).values != first.values
    assert pixels(data) == before


def pixels(data: StudyData) -> list[bytes]:
    samples = [*data.train, *data.held_out, *(s for d in data.domains for s in d.samples)]
    images = [s.image for s in samples] + [i for images in data.targets.values() for i in images]
    return [i.tobytes() for i in images] + [s.instances.layers.tobytes() for s in samples]


@each
def test_it_reports_on_the_way_where_it_says_so(name: str, make: Callable[[str], Objective]) -> None:
    objective, reports = make(name), []
    silent = objective.score(baseline("crop"), seed=3)
    told = objective.score(baseline("crop"), seed=3, report=lambda share, value: reports.append((share, value)))
    assert told.values == silent.values
    assert [share for share, _ in reports] == SHARES[name]
    assert all(math.isfinite(value) for _, value in reports)


class EnoughError(Exception):
    """What a pruner raises."""


@pytest.mark.parametrize("name", [name for name in NAMES if PRUNABLE[name]])
def test_what_a_report_raises_ends_the_scoring(name: str, make: Callable[[str], Objective]) -> None:
    shares = []

    def stop(share: float, value: float) -> None:
        shares.append(share)
        raise EnoughError

    with pytest.raises(EnoughError):
        make(name).score(baseline("crop"), seed=3, report=stop)
    assert shares == [0.25]


@each
def test_the_scalar_is_the_mean_of_its_domains(name: str, make: Callable[[str], Objective], data: StudyData) -> None:
    score = make(name).score(baseline("flip"), seed=3)
    if name == "affinity-diversity":
        assert score.domains == {}
        with pytest.raises(ValueError, match="2 metrics"):
            _ = score.value
        return
    if name == "tradeoff":
        assert score.value == pytest.approx(np.prod(list(score.domains.values())), rel=1e-6)
        return
    assert set(score.domains) == ({"dark", "same"} if name == "bridge" else {"first", "faint"})
    assert score.value == pytest.approx(np.mean(list(score.domains.values())), rel=1e-6)


def test_darkening_brings_the_source_nearer_to_darker_images(data: StudyData) -> None:
    objective = BridgeObjective(data)
    still, dark = (objective.score(policy, seed=0).domains for policy in (baseline("none"), DARK))
    assert dark["dark"] < 0.2 * still["dark"]
    assert dark["same"] > 5 * still["same"]
    assert still["same"] < 0.2 * still["dark"]


def test_the_distance_is_that_of_means_and_variances() -> None:
    rng = np.random.default_rng(0)
    seen = rng.normal([0.5, 9.0], [1.0, 2.0], (50, 2))
    target, variance = np.array([0.0, 1.0]), np.array([1.0, 0.5])
    known = Reference(torch.eye(2).double(), torch.zeros(2), *(torch.from_numpy(v) for v in (target, variance)))

    def huber(gap: np.ndarray) -> float:
        return float((18 * (np.sqrt(1 + (gap / 3) ** 2) - 1)).sum())

    expected = huber(seen.mean(0) - target) + huber(0.3 * np.log((seen.var(0, ddof=1) + 0.05) / variance))
    assert distances(torch.from_numpy(seen), {"one": known})["one"] == pytest.approx(expected, rel=1e-9)


def test_a_strong_policy_confuses_the_network_and_makes_it_work(make: Callable[[str], Objective]) -> None:
    objective = make("affinity-diversity")
    assert objective.score(baseline("none"), seed=3).values == (0.0, 1.0)
    score = objective.score(PolicyDocument.from_compose(A.Compose([A.InvertImg(p=1.0)])), seed=3)
    affinity, diversity = score.values
    assert -1 <= affinity < -0.2
    assert diversity > 1.1
    assert set(score.losses) == {"probe: loss under the policy", "probe: loss on untouched images"}


def test_faint_images_in_training_help_the_probe_on_faint_images(make: Callable[[str], Objective]) -> None:
    objective = make("probe")
    fainter = A.RandomBrightnessContrast(brightness_limit=(0.3, 0.3), contrast_limit=(-0.6, -0.6), p=1.0)
    still, faint = (
        objective.score(policy, seed=3)
        for policy in (baseline("none"), PolicyDocument.from_compose(A.Compose([fainter])))
    )
    assert faint.domains["faint"] > still.domains["faint"] + 0.1
    assert len(faint.losses["probe: loss"]) == QUICK.steps


def test_a_check_of_the_probe_looks_at_one_image_of_every_domain(
    make: Callable[[str], Objective], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, matched = [], probe_module.matched

    def spy(base: Any, domains: Any) -> float:
        looked.append({d.name: [s.id for s in d.samples] for d in domains})
        return matched(base, domains)

    monkeypatch.setattr(probe_module, "matched", spy)
    make("probe").score(baseline("none"), seed=3, report=lambda share, value: None)
    assert looked == [{"first": ["blobs/10"], "faint": ["blobs/10"]}] * 2


def test_curves_keep_their_ends() -> None:
    found = thinned([float(i) for i in range(1000)])
    assert (len(found), found[0], found[-1]) == (100, 0.0, 999.0)
    assert thinned([3.0, 2.0]) == (3.0, 2.0)


def test_one_value_judges_itself_and_a_front_is_judged_by_its_product(
    data: StudyData, tmp_path: Path, make: Callable[[str], Objective]
) -> None:
    for name in ("probe", "bridge", "ap50"):
        objective = make(name)
        assert judge_of(objective, config(tmp_path, objective=name), data) is objective
    front = make("affinity-diversity")
    assert isinstance(front, AffinityDiversityObjective)
    judge = judge_of(front, config(tmp_path, objective=front.name), data)
    assert isinstance(judge, TradeoffObjective)
    assert judge.both is front


def test_what_is_missing_is_said_before_anything_is_written(
    data: StudyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(message: str, given: StudyData, **options: Any) -> None:
        with pytest.raises(InputError, match=message):
            build_objective(config(tmp_path / "run", **options), given)

    bare = StudyData("blobs", True, "f1", data.train, data.domains, "blobs")
    refused("name them by --target", bare, objective="bridge")
    refused("Leave --validate-on out", bare, objective="affinity-diversity")
    refused("no such file", data, objective="ap50", weights=tmp_path / "none.pth")
    nothing = Domain("empty", (culture(0, cells=0),))
    refused("no cell is labelled in empty", StudyData("b", True, "f", data.train, (nothing,), "b"), objective="ap50")
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "detectron2" else find(name))
    refused("detectron2 is not installed", data, objective="ap50")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A data set like LIVECell whose test split cannot be touched without an error."""
    root = write_livecell(
        tmp_path / "cells", {"A172": {"train": 2, "val": 2, "test": 2}, "BV2": {"train": 2, "val": 1, "test": 1}}
    )
    for image in (root / "images" / "livecell_test_images").rglob("*.tif"):
        image.write_bytes(b"garbage")
    for labels in root.rglob("test.json"):
        labels.write_text("{ a trap")
    return root


@each
def test_no_objective_can_see_a_test_split(
    name: str, trap: Path, tmp_path: Path, fake: FakeDetect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIVECELL_ROOT", str(trap))
    found = load_study_data("A172", root=trap, target=("BV2",))
    tiny = ProbeSettings(base_steps=4, steps=4, batch=2, crop=32, width=4)
    objective = quick(tmp_path / "run", found, name, tiny)
    if isinstance(objective, TradeoffObjective):  # a network that was trained so shortly finds no cell
        objective.both._untouched[0] = (0.5, objective.both.prepare(0)[1])
    score = objective.score(baseline("random_choice"), seed=0)
    assert all(math.isfinite(v) for v in score.values)
    for data in ("A172", "BV2"):
        with pytest.raises(InputError, match="never reads the test split"):
            read_split(data, "test", trap)
        with pytest.raises(DataError):
            resolve(data, "test", trap)  # the trap is one
    if name == "ap50":
        assert len(fake.calls) == 2
        assert not any(str(trap) in argument or "A172" in argument for call in fake.calls for argument in call)
        assert all("LIVECELL_ROOT" not in env and env["OMP_NUM_THREADS"] == "1" for env in fake.environments)
        held = {s.image.tobytes() for s in (*found.train, *(s for d in found.domains for s in d.samples))}
        for call in fake.calls:
            given = dict(zip(call[4::2], call[5::2], strict=True))
            for option, split in (("--data", "train"), ("--eval", "test")):
                if option in given:
                    seen = resolve(given[option], split)
                    assert {seen.image(record).tobytes() for record in seen} <= held


def test_small_images_and_few_crops_can_be_bridged(tmp_path: Path) -> None:
    data = StudyData("b", True, "f", (culture(0, 96, 80),), (), "b", (), {"t": (culture(1, 64, 200).image,)})
    objective = BridgeObjective(data, BridgeSettings(images=5, crops=1, reference=128))
    assert math.isfinite(objective.score(baseline("simple_copy_paste"), seed=0).value)


def test_the_tradeoff_is_the_product_of_what_affinity_and_diversity_say(make: Callable[[str], Objective]) -> None:
    both, product = make("affinity-diversity"), make("tradeoff")
    assert isinstance(both, AffinityDiversityObjective)
    clean, _ = both.prepare(3)
    assert clean > 0.1
    for document in (baseline("none"), baseline("crop"), DARK):
        affinity, diversity = both.score(document, seed=3).values
        found = product.score(document, seed=3)
        assert found.value == pytest.approx((clean + affinity) / clean * diversity, rel=1e-9)
    assert product.score(baseline("none"), seed=3).value == pytest.approx(1.0)


def test_a_network_that_finds_nothing_has_no_tradeoff(data: StudyData, tmp_path: Path) -> None:
    blank = ProbeSettings(base_steps=2, steps=4, batch=2, crop=32, width=4)
    with pytest.raises(probe_module.ProbeError, match="finds no cell"):
        quick(tmp_path, data, "tradeoff", blank).score(baseline("none"), seed=0)


def test_labelled_types_are_for_objectives_that_look_at_them(tmp_path: Path) -> None:
    def named(**options: Any) -> str:
        return RunConfig(data="A172", out=tmp_path, **options).objective

    assert named() == named(validate_on=("BV2",)) == "probe"
    assert named(validate_on=("BV2",), objective="ap50") == "ap50"
    with pytest.raises(InputError, match=r"--objective bridge does not look at labelled types"):
        named(validate_on=("BV2",), objective="bridge")
    with pytest.raises(InputError, match=r"--objective: expected one of"):
        named(objective="nonsense")

"""Planted shifts are found in the form of choices and in the simple form, within the tolerances of the experiment.

The cases, their targets (OpenCV and numpy) and the tolerances are those of experiments/planted.py; the searches here
are small enough for a test, the experiment's are not.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "experiments"))
from planted import CASES, found_by, verdicts

from policy_search.cells import resolve
from policy_search.relaxed.operations import PLAN, simple_plan
from policy_search.relaxed.target import TargetSearch, TargetSettings, unlabelled
from policy_search.relaxed.threads import one_thread

NAMES = (
    "rotate", "scale", "stretch_x", "stretch_y", "brightness", "contrast", "gamma", "gaussian_blur", "sharpen",
    "gaussian_noise",
)  # fmt: skip
FORMS = {
    "full": TargetSettings(
        operation_names=(*NAMES, "horizontal_flip", "solarize", "cutout"), plan=PLAN, sub_policies=4, steps=320,
        batch=6, crop=96, margin=48,
    ),
    "simple": TargetSettings(
        operation_names=NAMES, plan=simple_plan(NAMES), sub_policies=1, steps=320, batch=6, crop=96, margin=48
    ),
}  # fmt: skip
Images = Sequence[NDArray[np.uint8]]


@pytest.fixture(scope="module")
def demo() -> Images:
    parts = [resolve("demo/A172", split) for split in ("train", "val", "unlabeled")]
    return [dataset.image(record) for dataset in parts for record in dataset]


@pytest.fixture(scope="module")
def real(real_root: Path) -> Images:
    parts = [resolve("all", split, real_root, missing_ok=True) for split in ("train", "val", "unlabeled")]
    return [dataset.image(record) for dataset in parts for record in dataset]


def misses(name: str, form: str, source: Images, target: Images) -> dict[str, tuple[float, float, bool]]:
    """What is not found within its tolerance: planted and found."""
    case = next(case for case in CASES if case.name == name)
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    prepared = [np.ascontiguousarray(case.prepare(image)) for image in source]
    shown = [case.change(np.ascontiguousarray(case.prepare(image)), rng) for image in target]
    sampler, settings = unlabelled(prepared), FORMS[form]
    with one_thread():
        search = TargetSearch(sampler, unlabelled(shown), settings, seed=0)
        while search.done < settings.steps:
            search.step()
        found = found_by(search.average, sampler, settings.crop)
    mean = float(np.mean([image.mean() for image in prepared])) / 255
    return {key: row for key, row in verdicts(case, found, mean).items() if not row[2]}


@pytest.mark.parametrize("name", ["contrast x0.6", "stretch x 1.5", "blur 2", "noise 0.03"])
def test_a_planted_shift_is_found_by_the_policy_of_choices(name: str, demo: Images) -> None:
    assert misses(name, "full", demo[::2], demo[1::2]) == {}


@pytest.mark.parametrize("name", ["identity", "gamma 1.8", "scale 1.6", "blur 2"])
def test_a_planted_shift_is_found_by_the_simple_form(name: str, demo: Images) -> None:
    assert misses(name, "simple", demo[::2], demo[1::2]) == {}


def test_a_planted_size_is_found_on_real_images(real: Images) -> None:
    """Source and target are other halves of the images."""
    halves = [(image[:, : image.shape[1] // 2], image[:, image.shape[1] // 2 :]) for image in real]
    assert misses("scale 0.6", "simple", [left for left, _ in halves], [right for _, right in halves]) == {}

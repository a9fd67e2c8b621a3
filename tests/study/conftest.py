"""A generated culture for the study's tests: dark ellipses on a noisy grey ground, some of them touching."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from policy_search.cells import InstanceMap
from policy_search.config import RunConfig
from policy_search.study.making import Learn
from policy_search.study.probe import ProbeSample
from policy_search.study.reports.writer import write_run_report
from policy_search.study.runner import Progress, StudyOutcome, run_study
from tests.conftest import write_livecell
from tests.study.fake_detect import FakeDetect
from tests.study.report_page import Page, SearchedLast, two_sub_policies
from tests.study.rules import Rule, Run, fake_learning


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


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_livecell(tmp_path / "data", {"A172": {"train": 2, "val": 1, "test": 1}}, cells=4)


@pytest.fixture
def study(root: Path, tmp_path: Path) -> Run:
    def run(
        objective: Rule,
        out: str = "run",
        learn: Learn = fake_learning,
        progress: Callable[[Progress], None] | None = None,
        **options: Any,
    ) -> StudyOutcome:
        values = {"data": "A172", "root": root, "out": tmp_path / out, "trials": 14, "final_seeds": 3, **options}
        return run_study(RunConfig(**values), objective=objective, learn=learn, progress=progress)

    return run


@pytest.fixture(scope="session")
def report_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_livecell(tmp_path_factory.mktemp("data"), {"A172": {"train": 2, "val": 1}}, cells=4, size=(64, 72))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, report_root: Path) -> Path:
    """A finished run; tests that change it take a copy."""
    out = tmp_path_factory.mktemp("runs") / "finished"
    config = RunConfig(data="A172", root=report_root, out=out, trials=15, final_seeds=4, finalists=2)
    run_study(config, objective=SearchedLast(0.01, fail="crop"), learn=two_sub_policies)
    return out


@pytest.fixture(scope="session")
def page(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Page:
    out = tmp_path_factory.mktemp("page") / "page.html"
    write_run_report(finished, out)
    return Page(out.read_text(encoding="utf-8"))


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copy"))

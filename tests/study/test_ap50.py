"""The objective ap50: one base model, an export of just the study's data, errors of the command, a real fine-tune."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from policy_search.augment import baseline
from policy_search.cells import resolve
from policy_search.cells.errors import InputError
from policy_search.config import RunConfig
from policy_search.study.ap50 import Ap50Objective, Ap50Settings
from policy_search.study.ap50_command import DetectError, detect
from policy_search.study.ap50_files import evenly, export
from policy_search.study.data import StudyData
from policy_search.study.objectives import build_objective, fingerprint_of
from policy_search.study.probe import Domain
from tests.study.conftest import culture
from tests.study.fake_detect import FakeDetect

POLICY = baseline("flip")


@pytest.fixture
def data() -> StudyData:
    domains = (Domain("first", (culture(10), culture(11))), Domain("faint", (culture(12), culture(13))))
    return StudyData("blobs", True, "f1", tuple(culture(seed) for seed in range(3)), domains, "blobs")


def config(out: Path, **options: Any) -> RunConfig:
    return RunConfig(**{"data": "blobs", "out": out, "objective": "ap50", "seed": 5, "ap50_iterations": 7, **options})


def test_the_base_model_is_trained_once_and_every_score_cleans_up(
    data: StudyData, tmp_path: Path, fake: FakeDetect
) -> None:
    objective = build_objective(config(tmp_path / "run"), data)
    for seed in (1, 2):
        objective.score(POLICY, seed=seed)
    build_objective(config(tmp_path / "run"), data).score(POLICY, seed=1)
    assert [call[3] for call in fake.calls] == ["pretrain", *["finetune"] * 3]
    assert fake.calls[0][fake.calls[0].index("--seed") + 1] == "5"
    assert [call[call.index("--seed") + 1] for call in fake.calls[1:]] == ["1", "2", "1"]
    assert all(call[call.index("--iterations") + 1] == "7" for call in fake.calls[1:])
    left = sorted(path.name for path in (tmp_path / "run" / "ap50" / "f1").iterdir())
    assert left == ["2 images", "base 300 iterations seed 5.pth"]
    weights = tmp_path / "given.pth"
    weights.write_bytes(b"base")
    build_objective(config(tmp_path / "more", weights=weights), data).score(POLICY, seed=1)
    assert fake.calls[-1][fake.calls[-1].index("--weights") + 1] == str(weights)
    assert len(fake.calls) == 5


def test_a_report_of_a_fine_tune_is_the_score_of_a_shorter_one(
    data: StudyData, tmp_path: Path, fake: FakeDetect
) -> None:
    objective, reports = build_objective(config(tmp_path / "run", ap50_iterations=100), data), []

    class EnoughError(Exception):
        """What a pruner raises."""

    def give_up(share: float, value: float) -> None:
        reports.append((share, value))
        raise EnoughError

    with pytest.raises(EnoughError):
        objective.score(POLICY, seed=1, report=give_up)
    assert [call[call.index("--iterations") + 1] for call in fake.calls[1:]] == ["25"]
    found = objective.score(POLICY, seed=1, report=lambda share, value: reports.append((share, value)))
    assert [call[call.index("--iterations") + 1] for call in fake.calls[2:]] == ["25", "100"]
    # The stand-in's figures do not depend on the iterations.
    assert reports == [(0.25, found.value)] * 2


def test_an_error_of_the_command_is_its_last_line(data: StudyData, tmp_path: Path, fake: FakeDetect) -> None:
    fake.fails = "error: loss is not finite at iteration 3"
    with pytest.raises(DetectError, match=r"`detect pretrain` ended with exit code 1: error: loss is not finite"):
        Ap50Objective(data, tmp_path).score(POLICY, seed=0)


def test_a_command_that_was_stopped_is_no_failed_policy(data: StudyData, tmp_path: Path, fake: FakeDetect) -> None:
    fake.fails, fake.code = "interrupted", 130
    with pytest.raises(KeyboardInterrupt):
        Ap50Objective(data, tmp_path).score(POLICY, seed=0)


def test_the_export_is_what_the_study_holds(data: StudyData, tmp_path: Path) -> None:
    found = export(data, tmp_path / "out", images=1)
    source = resolve(found.source, "train")
    assert [source.image(r).tobytes() for r in source] == [s.image.tobytes() for s in data.train]
    for record, sample in zip(source, data.train, strict=True):
        assert np.array_equal(source.instances(record).label_image(), sample.instances.label_image())
    scored = resolve(found.domains, "test")
    assert [found.names[name] for name in scored.cell_types] == ["first", "faint"]
    wanted = [domain.samples[0].image.tobytes() for domain in data.domains]
    assert [scored.image(r).tobytes() for r in scored] == wanted
    assert [s.id for s in evenly(data.train, 2)] == ["blobs/0", "blobs/2"]


def test_a_real_fine_tune_repeats(data: StudyData, tmp_path: Path) -> None:
    small = StudyData("blobs", True, "f2", data.train[:2], data.domains[:1], "blobs")
    settings = Ap50Settings(iterations=2, base_iterations=2, images=1)
    objective = Ap50Objective(small, tmp_path, settings=settings)
    first, again = (objective.score(baseline("flip"), seed=1) for _ in range(2))
    assert first.values == again.values
    assert first.losses == again.losses
    assert first.losses["fine-tune: loss"][0] > 0
    assert set(first.domains) == {"first"}
    assert 0 <= first.value <= 1
    with pytest.raises(DetectError, match="no weights at"):
        detect("evaluate", "--weights", str(tmp_path / "missing.pth"))


def test_the_base_model_that_is_named_is_part_of_what_a_study_is(data: StudyData, tmp_path: Path) -> None:
    one, other = tmp_path / "one.pth", tmp_path / "other.pth"
    one.write_bytes(b"base")
    other.write_bytes(b"another")
    plain = fingerprint_of(config(tmp_path), data)
    assert plain == data.fingerprint
    assert fingerprint_of(config(tmp_path, weights=one), data) != fingerprint_of(config(tmp_path, weights=other), data)
    moved = tmp_path / "moved.pth"
    one.rename(moved)
    assert fingerprint_of(config(tmp_path, weights=moved), data).startswith(plain + "-")
    with pytest.raises(InputError, match=r"one\.pth: cannot be read"):
        fingerprint_of(config(tmp_path, weights=one), data)
    assert fingerprint_of(config(tmp_path, objective="probe", weights=one), data) == plain

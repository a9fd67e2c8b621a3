"""Which weights and which arithmetic a command ends up with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

pytest.importorskip("detectron2", reason="detectron2 is not installed: make setup")

import detection.pretrain
from detection import cli
from detection.checkpoint import hash_state, save_checkpoint
from detection.config import PretrainConfig
from detection.model import build_model
from detection.presets import Preset
from detection.recipe import Recipe
from detection.weights import weights_to_test
from policy_search.cells.errors import InputError
from tests.detection.culture import MICRO


def test_weights_from_elsewhere_are_tested_under_a_named_preset(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("detection.presets.PRESETS", {"tiny": Preset(MICRO, Recipe(), Recipe())})
    model = build_model(MICRO, 4)
    torch.save({"model": model.state_dict()}, tmp_path / "theirs.pth")
    found = weights_to_test(tmp_path / "theirs.pth", "tiny")
    assert found.config == MICRO
    assert hash_state(found.state) == hash_state(model.state_dict())
    assert found.report.startswith("theirs.pth: matched")
    with pytest.raises(InputError, match="does not say which network"):
        weights_to_test(tmp_path / "theirs.pth", None)
    other = MICRO.model_copy(update={"fpn": 24})
    save_checkpoint(tmp_path / "other.pth", build_model(other), other, {})
    assert weights_to_test(tmp_path / "other.pth", None).config == other
    with pytest.raises(InputError, match="another network than the preset"):
        weights_to_test(tmp_path / "other.pth", "tiny")


@pytest.mark.parametrize(("options", "expected"), [
    ([], None), (["--precision", "fp32"], "fp32"), (["--precision", "bf16"], "bf16"),
])  # fmt: skip
@pytest.mark.parametrize("best", ["bf16", "fp32"])
def test_precision_follows_the_device_unless_it_is_given(tmp_path, monkeypatch, options, expected, best) -> None:
    configs: list[PretrainConfig] = []
    monkeypatch.setattr(detection.pretrain, "pretrain", lambda config, _: configs.append(config) or tmp_path)
    monkeypatch.setattr("detection.precision._best", lambda device: best)
    words = ["pretrain", "--data", "demo/A172", "--out", str(tmp_path), *options]
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == 0, done.output
    assert configs[0].precision == (expected or best)
    assert configs[0].iterations == 3000

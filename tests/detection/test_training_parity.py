"""Whole iterations of our loop against detectron2's `SimpleTrainer`: same losses, same weights afterwards."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

pytest.importorskip("detectron2", reason="detectron2 is not installed: make setup")

from detection.dataset import Crops, TrainingSet
from detection.mapper import batches
from detection.presets import preset
from detection.recipe import Recipe
from tests.detection.culture import MICRO, culture

ITERATIONS = 4


@pytest.fixture(scope="module")
def loops() -> ModuleType:
    """The two loops that `make bench-detection` compares."""
    path = Path(__file__).parents[2] / "scripts" / "detection_loops.py"
    spec = importlib.util.spec_from_file_location("detection_loops", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def run(loop: type, recipe: Recipe) -> tuple[list[dict[str, float]], dict[str, torch.Tensor]]:
    """Losses of each iteration and the weights after the last."""
    this = loop(MICRO, recipe, 0)
    images = TrainingSet(culture(), None, 0, factor=1)
    losses = []
    for number, batch in enumerate(batches(Crops(images, 64, 0, 2 * ITERATIONS, flip=True), 1, 2)):
        seen: dict[str, float] = {}
        handle = this.model.register_forward_hook(
            lambda _module, _inputs, found, seen=seen: seen.update({k: float(v.detach()) for k, v in found.items()})
        )
        this.step(loop.prepared(batch), number, ITERATIONS)
        handle.remove()
        losses.append(seen)
    return losses, {name: value.clone() for name, value in this.model.state_dict().items()}


def test_iterations_are_those_of_detectron2(loops: ModuleType) -> None:
    recipe = preset("tiny").pretraining.model_copy(update={"precision": "fp32"})
    first = loops.Plain(MICRO, recipe, 0).model.state_dict()
    (theirs, weights), (ours, own) = run(loops.Plain, recipe), run(loops.Ours, recipe)
    assert len(theirs) == ITERATIONS
    for number, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        assert a == pytest.approx(b, rel=1e-3), f"iteration {number}"
    moved = 0
    for name, value in weights.items():
        change, apart = (value - first[name]).abs().max(), (own[name] - value).abs().max()
        assert apart <= 0.02 * change + 1e-7, name
        moved += bool(change > 1e-4)
    assert moved > 50


def test_sixteen_bits_change_losses_by_rounding_alone(loops: ModuleType) -> None:
    """Losses of boxes are left out: a fresh network's proposals score nearly alike, so rounding chooses others."""
    recipe = preset("tiny").pretraining
    wide, _ = run(loops.Ours, recipe.model_copy(update={"precision": "fp32"}))
    narrow, _ = run(loops.Ours, recipe.model_copy(update={"precision": "bf16"}))
    for name in ("loss_rpn_cls", "loss_rpn_loc", "loss_mask"):
        assert narrow[0][name] == pytest.approx(wide[0][name], rel=0.01), name
        assert narrow[0][name] != wide[0][name]
    for stage in range(3):
        assert narrow[0][f"loss_cls_stage{stage}"] == pytest.approx(wide[0][f"loss_cls_stage{stage}"], rel=0.1)

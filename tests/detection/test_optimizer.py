"""Optimisers and learning rates against detectron2's own solver."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("detectron2", reason="detectron2 is not installed: make setup")

from detectron2.solver import get_default_optimizer_params
from detectron2.solver.lr_scheduler import WarmupMultiStepLR

from detection.model import build_model, freeze_bottom_up
from detection.optimizer import learning_rate, optimizer_of, set_learning_rate
from detection.recipe import Recipe
from tests.detection.culture import MICRO

SGD = Recipe(optimizer="sgd", schedule="steps", lr=0.02, momentum=0.9, weight_decay=1e-4, warmup=1000, clip=0)


def test_sgd_decays_what_detectron2_decays():
    model = build_model(MICRO)
    freeze_bottom_up(model)
    ours = {id(p): g["weight_decay"] for g in optimizer_of(model, SGD).param_groups for p in g["params"]}
    theirs = get_default_optimizer_params(model, base_lr=0.02, weight_decay=1e-4, weight_decay_norm=0.0)
    # detectron2 leaves out what is frozen.
    expected = {id(p): g.get("weight_decay", 1e-4) for g in theirs for p in g["params"]}
    assert ours == expected
    model.requires_grad_(True)
    groups = optimizer_of(model, SGD).param_groups
    assert {g["weight_decay"] for g in groups} == {1e-4, 0.0}
    assert {(g["momentum"], g["lr"]) for g in groups} == {(0.9, 0.02)}
    theirs = get_default_optimizer_params(model, base_lr=0.02, weight_decay=1e-4, weight_decay_norm=0.0)
    spared = {id(p) for g in theirs if g.get("weight_decay", 1e-4) == 0 for p in g["params"]}
    assert spared
    assert {id(p) for g in groups if g["weight_decay"] == 0 for p in g["params"]} == spared


def test_the_steps_are_liveCells():
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    theirs = WarmupMultiStepLR(optimizer, [17500, 20000], gamma=0.1, warmup_factor=1 / 1000, warmup_iters=1000)
    checked = set()
    for iteration in range(30000):
        rate = optimizer.param_groups[0]["lr"]
        if iteration % 487 == 0 or iteration in (0, 999, 1000, 17499, 17500, 19999, 20000, 29999):
            assert learning_rate(iteration, 30000, SGD) == pytest.approx(rate, abs=1.1e-3), iteration
            checked.add(round(rate, 6))
        optimizer.step()
        theirs.step()
    assert {1.0, 0.1, 0.01} <= checked


def test_one_step_of_sgd_is_its_formula():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.LayerNorm(2))
    recipe = Recipe(optimizer="sgd", momentum=0.5, weight_decay=0.1)
    optimizer = optimizer_of(model, recipe)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.ones_like(parameter)
    before = [p.detach().clone() for p in model.parameters()]
    for rate in (0.2, 0.3):
        set_learning_rate(optimizer, rate)
        optimizer.step()
    for index, (start, now) in enumerate(zip(before, model.parameters(), strict=True)):
        decay = 0.1 if index < 2 else 0.0  # weight and bias of the linear layer; the norm is spared
        step1 = 1 + decay * start
        after1 = start - 0.2 * step1
        step2 = 0.5 * step1 + 1 + decay * after1
        torch.testing.assert_close(now.detach(), after1 - 0.3 * step2)


def test_a_short_run_warms_up_for_a_tenth_of_it_at_most():
    for recipe in (SGD, Recipe(warmup=1000)):
        rates = [learning_rate(iteration, 50, recipe) for iteration in range(50)]
        assert rates[:6] == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1])
    assert learning_rate(0, 9, Recipe(warmup=50)) == 1

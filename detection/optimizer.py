"""What moves the weights, and how fast: AdamW or SGD, and the learning rate of every iteration."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import nn

from detection.recipe import Recipe

FLOOR = 0.01  # of the highest learning rate, at the end of the cosine
NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm, nn.GroupNorm, nn.LayerNorm)


def learning_rate(iteration: int, total: int, recipe: Recipe) -> float:
    """Factor in (0, 1] on the highest rate for an iteration counted from 0.

    A linear rise over `recipe.warmup` iterations, but no more than a tenth of all; then a cosine from its end down to
    `FLOOR`, or two steps by ten at 7/12 and 8/12 of all iterations.
    """
    # LIVECell's 1,000 iterations of 30,000 would be the whole of a short fine-tune.
    warmup = min(recipe.warmup, total // 10)
    rise = min((iteration + 1) / (warmup + 1), 1.0)
    if recipe.schedule == "steps":
        return rise * 0.1 ** ((12 * iteration >= 7 * total) + (12 * iteration >= 8 * total))
    if iteration < warmup:
        return rise
    progress = (iteration - warmup) / max(total - warmup, 1)
    return FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * progress))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The rate of the next step, for all weights."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def optimizer_of(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser over what is trainable.

    AdamW does not decay biases and normalisation. SGD does not decay normalisation alone, as detectron2's solver with
    LIVECell's settings (WEIGHT_DECAY_NORM = 0).
    """
    if recipe.optimizer == "sgd":
        spared = {id(p) for p in _norms(model)}
    else:
        spared = {id(p) for p in model.parameters() if p.ndim <= 1}
    trainable = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if id(p) not in spared], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trainable if id(p) in spared], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum)
    return torch.optim.AdamW(groups, lr=recipe.lr, fused=True)


def _norms(model: nn.Module) -> Iterator[nn.Parameter]:
    for module in model.modules():
        if isinstance(module, NORMS):
            yield from module.parameters(recurse=False)

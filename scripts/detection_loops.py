"""The two training loops that `bench_detection.py` compares: detectron2's own, and this project's. Same model and data.

detectron2's: its `SimpleTrainer` in float32, contiguous memory, its own region proposal network and `BitMasks`.
Ours: 16-bit arithmetic where the processor has it, channels-last memory, anchors matched in portions, masks as label
layers. Both get the same batches, optimiser, learning rates and random numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from detectron2.engine.train_loop import SimpleTrainer
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.proposal_generator import RPN
from detectron2.structures import BitMasks, Instances
from detectron2.utils.events import EventStorage

from detection.model import build_model, training_mode
from detection.network import ModelConfig
from detection.optimizer import learning_rate, optimizer_of, set_learning_rate
from detection.precision import float32_heads, scaler_of
from detection.recipe import Recipe
from detection.training import seed_regions, train_step

Batch = list[dict[str, Any]]


class Plain:
    """detectron2's loop."""

    def __init__(self, network: ModelConfig, recipe: Recipe, seed: int = 0) -> None:
        self.model: GeneralizedRCNN = build_model(network, seed).to(memory_format=torch.contiguous_format)
        self.model.proposal_generator.__class__ = RPN
        self.recipe, self.seed = recipe, seed
        self.optimizer = optimizer_of(self.model, recipe)
        self.storage = EventStorage(0)
        self._next: Batch = []
        self.trainer = SimpleTrainer(self.model, _Endless(self), self.optimizer)
        if recipe.clip:
            trainable = [p for p in self.model.parameters() if p.requires_grad]
            self.optimizer.register_step_pre_hook(lambda *_: _clip(trainable, recipe.clip))

    def step(self, batch: Batch, iteration: int, total: int) -> None:
        """One iteration, the data already there."""
        self._next = batch
        set_learning_rate(self.optimizer, self.recipe.lr * learning_rate(iteration, total, self.recipe))
        seed_regions(self.seed, iteration, 0)
        with self.storage as storage:
            self.trainer.iter = iteration
            self.trainer.run_step()
            storage.step()

    @staticmethod
    def prepared(batch: Sequence[dict[str, Any]]) -> Batch:
        """The batch with detectron2's own masks."""
        return [{**sample, "instances": _with_bitmasks(sample["instances"])} for sample in batch]


class Ours:
    """This project's loop (`detection.training.fit`), a step at a time."""

    def __init__(self, network: ModelConfig, recipe: Recipe, seed: int = 0) -> None:
        self.model: GeneralizedRCNN = build_model(network, seed)
        self.recipe, self.seed = recipe, seed
        self.optimizer = optimizer_of(self.model, recipe)
        self.scaler = scaler_of(recipe.precision, "cpu")
        self.storage = EventStorage(0)
        training_mode(self.model)

    def step(self, batch: Batch, iteration: int, total: int) -> None:
        """One iteration, the data already there."""
        set_learning_rate(self.optimizer, self.recipe.lr * learning_rate(iteration, total, self.recipe))
        seed_regions(self.seed, iteration, 0)
        with self.storage as storage, float32_heads(self.model):
            train_step(self.model, self.model, batch, self.optimizer, self.scaler, self.recipe, iteration + 1)
            storage.step()

    @staticmethod
    def prepared(batch: Sequence[dict[str, Any]]) -> Batch:
        """The batch as the mapper makes it."""
        return list(batch)


class _Endless:
    """A data loader that hands out what the loop was given."""

    def __init__(self, loop: Plain) -> None:
        self._loop = loop

    def __iter__(self) -> _Endless:
        return self

    def __next__(self) -> Batch:
        return self._loop._next


def _with_bitmasks(instances: Instances) -> Instances:
    changed = Instances(instances.image_size)
    for name, value in instances.get_fields().items():
        changed.set(name, BitMasks(value.bitmaps()) if name == "gt_masks" else value)
    return changed


def _clip(parameters: list[torch.nn.Parameter], clip: float) -> None:
    norm = float(torch.nn.utils.clip_grad_norm_(parameters, clip))
    if not math.isfinite(norm):
        raise FloatingPointError("the gradient is not finite")

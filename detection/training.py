"""The loop: crops in, weights moved, state kept, validation when it is due. One process or one of several.

Randomness: detectron2 draws anchors and regions from torch's global generator. It is seeded anew for every iteration
from (seed, iteration, rank) and given back as it was, so an iteration depends on nothing that came before but weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.modeling import GeneralizedRCNN
from detectron2.utils.events import EventStorage
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from detection import ranks
from detection.config import TrainConfig
from detection.dataset import Crops
from detection.failures import TrainingDivergedError, TrainingInterrupted
from detection.interrupts import stop_wanted
from detection.mapper import batches
from detection.model import training_mode
from detection.optimizer import learning_rate, optimizer_of, set_learning_rate
from detection.precision import autocast, float32_heads, scaler_of
from detection.recipe import Recipe
from detection.resume import Standing, StateFile
from detection.validation import Validation, after_validation
from detection.watcher import Watcher

# Iterations between two TensorBoard entries.
LOG_EVERY = 10
# Stream of random numbers under the run's seed; `detection.dataset` has others.
_REGIONS = 3


def iterations_of(config: TrainConfig, crops_per_epoch: int) -> int:
    """`config.iterations`, else its epochs in batches."""
    return config.iterations or math.ceil(config.epochs * crops_per_epoch / config.batch)


def fit(
    model: GeneralizedRCNN,
    crops: Crops,
    config: TrainConfig,
    *,
    watcher: Watcher,
    log_dir: Path | None,
    state: StateFile | None = None,
    validation: Validation | None = None,
    stop: Callable[[], bool] | None = None,
) -> Standing:
    """Train `model` in place on all of `crops`, in their order, `config.batch` at a time; gives back how far it came.

    Args:
        model: on its device.
        log_dir: of the TensorBoard log.
        state: where to go on from and to write to; afterwards it holds the end of the training.
        validation: when and how to score.
        stop: asked after every iteration; by default, whether Ctrl-C was pressed.

    Raises:
        TrainingDivergedError: a loss or gradient is not finite; names iteration and losses.
        TrainingInterrupted: it was stopped; the state is written.
        InputError: the state cannot be used.
    """
    total = math.ceil(len(crops) / config.batch)
    first = ranks.rank() == 0
    optimizer = optimizer_of(model, config)
    scaler = scaler_of(config.precision, str(model.device))
    standing = state.load(model, optimizer, scaler) if state else Standing()
    network = ranks.shared(model)
    start = total if standing.stopped else standing.iteration
    share = ranks.Share(crops, config.batch, start=start, rank=ranks.rank(), size=ranks.size())

    def write_state() -> None:
        if state and first:
            state.save(model, optimizer, scaler, standing)

    with ExitStack() as context:
        if stop is None:
            stop = context.enter_context(stop_wanted(lambda: watcher.say("stopping after this iteration …")))
        # An earlier run may have logged iterations that are now repeated.
        writer = SummaryWriter(str(log_dir), purge_step=standing.iteration + 1) if log_dir and first else None
        if writer:
            context.callback(writer.close)
        devices = [model.device] if model.device.type == "cuda" else []
        context.enter_context(torch.random.fork_rng(devices=devices))
        context.enter_context(EventStorage(standing.iteration))
        context.enter_context(float32_heads(model))
        training_mode(model)
        for batch in batches(share, len(model.pixel_mean), config.batch // ranks.size(), config.workers):
            iteration = standing.iteration
            rate = config.lr * learning_rate(iteration, total, config)
            set_learning_rate(optimizer, rate)
            seed_regions(config.seed, iteration, ranks.rank())
            losses = train_step(model, network, batch, optimizer, scaler, config, iteration + 1)
            agreed = ranks.mean({"stop": float(stop()), **losses}, model.device)
            stopping = agreed.pop("stop") > 0
            standing = standing._replace(iteration=iteration + 1)
            if writer and (standing.iteration % LOG_EVERY == 0 or standing.iteration == total):
                _log(writer, agreed, rate, standing.iteration)
            watcher.step(standing.iteration, total, sum(agreed.values()))
            validated = validation is not None and validation.due(standing.iteration, total)
            if validation is not None and validated:
                standing = ranks.from_first(_validate(model, validation, standing, watcher, writer) if first else None)
                training_mode(model)
            if validated or stopping or (state and state.due()):
                write_state()
            if stopping:
                raise TrainingInterrupted(f"interrupted after iteration {standing.iteration} of {total}")
            if standing.stopped:
                break
        ranks.same_buffers(model)
        write_state()
    model.train()
    return standing


def seed_regions(seed: int, iteration: int, rank: int) -> None:
    """Seed torch's global generators for one iteration of one rank."""
    (value,) = np.random.SeedSequence([seed, _REGIONS, iteration, rank]).generate_state(1, np.uint64)
    torch.manual_seed(int(value))


def train_step(
    model: GeneralizedRCNN,
    network: nn.Module,
    batch: Any,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    recipe: Recipe,
    number: int,
) -> dict[str, float]:
    """One iteration; the losses before it."""
    try:
        with autocast(recipe.precision, str(model.device)):
            losses = network(batch)
    except FloatingPointError as error:  # raised by detectron2's proposals
        raise TrainingDivergedError(f"training diverged at iteration {number}: {error}") from error
    values = {name: float(value.detach()) for name, value in losses.items()}
    listing = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
    if not all(math.isfinite(value) for value in values.values()):
        raise TrainingDivergedError(f"loss is not finite at iteration {number}: {listing}. A lower --lr may help.")
    optimizer.zero_grad(set_to_none=True)
    scaler.scale(sum(losses.values())).backward()
    scaler.unscale_(optimizer)
    trainable = [p for p in model.parameters() if p.requires_grad]
    norm = float(torch.nn.utils.clip_grad_norm_(trainable, recipe.clip or math.inf))
    # A scaler finds its scale by trying: it skips the step of an overflow and halves the scale.
    hopeless = not scaler.is_enabled() or scaler.get_scale() < 1
    if not math.isfinite(norm) and hopeless:
        raise TrainingDivergedError(f"gradient is not finite at iteration {number}: {listing}. A lower --lr may help.")
    scaler.step(optimizer)
    scaler.update()
    return values


def _validate(
    model: GeneralizedRCNN, validation: Validation, standing: Standing, watcher: Watcher, writer: SummaryWriter | None
) -> Standing:
    """Score the model, keep it if it is the best so far, and say so."""
    ap50 = validation.score(model)
    now = after_validation(standing, ap50, validation.patience)
    best = now.best_iteration == now.iteration
    if best:
        validation.keep(model, now.iteration, ap50)
    if writer:
        writer.add_scalar("validation/AP50", ap50, now.iteration)
    watcher.validated(now.iteration, ap50, best)
    if now.stopped:
        watcher.say(f"no better AP50 since iteration {now.best_iteration}: stopped after iteration {now.iteration}")
    return now


def _log(writer: SummaryWriter, losses: dict[str, float], rate: float, iteration: int) -> None:
    for name, value in {"loss": sum(losses.values()), **losses}.items():
        writer.add_scalar(f"train/{name}", value, iteration)
    writer.add_scalar("train/lr", rate, iteration)

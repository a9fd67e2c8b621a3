"""Training: a base model on the source alone (`pretrain`), and a policy on the paper's protocol (`finetune`)."""

from __future__ import annotations

import importlib.metadata
import json
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import torch
from detectron2.modeling import GeneralizedRCNN
from detectron2.utils.events import EventStorage
from torch.utils.tensorboard import SummaryWriter

from detection.checkpoint import load_checkpoint, save_checkpoint
from detection.config import FinetuneConfig, PretrainConfig, TrainConfig
from detection.dataset import Crops, TrainingSet, donates_to_itself, labelled
from detection.evaluate import evaluate
from detection.mapper import batches
from detection.model import build_model, freeze_bottom_up, training_mode
from detection.network import ModelConfig
from detection.presets import preset
from detection.store import Result, Store
from policy_search.augment import Augmenter, load_policy
from policy_search.cells import CellDataset, resolve
from policy_search.cells.errors import InputError
from policy_search.cells.files import require_writable_folder, write_json

# Iterations between two TensorBoard entries.
LOG_EVERY = 10
FLOOR = 0.01  # of the highest learning rate, at the end
SELF_DONOR = "copy-paste took cells from the same image, mirrored or turned: the source has one training image"


class TrainingDivergedError(RuntimeError):
    """A loss or a gradient is no longer a number."""


class Watcher(NamedTuple):
    """How a run speaks to whoever started it.

    Attributes:
        step: called after every iteration with (iterations done, iterations in all, loss).
        say: called with a sentence.
    """

    step: Callable[[int, int, float], None] = lambda *_: None
    say: Callable[[str], None] = lambda _: None


def learning_rate(iteration: int, total: int, warmup: int) -> float:
    """Factor in (0, 1] on the highest rate: linear rise over `warmup` iterations, then a cosine down to `FLOOR`."""
    if iteration < warmup:
        return (iteration + 1) / (warmup + 1)
    progress = (iteration - warmup) / max(total - warmup, 1)
    return FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * progress))


def iterations_of(config: TrainConfig, crops_per_epoch: int) -> int:
    """`config.iterations`, else its epochs in batches."""
    return config.iterations or math.ceil(config.epochs * crops_per_epoch / config.batch)


def optimizer_of(model: GeneralizedRCNN, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW over what is trainable; biases and normalisation are not decayed."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, fused=True)


def fit(model: GeneralizedRCNN, crops: Crops, config: TrainConfig, *, watcher: Watcher, log_dir: Path | None) -> None:
    """Train `model` in place on all of `crops`, in their order, `config.batch` at a time.

    detectron2 draws its regions from torch's global generator: it is seeded here and given back as it was.

    Raises:
        TrainingDivergedError: a loss or gradient is not finite; names iteration and losses.
    """
    total = math.ceil(len(crops) / config.batch)
    optimizer = optimizer_of(model, config)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: learning_rate(i, total, config.warmup))
    writer = SummaryWriter(str(log_dir)) if log_dir else None
    training_mode(model)
    devices = [torch.device(config.device)] if config.device.startswith("cuda") else []
    try:
        with torch.random.fork_rng(devices=devices), EventStorage(0) as storage:
            torch.manual_seed(config.seed)
            for done, batch in enumerate(batches(crops, len(model.pixel_mean), config.batch, config.workers), start=1):
                losses = _step(model, batch, optimizer, config.clip, done)
                schedule.step()
                storage.step()
                total_loss = sum(losses.values())
                if writer and (done % LOG_EVERY == 0 or done == total):
                    for name, value in {"loss": total_loss, **losses}.items():
                        writer.add_scalar(f"train/{name}", value, done)
                    writer.add_scalar("train/lr", schedule.get_last_lr()[0], done)
                watcher.step(done, total, total_loss)
    finally:
        if writer:
            writer.close()
    model.train()


def _step(
    model: GeneralizedRCNN, batch: Any, optimizer: torch.optim.Optimizer, clip: float, number: int
) -> dict[str, float]:
    """One iteration; the losses before it."""
    try:
        losses = model(batch)
    except FloatingPointError as error:  # raised by detectron2's proposals
        raise TrainingDivergedError(f"training diverged at iteration {number}: {error}") from error
    values = {name: float(value.detach()) for name, value in losses.items()}
    listing = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
    if not all(math.isfinite(value) for value in values.values()):
        raise TrainingDivergedError(f"loss is not finite at iteration {number}: {listing}. A lower --lr may help.")
    optimizer.zero_grad(set_to_none=True)
    sum(losses.values()).backward()
    norm = float(torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], clip))
    if not math.isfinite(norm):
        raise TrainingDivergedError(f"gradient is not finite at iteration {number}: {listing}. A lower --lr may help.")
    optimizer.step()
    return values


def pretrain(config: PretrainConfig, watcher: Watcher | None = None) -> Path:
    """Train a base model from fresh weights on the source type alone; gives back the file of its weights.

    Raises:
        InputError: unknown preset or data, or a folder that cannot be written.
    """
    watcher = watcher or Watcher()
    network = preset(config.preset).network
    source = labelled(resolve(config.data, "train", config.root))
    _check_device(config.device)
    out = require_writable_folder(config.out)
    images = TrainingSet(source, None, config.seed, factor=1, min_area=config.min_area)
    crops = _crops(images, config, flip=config.flip)
    watcher.say(_plan(source, crops, config, network))
    write_json(out / "config.json", config.model_dump(mode="json"))
    model = build_model(network, config.seed).to(config.device)
    fit(model, crops, config, watcher=watcher, log_dir=out / "tensorboard")
    made = {"command": "pretrain", "config": config.model_dump(mode="json"), **_origin(source)}
    path = out / "model.pth"
    save_checkpoint(path, model, network, made)
    return path


class Outcome(NamedTuple):
    """Rows of one fine-tuning, and whether they were there already."""

    results: list[Result]
    skipped: bool


def finetune(config: FinetuneConfig, watcher: Watcher | None = None) -> Outcome:
    """Fine-tune a base model with a policy, test it on every requested cell type and store one row for each.

    Raises:
        InputError: weights, policy, data or folder cannot be used; nothing is written then.
        TrainingDivergedError: see `fit`.
    """
    watcher = watcher or Watcher()
    started = time.perf_counter()
    base = load_checkpoint(config.weights)
    policy = load_policy(config.policy)
    source = labelled(resolve(config.data, "train", config.root))
    test = to_test_on(config.data, config.evaluate, config.root)
    _check_device(config.device)
    fingerprint = source.fingerprint()
    config_hash = config.identity(base.content_hash, fingerprint)
    name = source_name(source)
    store = Store(config.results)
    known = _known(store, name, policy.content_hash, config, config_hash, test)
    if known and not config.force:
        renamed = [result.model_copy(update={"policy": policy.name}) for result in known]
        store.put(renamed)  # a policy under another name is the same policy
        return Outcome(renamed, skipped=True)

    out = require_writable_folder(config.out)
    augmenter = Augmenter(policy)
    images = TrainingSet(source, augmenter, config.seed, factor=config.factor, min_area=config.min_area)
    crops = _crops(images, config)
    note = SELF_DONOR if donates_to_itself(source, augmenter) else ""
    watcher.say(_plan(source, crops, config, base.config) + (f"\nnote: {note}" if note else ""))
    write_json(out / "config.json", config.model_dump(mode="json"))
    policy.save(out / "policy.json")
    model = build_model(base.config)
    model.load_state_dict(base.state)
    model.to(config.device)
    if not config.unfreeze:
        freeze_bottom_up(model)
    fit(model, crops, config, watcher=watcher, log_dir=out / "tensorboard")
    made = {"command": "finetune", "config": config.model_dump(mode="json"), **_origin(source)}
    save_checkpoint(out / "model.pth", model, base.config, made)

    results = []
    for cell_type, scores in evaluate(model, test, watcher.say).items():
        results.append(
            Result(
                source=name,
                policy_hash=policy.content_hash,
                policy=policy.name,
                seed=config.seed,
                config_hash=config_hash,
                cell_type=cell_type,
                seen=cell_type in source.cell_types,
                **scores.model_dump(),
                train_fingerprint=fingerprint,
                test_fingerprint=test.of_type(cell_type).fingerprint(),
                synthetic=source.synthetic or test.synthetic,
                note=note,
                date=datetime.now(UTC).isoformat(timespec="seconds"),
                seconds=round(time.perf_counter() - started, 1),
                versions=json.dumps(versions()),
            )
        )
    store.put(results)
    write_json(out / "results.json", [result.model_dump() for result in results])
    return Outcome(results, skipped=False)


def to_test_on(data: str, wanted: str, root: Path | None) -> CellDataset:
    """What to test on, given a source name and a list of types (`all`: every type that has an image there).

    A source in the demo culture is tested in it; a COCO file is tested on its own test split.
    """
    prefix = "demo/" if data.lower().startswith("demo/") and not wanted.lower().startswith("demo/") else ""
    name = data if ".json" in data.lower() and wanted.lower() == "all" else prefix + wanted
    dataset = resolve(name, "test", root, missing_ok=wanted.lower() == "all")
    usable = dataset.where(lambda record: record.annotated)
    if len(usable) == 0:
        raise InputError(f"there is no labelled test image for {name}: choose types that have one with --eval")
    return usable


def source_name(source: CellDataset) -> str:
    """`A172`, `A172,SKOV3`, `demo/A172`: the same for every spelling of `--data`."""
    return ("demo/" if source.synthetic else "") + ",".join(source.cell_types)


def versions() -> dict[str, str]:
    """Of what a number depends on."""
    import detectron2

    found = {name: importlib.metadata.version(name) for name in ("torch", "torchvision", "albumentations")}
    return {**found, "detectron2": detectron2.__version__}


def _known(
    store: Store, source: str, policy_hash: str, config: FinetuneConfig, config_hash: str, test: CellDataset
) -> list[Result]:
    """The stored rows for the requested types, if every one is there and was tested on the images of today."""
    rows = {(r.cell_type, r.test_fingerprint): r for r in store.find(source, policy_hash, config.seed, config_hash)}
    wanted = [(t, test.of_type(t).fingerprint()) for t in test.cell_types]
    return [rows[key] for key in wanted] if all(key in rows for key in wanted) else []


def _crops(images: TrainingSet, config: TrainConfig, *, flip: bool = False) -> Crops:
    per_epoch = Crops(images, config.crop, config.seed, 1).per_epoch
    length = iterations_of(config, per_epoch) * config.batch
    return Crops(images, config.crop, config.seed, length, flip=flip)


def _plan(source: CellDataset, crops: Crops, config: TrainConfig, network: ModelConfig) -> str:
    iterations = math.ceil(len(crops) / config.batch)
    kind = "synthetic " if source.synthetic else ""
    return (
        f"{len(source)} {kind}images of {', '.join(source.cell_types)}, {crops.per_epoch} crops of {config.crop} px an "
        f"epoch: {iterations} iterations of {config.batch} ({len(crops) / crops.per_epoch:.1f} epochs)"
    )


def _origin(source: CellDataset) -> dict[str, Any]:
    return {"source": source_name(source), "fingerprint": source.fingerprint(), "synthetic": source.synthetic,
            "versions": versions()}  # fmt: skip


def _check_device(device: str) -> None:
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {device!r} cannot be used here: {str(error).splitlines()[0]}") from error

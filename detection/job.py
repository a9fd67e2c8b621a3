"""One training, made ready from its configuration alone, so that each of several processes makes its own; and run."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from detectron2.modeling import GeneralizedRCNN

from detection import ranks
from detection.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from detection.config import FinetuneConfig, TrainConfig
from detection.dataset import Crops, TrainingSet
from detection.failures import TrainingInterrupted
from detection.features import FeatureCache, cached
from detection.model import build_model, freeze_bottom_up
from detection.network import ModelConfig
from detection.precision import check_precision
from detection.resume import Identity, Standing, StateFile
from detection.training import fit, iterations_of
from detection.validation import BEST, Validation, about, mean_ap50, validation_images
from detection.watcher import Watcher
from policy_search.cells import CellDataset
from policy_search.cells.errors import InputError

LAST = "model.pth"


class Job(NamedTuple):
    """Attributes:
    command: `pretrain` or `finetune`.
    config: all settings.
    network: and the weights it begins with, state-dict name → tensor; None begins with fresh ones, and names that
        are missing from it begin fresh.
    frozen: whether the bottom-up network stays as it is.
    source, crops: the labelled images, and what is cut from them.
    validation: images that choose among the weights, or None.
    identity: of the training, for its state.
    report: how weights from elsewhere were fitted, or nothing.
    """

    command: str
    config: TrainConfig
    network: ModelConfig
    start: dict[str, torch.Tensor] | None
    frozen: bool
    source: CellDataset
    crops: Crops
    validation: CellDataset | None
    identity: Identity
    report: str = ""

    @property
    def state(self) -> StateFile:
        """The file of the unfinished training."""
        return StateFile(self.config.out, self.identity, self.config.save_every)

    def plan(self) -> str:
        """What is going to happen, in a line or two."""
        config, crops = self.config, self.crops
        kind = "synthetic " if self.source.synthetic else ""
        piece = f"crops of {config.crop} px" if config.crop else "whole images"
        processes = f" in {config.processes} processes" if config.processes > 1 else ""
        text = (
            f"{len(self.source)} {kind}images of {', '.join(self.source.cell_types)}, {crops.per_epoch} {piece} an "
            f"epoch: {math.ceil(len(crops) / config.batch)} iterations of {config.batch} "
            f"({len(crops) / crops.per_epoch:.1f} epochs), {config.precision} on {config.device}{processes}"
        )
        if self.validation is not None:
            text += (
                f"\n{len(self.validation)} images of {config.validate_on} validate every {config.validate_every} "
                f"iterations; the result is {BEST}, the weights with the best AP50 on them"
            )
        return f"{self.report}\n{text}" if self.report else text


def crops_of(images: TrainingSet, config: TrainConfig, *, flip: bool = False) -> Crops:
    """All crops of a training, in order."""
    # Passed only where they are asked for, as most trainings take images as they are.
    rest: dict[str, Any] = {"sizes": config.sizes} if config.sizes else {}
    per_epoch = Crops(images, config.crop, config.seed, 1, **rest).per_epoch
    return Crops(images, config.crop, config.seed, iterations_of(config, per_epoch) * config.batch, flip=flip, **rest)


def identity_of(config: TrainConfig, source: CellDataset, validation: CellDataset | None, **rest: Any) -> Identity:
    """Everything that the course of a training depends on."""
    images = {"images": source.fingerprint(), "validation images": validation.fingerprint() if validation else None}
    return {**config.training(), **images, **rest}


def check_place(config: TrainConfig) -> None:
    """Raises:
    InputError: device, precision and processes do not go together here.
    """
    try:
        torch.empty(1, device=config.device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {config.device!r} cannot be used here: {str(error).splitlines()[0]}") from error
    check_precision(config.precision, config.device)
    if config.processes > 1 and config.device not in ("cpu", "cuda"):
        raise InputError(f"--processes {config.processes} uses the first GPUs: give --device cuda, got {config.device}")
    if config.device == "cuda" and config.processes > torch.cuda.device_count():
        raise InputError(f"--processes {config.processes}, but there are {torch.cuda.device_count()} GPUs")


def validation_of(config: TrainConfig) -> CellDataset | None:
    """The images that choose among the weights, if any do."""
    return validation_images(config.validate_on, config.root) if config.validate_on else None


def begin(job: Job, watcher: Watcher, note: str = "") -> None:
    """Find out whether there is something to go on from, and say what is going to happen."""
    if job.config.force:
        job.state.remove()
    done = job.state.check()
    watcher.say(job.plan() + (f"\nnote: {note}" if note else ""))
    if done:
        watcher.say(f"going on after iteration {done}")


def train(job: Job, prepare: Callable[[Any], Job], watcher: Watcher) -> Standing:
    """Do the job here or, for several processes, `prepare` it again in each; its weights are in its folder then.

    Raises:
        TrainingInterrupted: it was stopped; the message says how to go on.
        InputError, TrainingError: see `fit` and `spread`.
    """
    try:
        if job.config.processes == 1:
            return run(job, watcher, None)
        from detection.processes import spread

        arguments = (prepare, job.config)
        place = job.config.device
        standing: Standing = spread(
            prepare_and_run, arguments, processes=job.config.processes, device=place, watcher=watcher
        )
        return standing
    except TrainingInterrupted as error:
        raise TrainingInterrupted(how_to_go_on(str(error), job.config.force)) from None


def how_to_go_on(sentence: str, forced: bool) -> str:
    """An interruption and its remedy."""
    without = " without --force" if forced else ""
    return f"{sentence}; the same command{without} goes on from there"


def prepare_and_run(prepare: Callable[[Any], Job], config: TrainConfig, watcher: Watcher, stop: Any) -> Standing:
    """The work of one rank."""
    return run(prepare(config), watcher, stop)


def run(job: Job, watcher: Watcher, stop: Callable[[], bool] | None) -> Standing:
    """Train in this process, as one of all ranks; rank 0 writes `model.pth`, and `best.pth` while it validates."""
    config = job.config
    device = f"cuda:{ranks.rank()}" if config.device == "cuda" and ranks.size() > 1 else config.device
    model = model_of(job).to(device)
    made = made_by(job)
    validation = None
    if job.validation is not None:
        images = job.validation

        def keep(best: GeneralizedRCNN, iteration: int, ap50: float) -> None:
            chosen = about(Standing(best_ap50=ap50, best_iteration=iteration), images)
            save_checkpoint(config.out / BEST, best, job.network, {**made, "validation": chosen})

        validation = Validation(config.validate_every, config.patience, lambda now: mean_ap50(now, images), keep)
    with frozen_features(job, model, watcher):
        standing = fit(
            model, job.crops, config, watcher=watcher, log_dir=config.out / "tensorboard", state=job.state,
            validation=validation, stop=stop,
        )  # fmt: skip
    if ranks.rank() == 0:
        save_checkpoint(config.out / LAST, model, job.network, {**made, "iterations": standing.iteration})
    return standing


@contextmanager
def frozen_features(job: Job, model: GeneralizedRCNN, watcher: Watcher) -> Iterator[None]:
    """Within, a frozen bottom-up network sees image by image, and with a cache each image once: the same bits."""
    if not job.frozen:
        yield
        return
    cache = None
    if isinstance(job.config, FinetuneConfig) and job.config.feature_cache is not None:
        cache = FeatureCache(job.config.feature_cache, int(job.config.feature_cache_gb * 2**30), watcher.say)
    with cached(model, cache):
        yield
    if cache is not None:
        done = cache.stats()
        watcher.say(
            f"feature cache: {done.hits} of {done.hits + done.misses} images were there; "
            f"{done.bytes / 2**30:.2f} GB in {cache.folder}"
        )


def model_of(job: Job) -> GeneralizedRCNN:
    """The network with its first weights, on the CPU."""
    model = build_model(job.network, job.config.seed)
    if job.start is not None:
        model.load_state_dict({**model.state_dict(), **job.start})
    if job.frozen:
        freeze_bottom_up(model)
    return model


def result_of(job: Job, standing: Standing) -> tuple[Path, Checkpoint]:
    """The weights that the training ends with: the best where it validated, else the last.

    Raises:
        InputError: `best.pth` is not the one that the training wrote.
    """
    path = job.config.out / (BEST if job.validation is not None else LAST)
    checkpoint = load_checkpoint(path)
    if job.validation is not None and checkpoint.made.get("validation", {}).get("iteration") != standing.best_iteration:
        raise InputError(f"{path} was changed by something else: start anew with --force")
    return path, checkpoint


def made_by(job: Job) -> dict[str, Any]:
    """What a file of weights says on its making."""
    return {
        "command": job.command,
        "config": job.config.model_dump(mode="json"),
        "source": source_name(job.source),
        "fingerprint": job.source.fingerprint(),
        "synthetic": job.source.synthetic,
        "versions": versions(),
    }


def source_name(source: CellDataset) -> str:
    """`A172`, `A172,SKOV3`, `demo/A172`: the same for every spelling of `--data`."""
    return ("demo/" if source.synthetic else "") + ",".join(source.cell_types)


def versions() -> dict[str, str]:
    """Of what a number depends on."""
    import detectron2

    found = {name: importlib.metadata.version(name) for name in ("torch", "torchvision", "albumentations")}
    return {**found, "detectron2": detectron2.__version__}

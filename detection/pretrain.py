"""The command `detect pretrain`: a base model on the source alone."""

from __future__ import annotations

from pathlib import Path

from detection.config import PretrainConfig
from detection.dataset import TrainingSet, labelled
from detection.job import Job, begin, check_place, crops_of, identity_of, result_of, train, validation_of
from detection.presets import preset
from detection.sole_user import sole_user
from detection.watcher import Watcher
from detection.weights import backbone_weights
from policy_search.cells import resolve
from policy_search.cells.files import require_writable_folder, write_json


def prepare(config: PretrainConfig) -> Job:
    """Everything that the training needs; writes nothing.

    Raises:
        InputError: unknown preset or data, or weights that do not fit.
    """
    network = preset(config.preset).network
    source = labelled(resolve(config.data, "train", config.root))
    validation = validation_of(config)
    check_place(config)
    start = backbone_weights(config.weights, network, config.allow) if config.weights else None
    images = TrainingSet(source, None, config.seed, factor=1, min_area=config.min_area)
    identity = identity_of(
        config, source, validation, network=network.model_dump(mode="json"),
        weights=start.content_hash if start else None,
    )  # fmt: skip
    return Job(
        "pretrain", config, network, start.state if start else None, False, source,
        crops_of(images, config, flip=config.flip), validation, identity, start.report if start else "",
    )  # fmt: skip


def pretrain(config: PretrainConfig, watcher: Watcher | None = None) -> Path:
    """Train a base model on the source type alone; gives back the file of its weights.

    An unfinished training in the folder is finished.

    Raises:
        InputError: unknown preset or data, a folder that cannot be written, or one with another's unfinished training.
        TrainingError: see `detection.job.train`.
    """
    watcher = watcher or Watcher()
    job = prepare(config)
    out = require_writable_folder(config.out)
    with sole_user(out):
        begin(job, watcher)
        write_json(out / "config.json", config.model_dump(mode="json"))
        standing = train(job, prepare, watcher)
    path, _ = result_of(job, standing)
    job.state.remove()
    return path

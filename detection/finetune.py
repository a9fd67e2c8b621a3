"""The command `detect finetune`: a policy on the paper's protocol (design 7.2), from base model to rows of results."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from detection.checkpoint import Checkpoint, load_checkpoint
from detection.config import FinetuneConfig
from detection.dataset import TrainingSet, donates_to_itself
from detection.evaluate import Evaluation, evaluate_wells
from detection.failures import TrainingInterrupted
from detection.finished import finished_model, write_results
from detection.job import (
    LAST,
    Job,
    begin,
    check_place,
    crops_of,
    how_to_go_on,
    identity_of,
    result_of,
    source_name,
    train,
    validation_of,
    versions,
)
from detection.materialize import IMAGES, materialize
from detection.model import build_model
from detection.resume import Identity
from detection.run_key import by_type, key_of, read_base, read_source, stored
from detection.sole_user import sole_user
from detection.store import Result, RunKey, Store
from detection.testing_on import to_test_on
from detection.validation import BEST
from detection.watcher import Watcher
from policy_search.augment import Augmenter, PolicyDocument, load_policy
from policy_search.cells import CellDataset
from policy_search.cells.files import require_writable_folder, write_json

SELF_DONOR = "copy-paste took cells from the same image, mirrored or turned: the source has one training image"


class Ready(NamedTuple):
    """A fine-tune before its training: settings, job, policy and what its result is stored under."""

    config: FinetuneConfig
    job: Job
    policy: PolicyDocument
    key: RunKey
    note: str


def prepare(config: FinetuneConfig) -> Job:
    """Everything that the training needs; writes nothing. Each of several processes calls it."""
    return make_ready(config).job


def make_ready(config: FinetuneConfig) -> Ready:
    """Read what the configuration names; writes nothing.

    Raises:
        InputError: weights, policy, data or device cannot be used.
    """
    base = read_base(config)
    policy = load_policy(config.policy)
    source = read_source(config)
    validation = validation_of(config)
    check_place(config)
    augmenter = Augmenter(policy)
    images = TrainingSet(source, augmenter, config.seed, factor=config.factor, min_area=config.min_area)
    identity: Identity = identity_of(config, source, validation, weights=base.content_hash, policy=policy.content_hash)
    key = key_of(
        config, source=source_name(source), fingerprint=source.fingerprint(), weights_hash=base.content_hash,
        policy_hash=policy.content_hash, validation_fingerprint=validation.fingerprint() if validation else None,
    )  # fmt: skip
    job = Job(
        "finetune", config, base.config, base.state, not config.unfreeze, source, crops_of(images, config), validation,
        identity, base.report,
    )  # fmt: skip
    return Ready(config, job, policy, key, SELF_DONOR if donates_to_itself(source, augmenter) else "")


class Outcome(NamedTuple):
    """Rows of one fine-tuning, and whether they were there already."""

    results: list[Result]
    skipped: bool


def finetune(config: FinetuneConfig, watcher: Watcher | None = None) -> Outcome:
    """Fine-tune a base model with a policy, test it on every requested cell type and store one row for each.

    An unfinished training in the folder is finished. Rows and images are written together, once; then its state goes.
    Rows without images, of an older version, do not count as known: the model is tested again if the folder has it,
    else trained anew.

    Raises:
        InputError: weights, policy, data or folder cannot be used, or the folder holds the unfinished training of
            another configuration; nothing is written then.
        TrainingInterrupted, TrainingError: see `detection.job.train`.
    """
    watcher = watcher or Watcher()
    started = time.perf_counter()
    ready = make_ready(config)
    test = to_test_on(config.data, config.evaluate, config.root)
    fingerprints = by_type(test)
    store = Store(config.results)
    rows = [] if config.force else stored(store, ready.key, fingerprints)
    if rows and store.types_with_images(*ready.key) >= fingerprints.keys():
        return Outcome(_skip(ready, rows, store, watcher), skipped=True)

    model = None
    if rows:
        model = finished_model(config.out, ready.key, BEST if ready.job.validation is not None else LAST)
        how = f"{model} is tested again" if model else f"trained anew, as {config.out} has no finished model of it"
        watcher.say(f"the result is in {config.results}, but without what was found in each image: {how}")
    weights = load_checkpoint(model) if model else _trained(ready, test, watcher)
    tested = _tested(config, weights, test, watcher)
    spent = rows[0].seconds if model else round(time.perf_counter() - started, 1)
    results = _rows(ready, tested, test, fingerprints, spent)
    store.put(results, tested.images)
    write_results(config.out, results)
    ready.job.state.remove()
    return Outcome(results, skipped=False)


def _skip(ready: Ready, rows: list[Result], store: Store, watcher: Watcher) -> list[Result]:
    detections = detections_folder(ready.config)
    renamed = [result.model_copy(update={"policy": ready.policy.name}) for result in rows]
    store.put(renamed)  # a policy under another name is the same policy
    ready.job.state.forget()  # of a run that was killed after its rows were written
    if ready.config.keep_detections and not detections.is_dir():
        watcher.say(f"there are no detections in {detections}: --force runs it again and keeps them")
    return renamed


def _trained(ready: Ready, test: CellDataset, watcher: Watcher) -> Checkpoint:
    """The weights after training; its folder holds them, the configuration and the policy."""
    job, config = ready.job, ready.config
    out = require_writable_folder(config.out)
    with sole_user(out):
        begin(job, watcher, ready.note)
        write_json(out / "config.json", config.model_dump(mode="json"))
        ready.policy.save(out / "policy.json")
        if config.materialize is not None:
            annotations = materialize(job.crops.images, config.materialize)
            watcher.say(
                f"training set: {annotations}; it trains the same with --policy none --factor 1 "
                f"--data {annotations}:{annotations.parent / IMAGES} --eval {test.name}"
            )
        standing = train(job, prepare, watcher)
    return result_of(job, standing)[1]


def _tested(config: FinetuneConfig, weights: Checkpoint, test: CellDataset, watcher: Watcher) -> Evaluation:
    model = build_model(weights.config)
    model.load_state_dict(weights.state)
    out = detections_folder(config).parent if config.keep_detections else None
    try:
        return evaluate_wells(model.to(config.device), test, watcher.say, out=out)
    except KeyboardInterrupt:
        raise TrainingInterrupted(how_to_go_on("interrupted while testing", config.force)) from None


def detections_folder(config: FinetuneConfig) -> Path:
    """Where `keep_detections` puts what was found; `ground_truth` is beside it."""
    return config.out / "test" / "detections"


def _rows(
    ready: Ready, tested: Evaluation, test: CellDataset, fingerprints: Mapping[str, str], seconds: float
) -> list[Result]:
    source = ready.job.source
    return [
        Result(
            **ready.key._asdict(),
            policy=ready.policy.name,
            cell_type=cell_type,
            seen=cell_type in source.cell_types,
            **scores.model_dump(),
            train_fingerprint=source.fingerprint(),
            test_fingerprint=fingerprints[cell_type],
            synthetic=source.synthetic or test.synthetic,
            note=ready.note,
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=seconds,
            versions=json.dumps(versions()),
        )
        for cell_type, scores in tested.types.items()
    ]

"""The command `detect finetune`: a policy on the paper's protocol (design 7.2), from base model to rows of results."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from detection.config import FinetuneConfig
from detection.dataset import TrainingSet, donates_to_itself, labelled
from detection.evaluate import evaluate
from detection.failures import TrainingInterrupted
from detection.job import (
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
from detection.presets import preset
from detection.resume import Identity
from detection.sole_user import sole_user
from detection.store import Result, Store
from detection.watcher import Watcher
from detection.weights import base_weights
from policy_search.augment import Augmenter, PolicyDocument, load_policy
from policy_search.cells import CellDataset, resolve
from policy_search.cells.errors import InputError
from policy_search.cells.files import require_writable_folder, write_json

SELF_DONOR = "copy-paste took cells from the same image, mirrored or turned: the source has one training image"


class Ready(NamedTuple):
    """A fine-tune before its training: the job, its policy and the digest of its configuration."""

    job: Job
    policy: PolicyDocument
    config_hash: str
    note: str


def prepare(config: FinetuneConfig) -> Job:
    """Everything that the training needs; writes nothing. Each of several processes calls it."""
    return make_ready(config).job


def make_ready(config: FinetuneConfig) -> Ready:
    """Read what the configuration names; writes nothing.

    Raises:
        InputError: weights, policy, data or device cannot be used.
    """
    base = base_weights(config.weights, preset(config.preset).network, config.allow, own=True)
    policy = load_policy(config.policy)
    source = labelled(resolve(config.data, "train", config.root))
    validation = validation_of(config)
    check_place(config)
    augmenter = Augmenter(policy)
    images = TrainingSet(source, augmenter, config.seed, factor=config.factor, min_area=config.min_area)
    identity: Identity = identity_of(config, source, validation, weights=base.content_hash, policy=policy.content_hash)
    config_hash = config.identity(
        base.content_hash, source.fingerprint(), validation.fingerprint() if validation else None
    )
    job = Job(
        "finetune", config, base.config, base.state, not config.unfreeze, source, crops_of(images, config), validation,
        identity, base.report,
    )  # fmt: skip
    return Ready(job, policy, config_hash, SELF_DONOR if donates_to_itself(source, augmenter) else "")


class Outcome(NamedTuple):
    """Rows of one fine-tuning, and whether they were there already."""

    results: list[Result]
    skipped: bool


def finetune(config: FinetuneConfig, watcher: Watcher | None = None) -> Outcome:
    """Fine-tune a base model with a policy, test it on every requested cell type and store one row for each.

    An unfinished training in the folder is finished. The rows are written together, once; then its state goes.

    Raises:
        InputError: weights, policy, data or folder cannot be used, or the folder holds the unfinished training of
            another configuration; nothing is written then.
        TrainingInterrupted, TrainingError: see `detection.job.train`.
    """
    watcher = watcher or Watcher()
    started = time.perf_counter()
    job, policy, config_hash, note = make_ready(config)
    test = to_test_on(config.data, config.evaluate, config.root)
    name = source_name(job.source)
    store = Store(config.results)
    known = _known(store, name, policy.content_hash, config, config_hash, test)
    if known and not config.force:
        renamed = [result.model_copy(update={"policy": policy.name}) for result in known]
        store.put(renamed)  # a policy under another name is the same policy
        job.state.forget()  # of a run that was killed after its rows were written
        return Outcome(renamed, skipped=True)

    out = require_writable_folder(config.out)
    with sole_user(out):
        begin(job, watcher, note)
        write_json(out / "config.json", config.model_dump(mode="json"))
        policy.save(out / "policy.json")
        if config.materialize is not None:
            annotations = materialize(job.crops.images, config.materialize)
            watcher.say(
                f"training set: {annotations}; it trains the same with --policy none --factor 1 "
                f"--data {annotations}:{annotations.parent / IMAGES} --eval {_tested(config, test)}"
            )
        standing = train(job, prepare, watcher)
    _, weights = result_of(job, standing)
    model = build_model(weights.config)
    model.load_state_dict(weights.state)
    try:
        tested = evaluate(model.to(config.device), test, watcher.say)
    except KeyboardInterrupt:
        raise TrainingInterrupted(how_to_go_on("interrupted while testing", config.force)) from None
    results = [
        Result(
            source=name,
            policy_hash=policy.content_hash,
            policy=policy.name,
            seed=config.seed,
            config_hash=config_hash,
            cell_type=cell_type,
            seen=cell_type in job.source.cell_types,
            **scores.model_dump(),
            train_fingerprint=job.source.fingerprint(),
            test_fingerprint=test.of_type(cell_type).fingerprint(),
            synthetic=job.source.synthetic or test.synthetic,
            note=note,
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=round(time.perf_counter() - started, 1),
            versions=json.dumps(versions()),
        )
        for cell_type, scores in tested.items()
    ]
    store.put(results)
    write_json(out / "results.json", [result.model_dump() for result in results])
    job.state.remove()
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


def _tested(config: FinetuneConfig, test: CellDataset) -> str:
    """The test images as a value of --eval that does not depend on --data."""
    if ".json" in config.data.lower():
        return config.data
    return ("demo/" if test.synthetic else "") + ",".join(test.cell_types)


def _known(
    store: Store, source: str, policy_hash: str, config: FinetuneConfig, config_hash: str, test: CellDataset
) -> list[Result]:
    """The stored rows for the requested types, if every one is there and was tested on the images of today."""
    rows = {(r.cell_type, r.test_fingerprint): r for r in store.find(source, policy_hash, config.seed, config_hash)}
    wanted = [(t, test.of_type(t).fingerprint()) for t in test.cell_types]
    return [rows[key] for key in wanted] if all(key in rows for key in wanted) else []

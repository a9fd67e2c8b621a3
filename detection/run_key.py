"""What a fine-tune's result is stored under, found without preparing its training; and what is stored there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from detection.checkpoint import Checkpoint
from detection.config import FinetuneConfig
from detection.dataset import labelled
from detection.job import source_name, validation_of
from detection.presets import preset
from detection.store import Result, RunKey, Store
from detection.testing_on import to_test_on
from detection.weights import base_weights
from policy_search.augment import load_policy
from policy_search.cells import CellDataset, resolve

# Digests of files by what they are of. One who asks for many keys hands the same dictionary to every call.
Seen = dict[tuple[object, ...], Any]


def read_base(config: FinetuneConfig) -> Checkpoint:
    """The base model; a file of ours may hold another network than the preset's.

    Raises:
        InputError: see `base_weights`.
    """
    return base_weights(config.weights, preset(config.preset).network, config.allow, own=True)


def read_source(config: FinetuneConfig) -> CellDataset:
    """The labelled images to learn from.

    Raises:
        InputError: unknown data, or none is labelled.
    """
    return labelled(resolve(config.data, "train", config.root))


def key_of(
    config: FinetuneConfig,
    *,
    source: str,
    fingerprint: str,
    weights_hash: str,
    policy_hash: str,
    validation_fingerprint: str | None,
) -> RunKey:
    """The key, once everything has been read."""
    config_hash = config.identity(weights_hash, fingerprint, validation_fingerprint)
    return RunKey(source, policy_hash, config.seed, config_hash)


def run_key(config: FinetuneConfig, seen: Seen | None = None) -> RunKey:
    """What the result of `finetune(config)` will be stored under. Reads weights, policy and images; writes nothing.

    Args:
        seen: digests that earlier calls made, so that no file is read twice; must not outlive a change of the files.

    Raises:
        InputError: weights, policy or data cannot be used.
    """
    memory = seen if seen is not None else {}
    weights_hash = _once(
        memory, ("weights", config.weights, config.preset, config.allow), lambda: read_base(config).content_hash
    )
    name, fingerprint = _once(memory, ("source", config.data, config.root), lambda: _described(read_source(config)))
    validation = _once(memory, ("validation", config.validate_on, config.root), lambda: _fingerprint(config))
    return key_of(
        config, source=name, fingerprint=fingerprint, weights_hash=weights_hash,
        policy_hash=load_policy(config.policy).content_hash, validation_fingerprint=validation,
    )  # fmt: skip


def known(config: FinetuneConfig, store: Store, seen: Seen | None = None) -> list[Result]:
    """The stored rows of this run for every requested type, with images, or nothing: then there is work to do.

    Args:
        seen: see `run_key`.

    Raises:
        InputError: see `run_key`; or there is nothing to test on.
    """
    memory = seen if seen is not None else {}
    key = run_key(config, memory)
    fingerprints = _once(
        memory,
        ("test", config.data, config.evaluate, config.root),
        lambda: by_type(to_test_on(config.data, config.evaluate, config.root)),
    )
    rows = stored(store, key, fingerprints)
    return rows if store.types_with_images(*key) >= fingerprints.keys() else []


def stored(store: Store, key: RunKey, fingerprints: Mapping[str, str]) -> list[Result]:
    """The rows for the requested types, if every one is there and was tested on the images of today.

    Args:
        fingerprints: of the test images, by cell type.
    """
    rows = {(row.cell_type, row.test_fingerprint): row for row in store.find(*key)}
    return [rows[wanted] for wanted in fingerprints.items()] if all(w in rows for w in fingerprints.items()) else []


def by_type(test: CellDataset) -> dict[str, str]:
    """Cell type → fingerprint of its images."""
    return {cell_type: test.of_type(cell_type).fingerprint() for cell_type in test.cell_types}


def _described(source: CellDataset) -> tuple[str, str]:
    return source_name(source), source.fingerprint()


def _fingerprint(config: FinetuneConfig) -> str | None:
    validation = validation_of(config)
    return validation.fingerprint() if validation is not None else None


def _once(seen: Seen, name: tuple[object, ...], make: Callable[[], Any]) -> Any:
    if name not in seen:
        seen[name] = make()
    return seen[name]

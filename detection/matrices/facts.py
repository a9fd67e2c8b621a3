"""What a plan must know of data sets, weights and policies, read once each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from policy_search.cells import CellDataset, resolve
from policy_search.cells.errors import InputError


class FileFacts:
    """`detection.matrices.plan.Facts` of this machine.

    Args:
        root: LIVECell's folder, as for `--root`.
    """

    def __init__(self, root: Path | None) -> None:
        self._root = root
        self._found: dict[tuple[str, str], str] = {}

    def data(self, name: str) -> str:
        """Digest of the training images and labels behind a `--data` name."""
        return self._once("data", name, lambda: training_images(name, self._root).fingerprint())

    def weights(self, path: Path) -> str:
        """Digest of a file of weights.

        Raises:
            InputError: it cannot be read.
        """

        def read() -> str:
            try:
                with path.open("rb") as handle:
                    return hashlib.file_digest(handle, "sha256").hexdigest()[:16]
            except OSError as error:
                raise InputError(
                    f"no base model at {path}: {error.strerror or error}. Give the file of weights with --weights."
                ) from None

        return self._once("weights", str(path), read)

    def policy(self, policy: str) -> str:
        """Content hash of a policy file or a naive strategy.

        Raises:
            PolicyError: there is no such policy, or it cannot be used.
        """
        from policy_search.augment import load_policy

        return self._once("policy", policy, lambda: load_policy(policy).content_hash)

    def is_strategy(self, policy: str) -> bool:
        """Whether it names a naive strategy."""
        from policy_search.augment import BASELINES

        return policy in BASELINES

    def _once(self, kind: str, name: str, find: Callable[[], str]) -> str:
        if (kind, name) not in self._found:
            self._found[kind, name] = find()
        return self._found[kind, name]


def training_images(name: str, root: Path | None) -> CellDataset:
    """The labelled training images behind a `--data` name, as `detect finetune` takes them."""
    from detection.dataset import labelled

    return labelled(resolve(name, "train", root))

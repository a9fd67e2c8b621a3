"""Everything that can be set on the command line: one frozen model per command, saved as config.json."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from detection.network import Frozen
from detection.recipe import Recipe
from detection.tiles import SMALLEST_TILE


class TrainConfig(Recipe):
    """What pretrain and finetune share.

    Attributes:
        data: the source, as typed for `--data`.
        out: folder of the results.
        epochs: an epoch sees every image as often as crops cover it (ceil(H·W / crop²)).
        iterations: overrides `epochs` when given.
        workers: processes that prepare crops; they change nothing in the result.
    """

    data: str
    out: Path
    root: Path | None = None
    seed: int = Field(0, ge=0)
    epochs: int = Field(15, ge=1)
    iterations: int | None = Field(None, ge=1)
    min_area: int = Field(10, ge=1)
    workers: int = Field(0, ge=0)
    device: str = "cpu"


class PretrainConfig(TrainConfig):
    """The base model: from fresh weights on the source type alone, unaugmented (`flip` adds the eight symmetries)."""

    preset: str = "tiny"
    iterations: int | None = Field(1400, ge=1)
    flip: bool = False


class FinetuneConfig(TrainConfig):
    """One policy on the paper's protocol (design 7.2).

    Attributes:
        weights: the base model; its architecture comes with it.
        policy: a policy file, or the name of a baseline.
        factor: size of the training set over the original: one untouched copy and `factor` - 1 fixed draws.
        unfreeze: train the bottom-up backbone too.
        evaluate: cell types to test on, `all` for every type with a test image under the root.
        results: the database of results.
        force: run although the result is there already.
    """

    weights: Path
    policy: str
    lr: float = Field(5e-4, gt=0)
    warmup: int = Field(20, ge=0)
    factor: int = Field(3, ge=1)
    unfreeze: bool = False
    evaluate: str = "all"
    results: Path = Path("runs/results.sqlite")
    force: bool = False

    def identity(self, weights_hash: str, data_fingerprint: str) -> str:
        """Hex digest of everything a result depends on besides source, policy and seed, which are keys of their own."""
        elsewhere = {
            "data", "out", "root", "seed", "policy", "weights", "evaluate", "results", "force", "workers", "device",
        }  # fmt: skip
        content = self.model_dump(mode="json", exclude=elsewhere)
        return digest({**content, "weights": weights_hash, "fingerprint": data_fingerprint})


class EvaluateConfig(Frozen):
    """Test a model on unaugmented images."""

    weights: Path
    data: str = "all"
    root: Path | None = None
    split: Literal["test", "val", "train"] = "test"
    out: Path | None = None
    device: str = "cpu"


class PredictConfig(Frozen):
    """Find cells in pictures.

    Attributes:
        images: files, folders or patterns.
        score: cells of a lower score are left out. At 0.3 a tiny model after minutes of training on a few images
            counted about as many cells as there were. One trained for longer is surer: a higher score then leaves out
            doubtful ones.
        tile: side of the tiles in pixels; 0 takes every image in one piece; None decides by its size.
    """

    images: tuple[str, ...]
    weights: Path
    out: Path
    score: float = Field(0.3, ge=0, lt=1)
    tile: int | None = Field(None, ge=0)
    device: str = "cpu"

    @field_validator("tile")
    @classmethod
    def _large_enough(cls, tile: int | None) -> int | None:
        if tile and tile < SMALLEST_TILE:
            raise ValueError(f"a tile needs at least {SMALLEST_TILE} pixels a side, or 0 for none")
        return tile


def digest(content: dict[str, Any]) -> str:
    """16 hex digits over a JSON-able mapping; the order of its keys does not count."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()[:16]

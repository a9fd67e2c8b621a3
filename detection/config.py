"""Everything that can be set on the command line: one frozen model per command, saved as config.json."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from detection.network import Frozen
from detection.recipe import Recipe
from detection.tiles import SMALLEST_TILE

# Where and how a training runs, and what is done with it; the same training has the same result with other values.
ELSEWHERE = frozenset({
    "out", "root", "workers", "device", "results", "force", "evaluate", "save_every", "feature_cache",
    "feature_cache_gb", "materialize", "keep_detections", "preset", "weights", "policy", "data", "validate_on", "allow",
})  # fmt: skip


class TrainConfig(Recipe):
    """What pretrain and finetune share.

    Attributes:
        precision: settled; `auto` is resolved by the command line.
        data: the source, as typed for `--data`.
        out: folder of the results.
        epochs: an epoch sees every image as often as crops cover it (ceil(H·W / crop²)).
        iterations: overrides `epochs` when given.
        workers: processes that prepare crops; they change nothing in the result.
        processes: that train together, each on its share of every batch; on CUDA one a GPU. Normalisation and the
            choice of regions see one share at a time, so their number belongs to the result.
        save_every: seconds between two writings of the state from which a stopped training goes on.
        validate_on: data whose validation split is scored during training; the best weights are then the result.
        validate_every: iterations between two validations.
        patience: validations without a better AP50 after which training stops; 0 never stops.
        preset: name of the network and its recipes.
        allow: deviations that are accepted in weights from elsewhere.
    """

    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    data: str
    out: Path
    root: Path | None = None
    seed: int = Field(0, ge=0)
    epochs: int = Field(15, ge=1)
    iterations: int | None = Field(None, ge=1)
    min_area: int = Field(10, ge=1)
    workers: int = Field(0, ge=0)
    device: str = "cpu"
    processes: int = Field(1, ge=1)
    save_every: float = Field(300.0, ge=0)
    validate_on: str | None = None
    validate_every: int = Field(200, ge=1)
    patience: int = Field(0, ge=0)
    preset: str = "tiny"
    allow: tuple[str, ...] = ()
    force: bool = False

    @model_validator(mode="after")
    def _fits(self) -> TrainConfig:
        if self.batch % self.processes:
            raise ValueError(f"a batch of {self.batch} cannot be shared equally by {self.processes} processes")
        if self.patience and self.validate_on is None:
            raise ValueError("patience needs validate_on: name data whose val split decides")
        return self

    def training(self) -> dict[str, Any]:
        """The settings that the course of a training depends on, beside weights, policy and images; flat, JSON-able."""
        without = set(ELSEWHERE)
        if self.validate_on is None:
            without |= {"validate_every", "patience"}
        return self.model_dump(mode="json", exclude=without)


class PretrainConfig(TrainConfig):
    """The base model on the source type alone, unaugmented (`flip` adds the eight symmetries).

    Attributes:
        weights: of a bottom-up network to begin with; None begins with fresh weights.
        force: start anew although an unfinished training is there.
    """

    weights: Path | None = None
    iterations: int | None = Field(3000, ge=1)
    flip: bool = False


class FinetuneConfig(TrainConfig):
    """One policy on the paper's protocol (design 7.2).

    Attributes:
        weights: the base model; its architecture comes with it.
        policy: a policy file, or the name of a baseline.
        factor: size of the training set over the original: one untouched copy and `factor` - 1 fixed draws.
        unfreeze: train the bottom-up backbone too.
        evaluate: cell types to test on, `all` for every type with a test image under the root, and COCO files; see
            `detection.testing_on`.
        results: the database of results.
        force: run although the result is there already, and from the start.
        feature_cache: folder in which features of the frozen bottom-up network are kept; None keeps none.
        feature_cache_gb: its size at most.
        materialize: folder into which the training set is written as a COCO file and images.
        keep_detections: write what was found in the test images, and their labels, as COCO files under `out`/test.
    """

    weights: Path
    policy: str
    lr: float = Field(5e-4, gt=0)
    warmup: int = Field(20, ge=0)
    factor: int = Field(3, ge=1)
    unfreeze: bool = False
    evaluate: str = "all"
    results: Path = Path("runs/results.sqlite")
    feature_cache: Path | None = None
    feature_cache_gb: float = Field(20.0, gt=0)
    materialize: Path | None = None
    keep_detections: bool = False

    @model_validator(mode="after")
    def _comes_again(self) -> FinetuneConfig:
        if self.feature_cache is not None and self.crop:
            raise ValueError("feature_cache needs whole images (crop 0): a random crop hardly ever comes again")
        if self.feature_cache is not None and self.unfreeze:
            raise ValueError("feature_cache needs a frozen backbone: leave out unfreeze or the cache")
        return self

    def identity(self, weights_hash: str, data_fingerprint: str, validation_fingerprint: str | None = None) -> str:
        """Hex digest of everything a result depends on besides source, policy and seed, which are keys of their own."""
        content = {k: v for k, v in self.training().items() if k != "seed"}
        images = {"fingerprint": data_fingerprint, "validation": validation_fingerprint}
        return digest({**content, "weights": weights_hash, **images})


class EvaluateConfig(Frozen):
    """Test a model on unaugmented images.

    Attributes:
        weights: a file of ours, or one from elsewhere with the `preset` whose network it fits.
        allow: deviations that are accepted in a file from elsewhere.
    """

    weights: Path
    preset: str | None = None
    allow: tuple[str, ...] = ()
    data: str = "all"
    root: Path | None = None
    split: Literal["test", "val", "train"] = "test"
    out: Path | None = None
    device: str = "cpu"


class PredictConfig(Frozen):
    """Find cells in pictures.

    Attributes:
        images: files, folders or patterns.
        weights, preset, allow: as in `EvaluateConfig`.
        score: cells of a lower score are left out. The default is that of the best F1 on two validation images
            (experiments/results/prediction.md); a model trained for longer may want another.
        tile: side of the tiles in pixels; 0 takes every image in one piece; None decides by its size.
        page, channel: of files with several, from 1.
    """

    images: tuple[str, ...]
    weights: Path
    preset: str | None = None
    allow: tuple[str, ...] = ()
    out: Path
    score: float = Field(0.3, ge=0, lt=1)
    tile: int | None = Field(None, ge=0)
    page: int | None = Field(None, ge=1)
    channel: int | None = Field(None, ge=1)
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

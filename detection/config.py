"""Everything that can be set: network presets, and one frozen model per command, saved as config.json."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from detection.livecell import MAX_DETECTIONS, PIXEL_MEAN, PIXEL_STD
from policy_search.cells.errors import InputError


class Frozen(BaseModel):
    """A value: nothing in it can be changed or misspelt."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModelConfig(Frozen):
    """A Cascade Mask R-CNN, from the stem to the number of detections. Sizes are pixels of the input image.

    Attributes:
        channels: of the input; images are turned grey (1) or grey is repeated (3) to fit.
        stem: channels after the stem.
        stages, blocks: channels and basic blocks of the stages at strides 4, 8, 16, 32.
        fpn: channels of the feature pyramid.
        anchor_sizes: square roots of anchor areas, one tuple per level (p2, p3, p4, p5), all of one length because the
            RPN's head is shared.
        candidates_train, candidates_test: best-scored anchors a level that go into non-maximum suppression.
        proposals_train, proposals_test: proposals an image that come out of it.
        rois: regions an image that train the box heads; a quarter of them hold a cell, and those train the mask head.
        roi_scale: a box of this side is pooled from p3, one of half the side from p2.
        roi_samples: bilinear samples a bin and axis in region pooling.
        nms: overlap above which the lower-scored of two detections goes; cells overlap little.
    """

    channels: Literal[1, 3] = 1
    pixel_mean: float = PIXEL_MEAN
    pixel_std: float = Field(PIXEL_STD, gt=0)
    stem: int = Field(32, ge=4)
    stages: tuple[int, int, int, int] = (32, 64, 128, 256)
    blocks: tuple[int, int, int, int] = (2, 2, 2, 2)
    norm: Literal["BN", "GN"] = "BN"
    fpn: int = Field(64, ge=4)
    anchor_sizes: tuple[tuple[float, ...], ...] = ((12,), (24,), (48,), (96,))
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    rpn_batch: int = Field(128, ge=2)
    candidates_train: int = Field(300, ge=1)
    candidates_test: int = Field(2000, ge=1)
    proposals_train: int = Field(300, ge=1)
    proposals_test: int = Field(2000, ge=1)
    rois: int = Field(64, ge=4)
    roi_scale: float = Field(56.0, gt=0)
    roi_samples: int = Field(1, ge=1)
    box_convs: int = Field(1, ge=0)
    box_conv_dim: int = Field(64, ge=1)
    box_fc_dim: int = Field(128, ge=1)
    box_resolution: int = Field(7, ge=1)
    cascade_ious: tuple[float, float, float] = (0.5, 0.6, 0.7)
    mask_convs: int = Field(1, ge=0)
    mask_dim: int = Field(64, ge=1)
    mask_resolution: int = Field(14, ge=1)
    score_threshold: float = Field(0.05, ge=0, lt=1)
    nms: float = Field(0.5, gt=0, lt=1)
    detections: int = Field(MAX_DETECTIONS[-1], ge=1)

    @model_validator(mode="after")
    def _fits(self) -> ModelConfig:
        # detectron2's basic block has a shortcut of its own only where the number of channels changes.
        if any(before == after for before, after in itertools.pairwise(self.stages)):
            raise ValueError(f"each stage must have other channels than the one before, got {self.stages}")
        if len({len(sizes) for sizes in self.anchor_sizes}) != 1:
            raise ValueError(f"every level must have as many anchor sizes as the others, got {self.anchor_sizes}")
        return self


PRESETS: dict[str, ModelConfig] = {
    # For processors: a half-width ResNet-18, one-convolution heads, few regions in training, every cell at test time.
    "tiny": ModelConfig(),
}


def preset(name: str) -> ModelConfig:
    """The network of that name.

    Raises:
        InputError: no such preset.
    """
    if name not in PRESETS:
        raise InputError(f"unknown preset {name!r}: expected one of {', '.join(PRESETS)}")
    return PRESETS[name]


class TrainConfig(Frozen):
    """What pretrain and finetune share.

    Attributes:
        data: the source, as typed for `--data`.
        out: folder of the results.
        epochs: an epoch sees every image as often as crops cover it (ceil(H·W / crop²)).
        iterations: overrides `epochs` when given.
        lr: of AdamW at its highest: rises over `warmup` iterations, then falls along a cosine to 1 % of it.
        clip: norm to which longer gradients are shortened.
        workers: processes that prepare crops; they change nothing in the result.
    """

    data: str
    out: Path
    root: Path | None = None
    seed: int = Field(0, ge=0)
    epochs: int = Field(15, ge=1)
    iterations: int | None = Field(None, ge=1)
    batch: int = Field(2, ge=1)
    crop: int = Field(256, ge=32)
    lr: float = Field(1e-3, gt=0)
    warmup: int = Field(50, ge=0)
    weight_decay: float = Field(0.05, ge=0)
    clip: float = Field(5.0, gt=0)
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


def digest(content: dict[str, Any]) -> str:
    """16 hex digits over a JSON-able mapping; the order of its keys does not count."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()[:16]

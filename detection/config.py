"""Everything that can be set: network presets, and one frozen model per command, saved as config.json beside results."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from detection.livecell import MAX_DETECTIONS, PIXEL_MEAN, PIXEL_STD
from policy_search.cells.errors import InputError

Precision = Literal["fp32", "bf16"]


class Frozen(BaseModel):
    """A value: nothing can be changed or misspelt."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModelConfig(Frozen):
    """A Cascade Mask R-CNN, from the stem to the number of detections. Sizes are pixels of the input image.

    Attributes:
        channels: of the input; images are turned grey (1) or repeated (3) to fit.
        stem: channels after the stem; `stages` after each residual stage (strides 4, 8, 16, 32).
        blocks: basic blocks a stage.
        anchor_sizes: square roots of anchor areas, a tuple per RPN level (p2, p3, p4, p5).
        proposals_train, proposals_test: proposals left after the RPN's non-maximum suppression.
        rois: regions an image that train the box heads, a quarter of them cells; those train the mask head.
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
    anchor_sizes: tuple[tuple[float, ...], ...] = ((8, 16), (32,), (64,), (128,))
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    rpn_batch: int = Field(128, ge=2)
    candidates_train: int = Field(300, ge=1)
    candidates_test: int = Field(1500, ge=1)
    proposals_train: int = Field(300, ge=1)
    proposals_test: int = Field(2000, ge=1)
    rois: int = Field(64, ge=4)
    roi_scale: float = Field(56.0, gt=0)
    box_convs: int = Field(1, ge=0)
    box_conv_dim: int = 64
    box_fc_dim: int = 128
    box_resolution: int = 7
    cascade_ious: tuple[float, float, float] = (0.5, 0.6, 0.7)
    mask_convs: int = Field(1, ge=0)
    mask_dim: int = 64
    mask_resolution: int = 14
    score_threshold: float = Field(0.05, ge=0, lt=1)
    nms: float = Field(0.5, gt=0, lt=1)
    detections: int = Field(MAX_DETECTIONS[-1], ge=1)


PRESETS: dict[str, ModelConfig] = {
    # For processors: a half-width ResNet-18, one-convolution heads, few regions in training, all cells at test time.
    "tiny": ModelConfig(),
}

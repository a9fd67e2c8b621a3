"""What a network is made of: every size and threshold of a Cascade Mask R-CNN, as one frozen value."""

from __future__ import annotations

import itertools
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from detection.livecell import MAX_DETECTIONS, PIXEL_MEAN, PIXEL_STD


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

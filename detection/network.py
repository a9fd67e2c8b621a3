"""What a network is made of: every size and threshold of a Cascade Mask R-CNN, as one frozen value."""

from __future__ import annotations

import itertools
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from detection.livecell import MAX_DETECTIONS, PIXEL_MEAN, PIXEL_STD

Level = Literal["p2", "p3", "p4", "p5", "p6"]
# "SyncBN" is batch normalisation whose statistics span all processes; with one process, or on CPUs, it is plain "BN".
# The names of the weights are the same.
Norm = Literal["BN", "SyncBN", "GN"]


class Frozen(BaseModel):
    """A value: nothing in it can be changed or misspelt."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModelConfig(Frozen):
    """A Cascade Mask R-CNN, from the stem to the number of detections. Sizes are pixels of the input image.

    The defaults are the `tiny` preset as it was first published here; weights files written before a field existed
    rely on them.

    Attributes:
        channels: of the input; images are turned grey (1) or grey is repeated (3) to fit.
        block: `basic` (two 3x3 convolutions), `bottleneck` (ResNet-50 and deeper; the stride is in the 3x3
            convolution) or `resnest` (bottleneck with split attention, deep stem, average pooling where others
            stride).
        stem: channels after the stem; the first two convolutions of `resnest`'s deep stem have half of them.
        stages, blocks: channels after, and number of blocks in, the stages at strides 4, 8, 16, 32.
        expansion: channels of a bottleneck's output over those of its 3x3 convolution.
        radix: `resnest` only: splits that the attention weighs against each other (1: a plain gate).
        cardinality: `resnest` only: groups of the 3x3 convolution, times `radix`.
        deformable: `resnest` only: in which stages the 3x3 convolution is a modulated deformable one.
        deform_groups: groups of channels that share one field of offsets.
        norm, fpn_norm, box_norm, mask_norm: normalisation in the bottom-up network, the feature pyramid and the
            convolutions of the heads. None: those convolutions have biases instead.
        fpn: channels of the feature pyramid.
        anchor_levels: pyramid levels of the region proposal network; one may stand twice, with other anchors.
        anchor_sizes: square roots of anchor areas, one tuple per level, all of one length because the RPN's head is
            shared.
        anchor_offset: centre of the first anchor, in strides from the image's corner.
        candidates_train, candidates_test: best-scored anchors a level that go into non-maximum suppression.
        proposals_train, proposals_test: proposals an image that come out of it.
        rois: regions an image that train the box heads; a quarter of them hold a cell, and those train the mask head.
        roi_levels: pyramid levels that regions are pooled from.
        roi_scale, roi_level: a box of side `roi_scale` is pooled from p`roi_level`, one of half the side a level below.
        roi_samples: bilinear samples a bin and axis in region pooling; 0: as many as the bin has pixels.
        nms: overlap above which the lower-scored of two detections goes; cells overlap little.
        test_shortest: shortest edge to which images are resized at test time, unless the longest would exceed
            `test_longest`; detections come back in the pixels of the original. 0: images as they are.
    """

    channels: Literal[1, 3] = 1
    pixel_mean: float = PIXEL_MEAN
    pixel_std: float = Field(PIXEL_STD, gt=0)
    block: Literal["basic", "bottleneck", "resnest"] = "basic"
    stem: int = Field(32, ge=4, multiple_of=2)
    stages: tuple[int, int, int, int] = (32, 64, 128, 256)
    blocks: tuple[int, int, int, int] = (2, 2, 2, 2)
    expansion: int = Field(4, ge=1)
    radix: int = Field(1, ge=1)
    cardinality: int = Field(1, ge=1)
    deformable: tuple[bool, bool, bool, bool] = (False, False, False, False)
    deform_groups: int = Field(1, ge=1)
    norm: Norm = "BN"
    fpn: int = Field(64, ge=4)
    fpn_norm: Norm | None = None
    anchor_levels: tuple[Level, ...] = ("p2", "p3", "p4", "p5")
    anchor_sizes: tuple[tuple[float, ...], ...] = ((12,), (24,), (48,), (96,))
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    anchor_offset: float = Field(0.5, ge=0, lt=1)
    rpn_batch: int = Field(128, ge=2)
    candidates_train: int = Field(300, ge=1)
    candidates_test: int = Field(2000, ge=1)
    proposals_train: int = Field(300, ge=1)
    proposals_test: int = Field(2000, ge=1)
    rois: int = Field(64, ge=4)
    roi_levels: tuple[Literal["p2", "p3", "p4", "p5"], ...] = ("p2", "p3", "p4")
    roi_scale: float = Field(56.0, gt=0)
    roi_level: int = Field(3, ge=2, le=5)
    roi_samples: int = Field(1, ge=0)
    box_convs: int = Field(1, ge=0)
    box_conv_dim: int = Field(64, ge=1)
    box_norm: Norm | None = None
    box_fc_dim: int = Field(128, ge=1)
    box_resolution: int = Field(7, ge=1)
    cascade_ious: tuple[float, float, float] = (0.5, 0.6, 0.7)
    mask_convs: int = Field(1, ge=0)
    mask_dim: int = Field(64, ge=1)
    mask_norm: Norm | None = None
    mask_resolution: int = Field(14, ge=1)
    score_threshold: float = Field(0.05, ge=0, lt=1)
    nms: float = Field(0.5, gt=0, lt=1)
    detections: int = Field(MAX_DETECTIONS[-1], ge=1)
    test_shortest: int = Field(0, ge=0)
    test_longest: int = Field(1333, ge=1)

    @model_validator(mode="after")
    def _bottom_up_fits(self) -> ModelConfig:
        # detectron2's blocks have a shortcut of their own only where the number of channels changes.
        if any(before == after for before, after in itertools.pairwise(self.stages)):
            raise ValueError(f"each stage must have other channels than the one before, got {self.stages}")
        if self.block == "basic":
            widths = self.stages
        else:
            if any(width % self.expansion for width in self.stages):
                raise ValueError(f"stages must be multiples of expansion {self.expansion}, got {self.stages}")
            widths = tuple(width // self.expansion for width in self.stages)
        if self.block != "resnest" and (self.radix, self.cardinality, any(self.deformable)) != (1, 1, False):
            raise ValueError(f"radix, cardinality and deformable need block resnest, got block {self.block}")
        if self.block == "resnest" and any(width % (self.radix * self.cardinality) for width in widths):
            raise ValueError(f"3x3 convolutions of {widths} channels cannot be split by radix times cardinality")
        if any(width % self.deform_groups for width, on in zip(widths, self.deformable, strict=True) if on):
            raise ValueError(f"3x3 convolutions of {widths} channels cannot be split by deform_groups")
        return self

    @model_validator(mode="after")
    def _levels_fit(self) -> ModelConfig:
        if len(self.anchor_levels) != len(self.anchor_sizes):
            raise ValueError(f"{len(self.anchor_levels)} anchor_levels have {len(self.anchor_sizes)} anchor_sizes")
        if len({len(sizes) for sizes in self.anchor_sizes}) != 1:
            raise ValueError(f"every level must have as many anchor sizes as the others, got {self.anchor_sizes}")
        # detectron2's pooler counts levels from the first to the last.
        if self.roi_levels != ("p2", "p3", "p4", "p5")[: len(self.roi_levels)] or not self.roi_levels:
            raise ValueError(f"roi_levels must be p2, p3, … without a gap, got {self.roi_levels}")
        return self

"""Cascade Mask R-CNN, put together from detectron2's parts by plain constructor calls (no yacs, no model zoo)."""

from __future__ import annotations

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.backbone import FPN, BasicStem, ResNet
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.modeling.backbone.resnet import BasicBlock
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.proposal_generator.rpn import StandardRPNHead
from detectron2.modeling.roi_heads import CascadeROIHeads, FastRCNNConvFCHead, FastRCNNOutputLayers
from detectron2.modeling.roi_heads.mask_head import MaskRCNNConvUpsampleHead
from torch import nn

from detection.config import ModelConfig

LEVELS = ("p2", "p3", "p4", "p5")
STRIDES = (4, 8, 16, 32)
# Box regression weights of the three cascade stages (Cascade R-CNN, section 4.2).
STAGE_WEIGHTS = ((10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0), (30.0, 30.0, 15.0, 15.0))


def build_model(config: ModelConfig, generator_seed: int = 0) -> GeneralizedRCNN:
    """A model with fresh weights, in training mode, on the CPU. Equal seeds give equal weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator_seed)
        return GeneralizedRCNN(
            backbone=_backbone(config),
            proposal_generator=_proposals(config),
            roi_heads=_heads(config),
            pixel_mean=[config.pixel_mean] * config.channels,
            pixel_std=[config.pixel_std] * config.channels,
            input_format="L" if config.channels == 1 else "RGB",
        )


def _backbone(config: ModelConfig) -> FPN:
    stages = []
    channels = config.stem
    for index, (width, blocks) in enumerate(zip(config.stages, config.blocks, strict=True)):
        stages.append(
            ResNet.make_stage(
                BasicBlock,
                blocks,
                stride_per_block=[1 if index == 0 else 2] + [1] * (blocks - 1),
                in_channels=channels,
                out_channels=width,
                norm=config.norm,
            )
        )
        channels = width
    bottom_up = ResNet(
        BasicStem(config.channels, config.stem, config.norm), stages, out_features=["res2", "res3", "res4", "res5"]
    )
    return FPN(bottom_up, ["res2", "res3", "res4", "res5"], config.fpn, top_block=LastLevelMaxPool())


def _proposals(config: ModelConfig) -> RPN:
    levels = LEVELS[: len(config.anchor_sizes)]
    anchors = DefaultAnchorGenerator(
        sizes=[list(sizes) for sizes in config.anchor_sizes],
        aspect_ratios=[list(config.anchor_ratios)],
        strides=list(STRIDES[: len(levels)]),
        offset=0.5,
    )
    return RPN(
        in_features=list(levels),
        head=StandardRPNHead(in_channels=config.fpn, num_anchors=anchors.num_anchors[0]),
        anchor_generator=anchors,
        anchor_matcher=Matcher([0.3, 0.7], [0, -1, 1], allow_low_quality_matches=True),
        box2box_transform=Box2BoxTransform(weights=(1.0, 1.0, 1.0, 1.0)),
        batch_size_per_image=config.rpn_batch,
        positive_fraction=0.5,
        pre_nms_topk=(config.candidates_train, config.candidates_test),
        post_nms_topk=(config.proposals_train, config.proposals_test),
        nms_thresh=0.7,
    )


def _pooler(config: ModelConfig, resolution: int) -> ROIPooler:
    # A box of `roi_scale` pixels is pooled from p4: ImageNet's 224 would leave every cell to p2 alone.
    return ROIPooler(
        resolution,
        [1 / stride for stride in STRIDES[:3]],
        sampling_ratio=2,
        pooler_type="ROIAlignV2",
        canonical_box_size=config.roi_scale * 2,
        canonical_level=4,
    )


def _heads(config: ModelConfig) -> CascadeROIHeads:
    box_shape = ShapeSpec(channels=config.fpn, height=config.box_resolution, width=config.box_resolution)
    box_heads: list[nn.Module] = []
    predictors: list[nn.Module] = []
    for weights in STAGE_WEIGHTS:
        head = FastRCNNConvFCHead(
            box_shape, conv_dims=[config.box_conv_dim] * config.box_convs, fc_dims=[config.box_fc_dim]
        )
        box_heads.append(head)
        predictors.append(
            FastRCNNOutputLayers(
                head.output_shape,
                box2box_transform=Box2BoxTransform(weights=weights),
                num_classes=1,
                test_score_thresh=config.score_threshold,
                test_nms_thresh=config.nms,
                test_topk_per_image=config.detections,
                cls_agnostic_bbox_reg=True,
            )
        )
    mask_shape = ShapeSpec(channels=config.fpn, height=config.mask_resolution, width=config.mask_resolution)
    return CascadeROIHeads(
        num_classes=1,
        batch_size_per_image=config.rois,
        positive_fraction=0.25,
        proposal_append_gt=True,
        box_in_features=list(LEVELS[:3]),
        box_pooler=_pooler(config, config.box_resolution),
        box_heads=box_heads,
        box_predictors=predictors,
        proposal_matchers=[Matcher([iou], [0, 1], allow_low_quality_matches=False) for iou in config.cascade_ious],
        mask_in_features=list(LEVELS[:3]),
        mask_pooler=_pooler(config, config.mask_resolution),
        mask_head=MaskRCNNConvUpsampleHead(
            mask_shape, num_classes=1, conv_dims=[config.mask_dim] * (config.mask_convs + 1)
        ),
    )

"""Cascade Mask R-CNN, put together from detectron2's parts by plain constructor calls (no yacs, no model zoo)."""

from __future__ import annotations

import logging
import warnings

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
from detectron2.modeling.roi_heads import FastRCNNConvFCHead, FastRCNNOutputLayers
from detectron2.modeling.roi_heads.mask_head import MaskRCNNConvUpsampleHead
from torch import nn

from detection.heads import CellHeads
from detection.network import ModelConfig

# detectron2 calls torch in ways that newer versions comment on; nobody who runs `detect` can act on that.
logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", message=".*torch.meshgrid.*", category=UserWarning)

LEVELS = ("p2", "p3", "p4", "p5")
STRIDES = (4, 8, 16, 32)
POOLED = 3  # regions are pooled from p2, p3 and p4
# Box regression weights of the three cascade stages (Cascade R-CNN, section 4.2).
STAGE_WEIGHTS = ((10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0), (30.0, 30.0, 15.0, 15.0))


def build_model(config: ModelConfig, seed: int = 0) -> GeneralizedRCNN:
    """A model with fresh weights, in training mode, on the CPU. Equal seeds give equal weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GeneralizedRCNN(
            backbone=_backbone(config),
            proposal_generator=_proposals(config),
            roi_heads=_heads(config),
            pixel_mean=[config.pixel_mean] * config.channels,
            pixel_std=[config.pixel_std] * config.channels,
            input_format="RGB",
        )
    return model.to(memory_format=torch.channels_last).train()


def freeze_bottom_up(model: GeneralizedRCNN) -> None:
    """Take the bottom-up network out of training; the pyramid on top of it stays trainable (FREEZE_AT = 5)."""
    model.backbone.bottom_up.requires_grad_(False)


def training_mode(model: GeneralizedRCNN) -> None:
    """Like `model.train()`, but a frozen bottom-up network keeps the statistics of its normalisation, too."""
    model.train()
    bottom_up = model.backbone.bottom_up
    if not any(parameter.requires_grad for parameter in bottom_up.parameters()):
        bottom_up.eval()


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
    names = ["res2", "res3", "res4", "res5"]
    bottom_up = ResNet(BasicStem(config.channels, config.stem, config.norm), stages, out_features=names)
    return FPN(bottom_up, names, config.fpn, top_block=LastLevelMaxPool())


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
    # ImageNet's canonical size (224 pixels on p4) would leave every cell to p2 alone.
    return ROIPooler(
        resolution,
        [1 / stride for stride in STRIDES[:POOLED]],
        sampling_ratio=config.roi_samples,
        pooler_type="ROIAlignV2",
        canonical_box_size=config.roi_scale,
        canonical_level=3,
    )


def _heads(config: ModelConfig) -> CellHeads:
    box_shape = ShapeSpec(channels=config.fpn, height=config.box_resolution, width=config.box_resolution)
    mask_shape = ShapeSpec(channels=config.fpn, height=config.mask_resolution, width=config.mask_resolution)
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
    return CellHeads(
        num_classes=1,
        batch_size_per_image=config.rois,
        positive_fraction=0.25,
        proposal_append_gt=True,
        box_in_features=list(LEVELS[:POOLED]),
        box_pooler=_pooler(config, config.box_resolution),
        box_heads=box_heads,
        box_predictors=predictors,
        proposal_matchers=[Matcher([iou], [0, 1], allow_low_quality_matches=False) for iou in config.cascade_ious],
        mask_in_features=list(LEVELS[:POOLED]),
        mask_pooler=_pooler(config, config.mask_resolution),
        mask_head=MaskRCNNConvUpsampleHead(
            mask_shape, num_classes=1, conv_dims=[config.mask_dim] * (config.mask_convs + 1)
        ),
    )

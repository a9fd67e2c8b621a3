"""The bottom-up network and the feature pyramid on top of it."""

from __future__ import annotations

from typing import Any

from detectron2.modeling.backbone import FPN, BasicStem, ResNet
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.modeling.backbone.resnet import BasicBlock, BottleneckBlock

from detection.network import ModelConfig
from detection.norm import norm_of
from detection.resnest import DeepStem, ResNeStBlock

STAGES = ["res2", "res3", "res4", "res5"]
BLOCKS: dict[str, Any] = {"basic": BasicBlock, "bottleneck": BottleneckBlock, "resnest": ResNeStBlock}


def build_backbone(config: ModelConfig) -> FPN:
    """(B, channels, H, W), H and W multiples of 32 → p2 … p6, (B, fpn, H/4, W/4) … (B, fpn, H/64, W/64)."""
    norm = norm_of(config.norm)
    stages = []
    channels = config.stem
    for index, width in enumerate(config.stages):
        blocks = config.blocks[index]
        stages.append(
            ResNet.make_stage(
                BLOCKS[config.block],
                blocks,
                stride_per_block=[1 if index == 0 else 2] + [1] * (blocks - 1),
                in_channels=channels,
                out_channels=width,
                norm=norm,
                **_block_options(config, index),
            )
        )
        channels = width
    stem = DeepStem if config.block == "resnest" else BasicStem
    bottom_up = ResNet(stem(config.channels, config.stem, norm), stages, out_features=STAGES)
    return FPN(bottom_up, STAGES, config.fpn, norm=norm_of(config.fpn_norm), top_block=LastLevelMaxPool())


def _block_options(config: ModelConfig, stage: int) -> dict[str, Any]:
    if config.block == "basic":
        return {}
    options = {"bottleneck_channels": config.stages[stage] // config.expansion}
    if config.block == "resnest":
        options["radix"] = config.radix
        options["cardinality"] = config.cardinality
        options["deform_groups"] = config.deform_groups if config.deformable[stage] else 0
    return options

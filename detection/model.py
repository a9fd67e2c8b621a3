"""Cascade Mask R-CNN, put together from detectron2's parts by plain constructor calls (no yacs, no model zoo)."""

from __future__ import annotations

import logging
import warnings
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.layers import ShapeSpec
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.proposal_generator.rpn import StandardRPNHead
from detectron2.modeling.roi_heads import FastRCNNConvFCHead, FastRCNNOutputLayers
from detectron2.modeling.roi_heads.mask_head import MaskRCNNConvUpsampleHead
from detectron2.structures import Instances
from torch import nn

from detection.backbone import build_backbone
from detection.heads import CellHeads
from detection.network import ModelConfig
from detection.norm import norm_of
from detection.proposals import CellRPN

# detectron2 calls torch in ways that newer versions comment on; nobody who runs `detect` can act on that.
logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", message=".*torch.meshgrid.*", category=UserWarning)

STRIDES = {"p2": 4, "p3": 8, "p4": 16, "p5": 32, "p6": 64}
# Box regression weights of the three cascade stages (Cascade R-CNN, section 4.2).
STAGE_WEIGHTS = ((10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0), (30.0, 30.0, 15.0, 15.0))


def build_model(config: ModelConfig, seed: int = 0) -> GeneralizedRCNN:
    """A model with fresh weights, in training mode, on the CPU. Equal seeds give equal weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CellRCNN(
            backbone=build_backbone(config),
            proposal_generator=_proposals(config),
            roi_heads=_heads(config),
            pixel_mean=[config.pixel_mean] * config.channels,
            pixel_std=[config.pixel_std] * config.channels,
            # Used by detectron2's drawing alone. The published models were trained on BGR; the three planes of a grey
            # image are equal, so that the order has no effect on them.
            input_format="RGB",
        )
    model.test_shortest, model.test_longest = config.test_shortest, config.test_longest
    return model.to(memory_format=torch.channels_last).train()


class Entry(NamedTuple):
    """One tensor of a model's state."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    kind: Literal["parameter", "buffer"]


def state_entries(config: ModelConfig) -> list[Entry]:
    """Every entry of the state of `build_model(config)`, in its order; no weight is allocated."""
    with torch.device("meta"):
        model = build_model(config)
    parameters = {name for name, _ in model.named_parameters()}
    return [
        Entry(
            name, tuple(t.shape), str(t.dtype).removeprefix("torch."), "parameter" if name in parameters else "buffer"
        )
        for name, t in model.state_dict().items()
    ]


def freeze_bottom_up(model: GeneralizedRCNN) -> None:
    """Take the bottom-up network out of training; the pyramid on top of it stays trainable (FREEZE_AT = 5)."""
    model.backbone.bottom_up.requires_grad_(False)


def training_mode(model: GeneralizedRCNN) -> None:
    """Like `model.train()`, but a frozen bottom-up network keeps the statistics of its normalisation, too."""
    model.train()
    bottom_up = model.backbone.bottom_up
    if not any(parameter.requires_grad for parameter in bottom_up.parameters()):
        bottom_up.eval()


def constants(config: ModelConfig) -> dict[str, torch.Tensor]:
    """What a model computes from its configuration and older detectron2 kept in its files: anchors around the origin
    (A, 4), XYXY, and the pixels' mean and deviation (channels, 1, 1)."""
    anchors = _anchors(config).cell_anchors
    found = {f"proposal_generator.anchor_generator.cell_anchors.{n}": boxes for n, boxes in enumerate(anchors)}
    for name in ("pixel_mean", "pixel_std"):
        found[name] = torch.full((config.channels, 1, 1), getattr(config, name))
    return found


class CellRCNN(GeneralizedRCNN):
    """A model that resizes images at test time as its configuration says and answers in the pixels of the original."""

    test_shortest: int = 0
    test_longest: int = 1333

    def inference(
        self,
        batched_inputs: list[dict[str, Any]],
        detected_instances: list[Instances] | None = None,
        do_postprocess: bool = True,
    ) -> list[Any]:
        """As detectron2's; without `do_postprocess`, boxes are in pixels of `image` and masks still (N, 1, M, M)."""
        if not self.test_shortest or detected_instances is not None:
            return super().inference(batched_inputs, detected_instances, do_postprocess)
        sizes = [tuple(sample["image"].shape[-2:]) for sample in batched_inputs]
        resized = [
            {"height": height, "width": width, **sample, "image": self._resize(sample["image"])}
            for sample, (height, width) in zip(batched_inputs, sizes, strict=True)
        ]
        found = super().inference(resized, None, do_postprocess)
        return found if do_postprocess else [_in_pixels_of(*pair) for pair in zip(found, sizes, strict=True)]

    def _resize(self, image: torch.Tensor) -> torch.Tensor:
        """(C, H, W) of any dtype → float32, sized as detectron2's own predictor does."""
        height, width = image.shape[-2:]
        new = ResizeShortestEdge.get_output_shape(height, width, self.test_shortest, self.test_longest)
        # Antialiased like Pillow, which resizes in detectron2's own predictor.
        return F.interpolate(image[None].float(), new, mode="bilinear", antialias=True)[0]


def _in_pixels_of(found: Instances, size: tuple[int, int]) -> Instances:
    height, width = size
    scaled = Instances(size, **found.get_fields())
    scaled.pred_boxes.scale(width / found.image_size[1], height / found.image_size[0])
    scaled.pred_boxes.clip(size)
    return scaled


def _anchors(config: ModelConfig) -> DefaultAnchorGenerator:
    return DefaultAnchorGenerator(
        sizes=[list(sizes) for sizes in config.anchor_sizes],
        aspect_ratios=[list(config.anchor_ratios)],
        strides=[STRIDES[level] for level in config.anchor_levels],
        offset=config.anchor_offset,
    )


def _proposals(config: ModelConfig) -> CellRPN:
    anchors = _anchors(config)
    return CellRPN(
        in_features=list(config.anchor_levels),
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
    return ROIPooler(
        resolution,
        [1 / STRIDES[level] for level in config.roi_levels],
        sampling_ratio=config.roi_samples,
        pooler_type="ROIAlignV2",
        canonical_box_size=config.roi_scale,
        canonical_level=config.roi_level,
    )


def _heads(config: ModelConfig) -> CellHeads:
    box_shape = ShapeSpec(channels=config.fpn, height=config.box_resolution, width=config.box_resolution)
    mask_shape = ShapeSpec(channels=config.fpn, height=config.mask_resolution, width=config.mask_resolution)
    box_heads: list[nn.Module] = []
    predictors: list[nn.Module] = []
    for weights in STAGE_WEIGHTS:
        head = FastRCNNConvFCHead(
            box_shape,
            conv_dims=[config.box_conv_dim] * config.box_convs,
            fc_dims=[config.box_fc_dim],
            conv_norm=norm_of(config.box_norm),
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
        box_in_features=list(config.roi_levels),
        box_pooler=_pooler(config, config.box_resolution),
        box_heads=box_heads,
        box_predictors=predictors,
        proposal_matchers=[Matcher([iou], [0, 1], allow_low_quality_matches=False) for iou in config.cascade_ious],
        mask_in_features=list(config.roi_levels),
        mask_pooler=_pooler(config, config.mask_resolution),
        mask_head=MaskRCNNConvUpsampleHead(
            mask_shape,
            num_classes=1,
            conv_dims=[config.mask_dim] * (config.mask_convs + 1),
            conv_norm=norm_of(config.mask_norm),
        ),
    )

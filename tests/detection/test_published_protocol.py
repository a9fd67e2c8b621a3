"""LIVECell's heads against detectron2's own builder, given the values of the published configuration file."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("detectron2", reason="detectron2 is not installed: make setup")

from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model as build_stock

from detection.model import build_model
from detection.presets import preset

# Widths only; every other value is the preset's.
NARROW = {"stem": 8, "stages": (32, 64, 128, 256), "fpn": 32, "box_conv_dim": 16,
          "box_fc_dim": 16, "mask_dim": 16}  # fmt: skip
FEW = {"proposals_test": 60, "detections": 40}


def stock_config(proposals: int, detections: int) -> CfgNode:
    """What model/anchor_based/a172_config.yaml says, but a ResNet-50 of the narrow widths, on one process."""
    cfg = get_cfg()
    model = cfg.MODEL
    cfg.MODEL.DEVICE = "cpu"
    model.MASK_ON = True
    model.BACKBONE.NAME, model.BACKBONE.FREEZE_AT = "build_resnet_fpn_backbone", 0
    model.RESNETS.OUT_FEATURES = model.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    model.RESNETS.DEPTH, model.RESNETS.STRIDE_IN_1X1, model.RESNETS.NORM = 50, False, "BN"
    model.RESNETS.STEM_OUT_CHANNELS, model.RESNETS.WIDTH_PER_GROUP, model.RESNETS.RES2_OUT_CHANNELS = 8, 8, 32
    model.FPN.NORM, model.FPN.OUT_CHANNELS = "BN", 32
    model.ANCHOR_GENERATOR.SIZES = [[4], [9], [17], [31], [64], [127]]
    model.ANCHOR_GENERATOR.ASPECT_RATIOS = [[0.25, 0.5, 1.0, 2.0, 4.0]]
    heads = model.ROI_HEADS
    heads.NUM_CLASSES, heads.BATCH_SIZE_PER_IMAGE, heads.NAME = 1, 512, "CascadeROIHeads"
    heads.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    box = model.ROI_BOX_HEAD
    box.NAME, box.NUM_CONV, box.NUM_FC, box.NORM = "FastRCNNConvFCHead", 4, 1, "BN"
    box.POOLER_RESOLUTION, box.CLS_AGNOSTIC_BBOX_REG, box.CONV_DIM, box.FC_DIM = 7, True, 16, 16
    mask = model.ROI_MASK_HEAD
    mask.NAME, mask.NUM_CONV, mask.NORM, mask.CONV_DIM, mask.POOLER_RESOLUTION = (
        "MaskRCNNConvUpsampleHead", 8, "BN", 16, 14,
    )  # fmt: skip
    model.RPN.IN_FEATURES, model.RPN.BATCH_SIZE_PER_IMAGE = ["p2", "p2", "p3", "p4", "p5", "p6"], 256
    model.RPN.POST_NMS_TOPK_TRAIN, model.RPN.POST_NMS_TOPK_TEST = 3000, proposals
    model.RPN.PRE_NMS_TOPK_TRAIN, model.RPN.PRE_NMS_TOPK_TEST = 12000, 6000
    model.PIXEL_MEAN, model.PIXEL_STD = [128.0] * 3, [11.578] * 3
    cfg.TEST.DETECTIONS_PER_IMAGE = detections
    return cfg


@pytest.fixture(scope="module")
def pair():
    """Ours and detectron2's, with equal weights."""
    cfg = stock_config(FEW["proposals_test"], FEW["detections"])
    ours = build_model(preset("r50").network.model_copy(update={**NARROW, **FEW, "test_shortest": 0}), 3)
    stock = build_stock(cfg)
    assert list(stock.state_dict()) == list(ours.state_dict())
    stock.load_state_dict(ours.state_dict())
    return ours.eval(), stock.eval()


def test_detections_equal_detectron2s(pair):
    image = torch.randint(90, 160, (3, 64, 96), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    with torch.inference_mode():
        (found,), (expected,) = (model.inference([{"image": image}], do_postprocess=False) for model in pair)
    assert len(expected) > 10
    torch.testing.assert_close(found.pred_boxes.tensor, expected.pred_boxes.tensor, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(found.scores, expected.scores, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.pred_masks, expected.pred_masks, rtol=1e-4, atol=1e-5)


def test_anchors_and_pooled_levels_equal_detectron2s(pair):
    sides = (16, 16, 8, 4, 2, 1)
    features = [torch.zeros(1, 1, side, side) for side in sides]
    ours, stock = (model.proposal_generator.anchor_generator(features) for model in pair)
    for found, expected in zip(ours, stock, strict=True):
        assert torch.equal(found.tensor, expected.tensor)
    for name in ("box_pooler", "mask_pooler"):
        found, expected = (getattr(model.roi_heads, name) for model in pair)
        for value in ("canonical_box_size", "canonical_level", "min_level", "max_level", "output_size"):
            assert getattr(found, value) == getattr(expected, value), value
        for one, other in zip(found.level_poolers, expected.level_poolers, strict=True):
            assert repr(one) == repr(other)


def test_training_values_equal_detectron2s(pair):
    ours, stock = (model.proposal_generator for model in pair)
    for name in ("in_features", "batch_size_per_image", "positive_fraction", "pre_nms_topk", "post_nms_topk",
                 "nms_thresh", "min_box_size", "loss_weight", "smooth_l1_beta", "box_reg_loss_type"):  # fmt: skip
        found, expected = getattr(ours, name), getattr(stock, name)
        assert found == expected, name
    assert vars(ours.anchor_matcher) == vars(stock.anchor_matcher)
    ours, stock = (model.roi_heads for model in pair)
    for name in ("batch_size_per_image", "positive_fraction", "num_classes", "proposal_append_gt", "box_in_features",
                 "mask_in_features"):  # fmt: skip
        assert getattr(ours, name) == getattr(stock, name), name
    for found, expected in zip(ours.proposal_matchers, stock.proposal_matchers, strict=True):
        assert vars(found) == vars(expected)
    for found, expected in zip(ours.box_predictor, stock.box_predictor, strict=True):
        assert found.box2box_transform.weights == expected.box2box_transform.weights
        for loss in ("loss_cls", "loss_box_reg"):
            assert found.loss_weight.get(loss, 1.0) == expected.loss_weight.get(loss, 1.0), loss
        for name in ("test_score_thresh", "test_nms_thresh", "test_topk_per_image", "smooth_l1_beta"):
            assert getattr(found, name) == getattr(expected, name), name

"""Matching anchors in portions: equal to detectron2's matcher and losses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("detectron2", reason="detectron2 is not installed: make setup")

from detectron2.modeling.matcher import Matcher
from detectron2.modeling.proposal_generator import RPN
from detectron2.structures import Boxes, pairwise_iou
from detectron2.utils.events import EventStorage

from detection.dataset import Crops, TrainingSet
from detection.mapper import batches
from detection.matching import match_boxes
from detection.model import build_model
from tests.detection.culture import MICRO, culture


def some_boxes(count: int, seed: int, *, whole: bool = False) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    corner, size = rng.uniform(0, 90, (count, 2)), rng.uniform(1, 40, (count, 2))
    boxes = np.concatenate([corner, corner + size], axis=1)
    return torch.tensor(boxes.round() if whole else boxes, dtype=torch.float32)


@pytest.mark.parametrize("portion", [1, 50, 1000, 1 << 18])
@pytest.mark.parametrize("low_quality", [True, False])
@pytest.mark.parametrize("whole", [True, False], ids=["with ties", "without"])
def test_matches_are_those_of_detectron2(portion: int, low_quality: bool, whole: bool) -> None:
    truth, boxes = some_boxes(17, 1, whole=whole), some_boxes(403, 2, whole=whole)
    matcher = Matcher([0.3, 0.7], [0, -1, 1], allow_low_quality_matches=low_quality)
    expected = matcher(pairwise_iou(Boxes(truth), Boxes(boxes)))
    found = match_boxes(truth, boxes, [0.3, 0.7], [0, -1, 1], low_quality=low_quality, portion=portion)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
    assert set(expected[1].tolist()) == {-1, 0, 1}


def test_no_cell_and_empty_boxes() -> None:
    boxes = some_boxes(9, 0)
    for truth in (torch.zeros((0, 4)), torch.tensor([[5.0, 5, 5, 5], [200, 200, 210, 210]])):
        matcher = Matcher([0.3, 0.7], [0, -1, 1], allow_low_quality_matches=True)
        matches, labels = matcher(pairwise_iou(Boxes(truth), Boxes(boxes)))
        found = match_boxes(truth, boxes, [0.3, 0.7], [0, -1, 1], low_quality=True)
        assert torch.equal(found[0], matches)
        assert torch.equal(found[1], labels)


def test_losses_and_gradients_are_those_of_detectron2() -> None:
    batch = next(iter(batches(Crops(TrainingSet(culture(), None, 0, factor=1), 64, 0, 4), 1, 4)))

    def outcome(kind: type[RPN]) -> tuple[dict[str, float], list[torch.Tensor]]:
        model = build_model(MICRO, 0)
        model.proposal_generator.__class__ = kind
        torch.manual_seed(3)
        with EventStorage(0) as storage:
            losses = model(batch)
            numbers = {name: storage.latest()[name][0] for name in ("rpn/num_pos_anchors", "rpn/num_neg_anchors")}
        sum(losses.values()).backward()
        head = model.proposal_generator.rpn_head
        values = {name: float(value.detach()) for name, value in losses.items()}
        return {**values, **numbers}, [parameter.grad for parameter in head.parameters()]

    ours, theirs = outcome(type(build_model(MICRO, 0).proposal_generator)), outcome(RPN)
    assert type(build_model(MICRO, 0).proposal_generator) is not RPN
    assert ours[0] == pytest.approx(theirs[0], rel=1e-6)
    assert ours[0]["loss_rpn_loc"] > 0
    for mine, other in zip(ours[1], theirs[1], strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-7)

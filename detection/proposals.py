"""detectron2's region proposal network, with training steps that do not grow with anchors times cells."""

from __future__ import annotations

import torch
from detectron2.layers import cat
from detectron2.modeling.proposal_generator import RPN
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import get_event_storage
from torch.nn import functional as F

from detection.matching import match_boxes


class CellRPN(RPN):
    """An `RPN` with L1 regression; losses, labels and draws equal detectron2's bit for bit.

    Anchors are matched in portions, and regression targets are computed for the anchors that have one: with hundreds of
    cells and 180,000 anchors these two are a tenth of a training iteration in detectron2.
    """

    @torch.no_grad()
    def label_and_sample_anchors(
        self, anchors: list[Boxes], gt_instances: list[Instances]
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Per image: (R,) labels -1, 0, 1 of the R anchors, sampled, and (R, 4) the boxes they belong to."""
        every = Boxes.cat(anchors).tensor
        labels, boxes = [], []
        for instances in gt_instances:
            truth = instances.gt_boxes.tensor
            matcher = self.anchor_matcher
            matches, label = match_boxes(
                truth,
                every,
                # detectron2's matcher keeps its thresholds between two infinities.
                matcher.thresholds[1:-1],
                matcher.labels,
                low_quality=matcher.allow_low_quality_matches,
            )
            labels.append(self._subsample_labels(label))
            boxes.append(truth[matches] if len(truth) else torch.zeros_like(every))
        return labels, boxes

    def losses(
        self,
        anchors: list[Boxes],
        pred_objectness_logits: list[torch.Tensor],
        gt_labels: list[torch.Tensor],
        pred_anchor_deltas: list[torch.Tensor],
        gt_boxes: list[torch.Tensor],
    ) -> dict[str, torch.Tensor]:
        """`loss_rpn_cls` and `loss_rpn_loc`, float32 scalars; for shapes see detectron2's `RPN.losses`."""
        labels = torch.stack(gt_labels)  # (N, R)
        positive = labels == 1
        storage = get_event_storage()
        storage.put_scalar("rpn/num_pos_anchors", int(positive.sum()) / len(labels))
        storage.put_scalar("rpn/num_neg_anchors", int((labels == 0).sum()) / len(labels))

        image, anchor = torch.nonzero(positive, as_tuple=True)
        targets = self.box2box_transform.get_deltas(
            Boxes.cat(anchors).tensor[anchor], torch.stack(gt_boxes)[image, anchor]
        )
        predicted = cat(pred_anchor_deltas, dim=1)[image, anchor]
        sampled = labels >= 0
        logits = cat(pred_objectness_logits, dim=1)[sampled]
        normalizer = self.batch_size_per_image * len(labels)
        # In float32 whatever the network computed in: sums over hundreds of anchors.
        losses = {
            "loss_rpn_cls": F.binary_cross_entropy_with_logits(
                logits.float(), labels[sampled].float(), reduction="sum"
            ),
            "loss_rpn_loc": F.l1_loss(predicted.float(), targets, reduction="sum"),
        }
        return {name: value / normalizer * self.loss_weight.get(name, 1.0) for name, value in losses.items()}

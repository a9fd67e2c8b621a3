"""A model on unaugmented test images: full frames in, COCO detections with RLE masks out, scores per cell type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from detectron2.modeling import GeneralizedRCNN
from numpy.typing import NDArray

from detection.checkpoint import load_checkpoint
from detection.config import EvaluateConfig
from detection.mapper import to_channels
from detection.masks import paste
from detection.model import build_model
from detection.scores import score
from detection.store import Scores
from policy_search.cells import CellDataset, resolve
from policy_search.cells.dataset import coco_ground_truth
from policy_search.cells.errors import InputError
from policy_search.cells.files import require_writable_folder, write_json
from policy_search.cells.instances import Instance, encode_instance

Detected = tuple[list[Instance], list[float]]


def find_cells(model: GeneralizedRCNN, image: NDArray[np.uint8]) -> Detected:
    """Cells in one (H, W) or (H, W, 3) uint8 image, best first, with their scores. Ids count from 1.

    No mask ever covers more than its own box.
    """
    height, width = image.shape[:2]
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            (found,) = model.inference([{"image": to_channels(image, len(model.pixel_mean))}], do_postprocess=False)
    finally:
        model.train(was_training)
    boxes = found.pred_boxes.tensor.cpu().double().tolist()
    masks = found.pred_masks[:, 0].float().cpu().numpy()
    cells, scores = [], []
    for box, mask, value in zip(boxes, masks, found.scores.tolist(), strict=True):
        cell = paste(mask, tuple(box), height, width, len(cells) + 1)
        if cell is not None:
            cells.append(cell)
            scores.append(value)
    return cells, scores


def coco_results(detected: Detected, height: int, width: int, image_id: int) -> list[dict[str, Any]]:
    """The cells of one image as COCO results."""
    results = []
    for cell, value in zip(*detected, strict=True):
        rle = encode_instance(cell, height, width)
        segmentation = {"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")}
        results.append({"image_id": image_id, "category_id": 1, "segmentation": segmentation, "score": value})
    return results


def evaluate(
    model: GeneralizedRCNN, dataset: CellDataset, report: Callable[[str], None] = lambda _: None
) -> dict[str, Scores]:
    """Scores per cell type of `dataset`, in its order; unlabelled images are left out.

    Args:
        report: called with a sentence per cell type.
    """
    scores = {}
    for cell_type in dataset.cell_types:
        records = [r for r in dataset.of_type(cell_type) if r.annotated]
        if not records:
            continue
        report(f"testing on {cell_type}, {len(records)} image{'s' if len(records) > 1 else ''}")
        detections: list[dict[str, Any]] = []
        samples = []
        for number, record in enumerate(records, start=1):
            sample = dataset.sample(record)
            detections += coco_results(find_cells(model, sample.image), *sample.instances.shape, number)
            samples.append(sample)
        scores[cell_type] = score(coco_ground_truth(samples), detections)
    return scores


def run_evaluation(
    config: EvaluateConfig, report: Callable[[str], None] = lambda _: None
) -> tuple[dict[str, Scores], bool]:
    """The command `detect evaluate`: scores per cell type, and whether the images are synthetic.

    Raises:
        InputError: weights, data or folder cannot be used.
    """
    checkpoint = load_checkpoint(config.weights)
    dataset = resolve(config.data, config.split, config.root)
    if not any(record.annotated for record in dataset):
        raise InputError(f"{config.data} has no labelled {config.split} image to test on")
    out = require_writable_folder(config.out) if config.out else None
    model = build_model(checkpoint.config)
    model.load_state_dict(checkpoint.state)
    scores = evaluate(model.to(config.device), dataset, report)
    if out:
        write_json(out / "config.json", config.model_dump(mode="json"))
        rows = {cell_type: found.model_dump() for cell_type, found in scores.items()}
        facts = {"weights": checkpoint.content_hash, "fingerprint": dataset.fingerprint(), "made": checkpoint.made}
        write_json(out / "scores.json", {"scores": rows, "synthetic": dataset.synthetic, **facts})
    return scores, dataset.synthetic

"""`detect predict` on labelled images that no test reads: counts in tiles and in one piece, and F1 by score.

    python experiments/prediction.py --root LIVECELL_FOLDER --weights MODEL [--record]

MODEL is a `model.pth` such as `experiments/tiny_preset.py` leaves in `runs/tiny_preset/seed0`. Images: the train and
val splits under the root; F1 on val alone, which the model was not trained on.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from pycocotools import mask as coco_mask
from scipy.optimize import linear_sum_assignment
from steps import commit, environment, write_result

from detection.model import build_model
from detection.predict import predict_image
from detection.weights import weights_to_test
from policy_search.cells import InstanceMap, resolve
from policy_search.cells.instances import encode_instance
from policy_search.cells.sources import CellDataset

TILE = 384
SCORES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
SHOWN = (0.3, 0.5, 0.7)


def matched(found: list[Any], truth: InstanceMap) -> int:
    """One-to-one pairs of IoU 0.5 or more."""
    if not found or not len(truth):
        return 0
    rles = truth.rles()
    overlap = coco_mask.iou([encode_instance(cell, *truth.shape) for cell in found], rles, [0] * len(rles)) >= 0.5
    rows, columns = linear_sum_assignment(-overlap.astype(np.float64))
    return int(overlap[rows, columns].sum())


def images(split: str, root: Path) -> CellDataset:
    """The labelled images of a split."""
    return resolve("all", split, root, missing_ok=True).where(lambda record: record.annotated)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="LIVECell's folder")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--record", action="store_true", help="write experiments/results/prediction.md and .json")
    options = parser.parse_args()
    checkpoint = weights_to_test(options.weights, None)
    model = build_model(checkpoint.config)
    model.load_state_dict(checkpoint.state)
    rows = []
    for split in ("val", "train"):
        dataset = images(split, options.root)
        for record in dataset:
            whole, tiled = (predict_image(model, dataset.image(record), tile) for tile in (0, TILE))
            truth = dataset.instances(record)
            row: dict[str, Any] = {"image": record.id.rsplit("/", 1)[-1], "split": split, "cells": len(truth)}
            row["whole"], row["tiled"] = ([sum(s >= t for s in f.scores) for t in SCORES] for f in (whole, tiled))
            # Detections come best first.
            hits = [matched(list(whole.cells[:count]), truth) for count in row["whole"]]
            row["f1"] = [2 * hit / (count + len(truth)) for hit, count in zip(hits, row["whole"], strict=True)]
            rows.append(row)
            print(row, flush=True)
    if options.record:
        facts = {**environment(), "commit": commit(), "weights": checkpoint.content_hash, "rows": rows}
        write_result("prediction", report(facts), facts)


def report(facts: dict[str, Any]) -> str:
    """The result file."""
    val = [row for row in facts["rows"] if row["split"] == "val"]
    mean = np.mean([row["f1"] for row in val], axis=0)
    lines = [
        "# Counting cells: tiles against one piece, and the score that counts best",
        "",
        f"{facts['date']}, commit {facts['commit']}, torch {facts['versions']['torch']}, weights {facts['weights']}.",
        "Written by `python experiments/prediction.py --root LIVECELL_FOLDER --weights MODEL --record`.",
        "",
        "Real LIVECell images of 520 × 704; the model is seed 0 of [tiny_preset.md](tiny_preset.md), trained on those",
        f"marked train. Cells found in one piece / in tiles of {TILE}:",
        "",
        "| image | labelled | " + " | ".join(f"score ≥ {score}" for score in SHOWN) + " |",
        "|---|---:|" + "---:|" * len(SHOWN),
    ]
    for row in facts["rows"]:
        pairs = [(row["whole"][SCORES.index(s)], row["tiled"][SCORES.index(s)]) for s in SHOWN]
        counts = " | ".join(f"{a} / {b}" for a, b in pairs)
        lines.append(f"| {row['image']} ({row['split']}) | {row['cells']} | {counts} |")
    lines += [
        "",
        "F1 at IoU 0.5 on the validation images, by least score:",
        "",
        "| image | " + " | ".join(map(str, SCORES)) + " |",
        "|---|" + "---:|" * len(SCORES),
        *(f"| {row['image']} | " + " | ".join(f"{value:.3f}" for value in row["f1"]) + " |" for row in val),
        "| mean | " + " | ".join(f"{value:.3f}" for value in mean) + " |",
        "",
        f"Best: {SCORES[int(mean.argmax())]}.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()

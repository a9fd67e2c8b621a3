"""Image files of several depths and channels, from a COCO file to what the network and the detector see."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
import torch

pytest.importorskip("detectron2", reason="detectron2 is not installed: make setup")

from detection.dataset import Crops, TrainingSet
from detection.evaluate import find_cells
from detection.mapper import batches
from detection.model import build_model
from policy_search.augment import Augmenter, baseline
from policy_search.cells import resolve
from tests.detection.culture import MICRO, ellipses

CELLS = ellipses(96, 128, 12, np.random.default_rng(0))
# Cells 60 above a ground of 120, and noise.
EIGHT = (np.random.default_rng(1).normal(120, 4, (96, 128)) + 60 * CELLS.foreground()).clip(0, 255).astype(np.uint8)


def picture(kind: str) -> np.ndarray:
    twelve = EIGHT.astype(np.uint16) * 10 + 300  # 12 of 16 bits in use
    return {
        "uint8": EIGHT,
        "rgb8": np.stack([EIGHT, EIGHT // 2, 255 - EIGHT], axis=-1),
        "uint16": twelve,
        "rgb16": np.stack([twelve, twelve // 2, twelve // 3], axis=-1),
    }[kind]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["uint8", "rgb8", "uint16", "rgb16"])
def test_contrast_arrives_and_training_runs(tmp_path, kind, channels):
    pixels = picture(kind)
    how = {"photometric": "rgb"} if pixels.ndim == 3 else {}
    tifffile.imwrite(tmp_path / "well.tif", pixels, **how)
    entry = {"id": 1, "file_name": "well.tif", "height": 96, "width": 128}
    annotations = [
        {"id": n, "image_id": 1, "category_id": 1, "segmentation": {**rle, "counts": rle["counts"].decode()}}
        for n, rle in enumerate(CELLS.rles())
    ]
    (tmp_path / "cells.json").write_text(json.dumps({"images": [entry], "annotations": annotations}))
    source = resolve(str(tmp_path / "cells.json"))
    images = TrainingSet(source, Augmenter(baseline("none")), 0, factor=2)
    batch = next(iter(batches(Crops(images, 0, 0, 2), channels, 2)))
    inside = torch.from_numpy(CELLS.foreground())
    for sample in batch:
        assert sample["image"].dtype == torch.uint8
        assert sample["image"].shape == (channels, 96, 128)
        assert len(sample["instances"]) == 12
        first = sample["image"][0].float()
        if kind == "uint8":
            assert torch.equal(sample["image"][0], torch.from_numpy(EIGHT))
        elif kind == "rgb8" and channels == 3:
            assert np.array_equal(sample["image"].permute(1, 2, 0).numpy(), pixels)
        elif kind == "rgb8":
            grey = np.rint(pixels @ np.array([0.299, 0.587, 0.114]))
            assert np.array_equal(sample["image"][0].numpy(), grey)
        elif kind == "uint16" or channels == 3:
            assert np.corrcoef(first.flatten(), EIGHT.ravel())[0, 1] > 0.999
        if kind != "rgb8" or channels == 3:
            assert float(first[inside].mean() - first[~inside].mean()) > 50  # not black, not saturated
        assert float((first == 255).float().mean()) < 0.01
    from detectron2.utils.events import EventStorage

    model = build_model(MICRO.model_copy(update={"channels": channels, "score_threshold": 0.0}))
    with EventStorage(0):
        losses = model(batch)
    assert all(torch.isfinite(loss) for loss in losses.values())
    cells, _ = find_cells(model, source.image(source.records[0]))
    assert cells

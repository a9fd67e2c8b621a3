"""A COCO dataset in which nothing is wrong, to be spoilt in one place by each test of the checks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 96, 112


def square(x: float, y: float, side: float = 8) -> dict:
    """The shape of an annotation: one square ring, its bbox and area."""
    ring = [x, y, x + side, y, x + side, y + side, x, y + side]
    return {"segmentation": [ring], "bbox": [x, y, side, side], "area": side * side}


class TidyCoco:
    """Files cells_train.json, cells_val.json and cells_test.json of one type, two images a split, each in a well of its
    own; 15 squares an image, far apart.

    Attributes:
        splits: the content of the three files.
        pixels: file name → image; None for a file that is not written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.splits: dict[str, dict] = {}
        self.pixels: dict[str, np.ndarray | None] = {}
        rng = np.random.default_rng(0)
        for row, split in enumerate(("train", "val", "test")):
            images, annotations = [], []
            for column in range(2):
                name = f"A172_Phase_{'ABC'[row]}{column + 1}_1_00d00h00m_1.png"
                self.pixels[name] = rng.integers(60, 190, (HEIGHT, WIDTH), np.uint8)
                images.append({"id": column + 1, "file_name": name, "height": HEIGHT, "width": WIDTH})
                annotations += [
                    {
                        "id": 100 * (column + 1) + number, "image_id": column + 1, "category_id": 1, "iscrowd": 0,
                        **square(5 + 20 * (number % 5), 5 + 25 * (number // 5)),
                    }
                    for number in range(15)
                ]  # fmt: skip
            self.splits[split] = {
                "images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cell"}],
            }  # fmt: skip

    def image(self, split: str, index: int = 0) -> dict:
        """Entry of an image."""
        return self.splits[split]["images"][index]

    def cell(self, split: str, index: int = 0) -> dict:
        """Entry of an annotation."""
        return self.splits[split]["annotations"][index]

    def write(self) -> str:
        """Write all files; the name for --data."""
        (self.folder / "images").mkdir(parents=True, exist_ok=True)
        for name, pixels in self.pixels.items():
            if pixels is not None:
                Image.fromarray(pixels).save(self.folder / "images" / name)
        for split, content in self.splits.items():
            (self.folder / f"cells_{split}.json").write_text(json.dumps(content))
        return str(self.folder / "cells_train.json")

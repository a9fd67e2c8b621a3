"""Detections beside the ground truth they are scored against: grown image by image, split by well, written for COCO."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detection.matches import ImageMatches, match_images
from detection.scores import score
from detection.store import Scores
from policy_search.cells.dataset import Sample, coco_ground_truth
from policy_search.cells.files import write_json
from policy_search.cells.instances import Instance, encode_instance

Detected = tuple[list[Instance], list[float]]


def coco_results(detected: Detected, height: int, width: int, image_id: int) -> list[dict[str, Any]]:
    """The cells of one image as COCO results, without `bbox` (`detection.scores.coco_arrays` says why)."""
    results = []
    for cell, value in zip(*detected, strict=True):
        rle = encode_instance(cell, height, width)
        segmentation = {"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")}
        results.append({"image_id": image_id, "category_id": 1, "segmentation": segmentation, "score": value})
    return results


@dataclass
class Comparison:
    """All test images of one cell type. Masks are RLE from the start: no pixel of an image stays in memory.

    Attributes:
        truth: COCO ground truth; image ids count from 1 in the order of `add`.
        detections: COCO results.
        wells: image id → well.
    """

    truth: dict[str, Any] = field(default_factory=lambda: coco_ground_truth([]))
    detections: list[dict[str, Any]] = field(default_factory=list)
    wells: dict[int, str] = field(default_factory=dict)

    def add(self, sample: Sample, detected: Detected, file_name: str) -> None:
        """One labelled image, what was found in it, and what its file is called."""
        number = len(self.truth["images"]) + 1
        own = coco_ground_truth([sample])
        self.truth["images"].append({**own["images"][0], "id": number, "file_name": file_name})
        for annotation in own["annotations"]:
            # COCO takes annotation id 0 for "unmatched", so ids count from 1.
            entry = {**annotation, "id": len(self.truth["annotations"]) + 1, "image_id": number}
            self.truth["annotations"].append(entry)
        self.detections += coco_results(detected, *sample.instances.shape, number)
        self.wells[number] = sample.record.well

    def scores(self) -> Scores:
        """Over all images."""
        return score(self.truth, self.detections)

    def scores_by_well(self) -> dict[str, Scores]:
        """Over the images of each well, in order of first appearance."""
        names = dict.fromkeys(self.wells.values())
        return {name: self._of([n for n, well in self.wells.items() if well == name]) for name in names}

    def _of(self, images: Sequence[int]) -> Scores:
        wanted = set(images)
        truth = {
            "images": [image for image in self.truth["images"] if image["id"] in wanted],
            "annotations": [entry for entry in self.truth["annotations"] if entry["image_id"] in wanted],
            "categories": self.truth["categories"],
        }
        return score(truth, [found for found in self.detections if found["image_id"] in wanted])

    def matches(self) -> list[ImageMatches]:
        """Each image's detections marked right or wrong, in order of `add`."""
        return match_images(self.truth, self.detections, self.wells)

    def write(self, out: Path, name: str) -> None:
        """`out`/detections/NAME.json (COCO results) and `out`/ground_truth/NAME.json, which names the images' files."""
        write_json(out / "ground_truth" / f"{name}.json", self.truth)
        write_json(out / "detections" / f"{name}.json", self.detections)


def file_stem(cell_type: str, taken: Sequence[str] = ()) -> str:
    """A cell type as part of a file name, different from all of `taken` on any file system."""
    stem = re.sub(r"[^\w.+-]+", "_", cell_type).strip(".") or "cells"
    lower = {name.lower() for name in taken}
    number, unique = 2, stem
    while unique.lower() in lower:
        unique, number = f"{stem}_{number}", number + 1
    return unique

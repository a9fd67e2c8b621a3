"""COCO files with every oddity that is met, and what the standard library makes of them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

POLYGON = [[1.5, 2.25, 9.0, 2.0, 9.25, 9.01, 1.03, 8.99]]
# Name → what an annotation holds besides its image_id.
ODD: dict[str, dict[str, Any]] = {
    "hundredths": {"id": 1, "category_id": 1, "segmentation": POLYGON, "area": 59.19999999999999, "iscrowd": 0},
    "other order": {"iscrowd": 0, "segmentation": POLYGON, "id": 2},
    "two rings": {"segmentation": [*POLYGON, [12.0, 12.0, 15.5, 12.0, 15.0, 16.75]], "bbox": [1.03, 2.0, 14, 15]},
    "ring too short": {"segmentation": [[1.0, 1.0, 2.0, 2.0], *POLYGON]},
    "only too short": {"segmentation": [[1.0, 1.0, 2.0, 2.0]]},
    "odd length": {"segmentation": [[1.0, 1.0, 5.0, 1.0, 5.0, 5.0, 1.0]]},
    "no ring": {"segmentation": []},
    "empty ring": {"segmentation": [[], *POLYGON]},
    "integers": {"segmentation": [[1, 1, 8, 1, 8, 8, 1, 8]], "area": 49},
    "one integer": {"segmentation": [[1.0, 1, 8.5, 1.0, 8.0, 8.0]]},
    "many digits": {"segmentation": [[1.123456789012345, 1.0, 8.1, 1.0, 8.005, 8.0]]},
    "nearly hundredths": {"segmentation": [[0.1 + 0.2, 1.0, 8.1, 1.0, 8.29, 8.299999999999999]]},
    "below zero": {"segmentation": [[-3.25, -0.01, 8.1, 1.0, 8.0, 8.0]]},
    "negative zero": {"segmentation": [[-0.0, 1.0, 8.1, 0.0, 8.0, 8.0]]},
    "beyond the table": {"segmentation": [[2621.43, 2621.44, 30000.5, 1.0, 8.0, 8.0]]},
    "beyond 32 bits": {"segmentation": [[21474836.47, 21474836.48, 8.1, 1.0, 1e300, 5e-324]]},
    "RLE": {"segmentation": {"size": [20, 24], "counts": "37:Ol="}, "id": "text"},
    "RLE in numbers": {"segmentation": {"size": [20, 24], "counts": [5, 10, 465]}, "id": 2**80},
    "crowd": {"segmentation": {"counts": [0, 480], "size": [20, 24]}, "iscrowd": 1, "id": -(2**63) - 1},
    "crowd polygon": {"segmentation": POLYGON, "iscrowd": True},
    "extra keys": {"segmentation": POLYGON, "attributes": {"a": [None, True, {"ü": 1e400}]}, "": "", "image": "x"},
    "unicode": {"segmentation": POLYGON, "note": 'Zelle "π" \\ \U0001f9ab \ud800 \ud83d\ude00 \x7f }, {"id": 3}'},
    "no numbers": {"segmentation": POLYGON, "area": float("nan"), "bbox": [float("inf"), -float("inf"), 0, 0.5]},
}
# Shapes from which instance maps can be made.
DRAWABLE = (
    "hundredths", "other order", "two rings", "ring too short", "only too short", "odd length", "no ring", "empty ring",
    "integers", "one integer", "many digits", "nearly hundredths", "below zero", "negative zero", "RLE",
    "RLE in numbers", "crowd", "crowd polygon", "extra keys", "unicode",
)  # fmt: skip


def content(*, mapping: bool = False, images_mapping: bool = False) -> dict[str, Any]:
    """A file with every oddity, in images of three kinds of id; one
    image has no annotation, one has no entry, one is entered twice."""
    ids = [7, 2**70, "seven"]
    images: list[dict[str, Any]] = [
        {"id": 7, "file_name": "A172_Phase_C7_1_00d20h00m_4.tif", "height": 20, "width": 24, "url": "x"},
        {"id": 2**70, "file_name": "replaced.tif", "height": 1, "width": 1},
        {"id": 2**70, "file_name": "dir/Zelle µ.tif", "height": 20, "width": 24, "cell_type": "Eigene", "score": 0.1},
        {"id": "seven", "file_name": "BT474_Phase_B3_2_02d12h00m_3.tif", "height": 20, "width": 24.0, "well": None},
        {"id": 8, "file_name": "SkBr3_Phase_H3_2_01d20h00m_4.tif", "height": 20, "width": 24},
    ]
    annotations = [
        {"image_id": ids[turn % 3], **(ODD[name] if turn < len(ODD) else {"segmentation": ODD[name]["segmentation"]})}
        for turn, name in enumerate([*ODD, *DRAWABLE])
    ]
    for entry in annotations[5:9]:
        entry["image_id"] = 99  # no such image
    return {
        "info": {"year": 2021},
        "version": 1234567890.125,
        "annotations": {str(i): a for i, a in enumerate(annotations)} if mapping else annotations,
        "categories": [{"id": 1, "name": "cell"}, {"id": "b"}, {"id": None}, 3],
        "images": {str(i): e for i, e in enumerate(images)} if images_mapping else images,
        "licenses": [],
    }


def by_json(path: Path) -> tuple[dict[Any, Any], dict[Any, list[Any]]]:
    """Images and annotations as the standard library reads them: what the project did before there were copies."""
    found = json.loads(path.read_bytes())
    images, annotations = (
        list(part.values()) if isinstance(part, dict) else part for part in (found["images"], found["annotations"])
    )
    grouped: dict[Any, list[Any]] = {}
    for entry in annotations:
        grouped.setdefault(entry["image_id"], []).append(entry)
    return {entry["id"]: entry for entry in images}, grouped


def text(value: Any) -> str:
    """Tells 1 from 1.0 and True, 0.0 from -0.0, a pair of surrogates from a character, the order of keys; finds NaN
    equal to itself."""
    return json.dumps(list(value.items()) if isinstance(value, dict) else value, ensure_ascii=False)


def digest(annotations: list[Any]) -> str:
    """`annotations_key` by its definition."""
    return hashlib.sha256(json.dumps([a["segmentation"] for a in annotations], default=str).encode()).hexdigest()

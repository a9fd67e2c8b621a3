"""One row of `bench_data.py` in a process of its own; prints JSON: data_rows.py ROW LIVECELL_FOLDER."""

from __future__ import annotations

import contextlib
import io
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO

from policy_search.cells import resolve
from policy_search.cells.coco import annotations_key, read_coco

TYPE = "A172"


def peak_mb() -> float:
    """Most memory this process ever held, what it shares with the disk's cache included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def union(root: Path) -> Path:
    """The annotation file over all types."""
    return root / "annotations" / "LIVECell" / "livecell_coco_train.json"


def coco(root: Path) -> COCO:
    """pycocotools' reader, without its prints."""
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(union(root)))


def nothing(root: Path) -> dict[str, Any]:
    """The imports alone: what every row's memory contains."""
    return {}


def json_load(root: Path) -> dict[str, Any]:
    """The standard library."""
    with union(root).open("rb") as file:
        return {"annotations": len(json.load(file)["annotations"])}


def pycocotools(root: Path) -> dict[str, Any]:
    """pycocotools.coco.COCO."""
    return {"annotations": len(coco(root).anns)}


def ours(root: Path) -> dict[str, Any]:
    """Our reader: the first time it makes the copy."""
    return {"images": len(read_coco(union(root)).images)}


def every_annotation(root: Path) -> dict[str, Any]:
    """All annotations of the file as Python objects, an image at a time."""
    file = read_coco(union(root))
    return {"annotations": sum(len(file.annotations[image_id]) for image_id in file.annotations)}


def keys(root: Path) -> dict[str, Any]:
    """Digests of every image's annotations."""
    file = read_coco(union(root))
    return {"images": len({annotations_key(file, image_id) for image_id in file.images})}


def records(root: Path) -> dict[str, Any]:
    """One type asked of the file over all: its records."""
    return {"images": len(resolve(TYPE, "train", root))}


def maps(root: Path) -> dict[str, Any]:
    """One type's instance maps, all of them, one at a time."""
    dataset = resolve(TYPE, "train", root)
    cells = pixels = 0
    for record in dataset:
        areas = dataset.instances(record).areas()
        cells, pixels = cells + len(areas), pixels + int(areas.sum())
    return {"images": len(dataset), "cells": cells, "pixels": pixels}


def masks(root: Path) -> dict[str, Any]:
    """The same by pycocotools: a mask of the frame for each cell, one at a time."""
    file = coco(root)
    chosen = [image_id for image_id, entry in file.imgs.items() if entry["file_name"].startswith(f"{TYPE}_")]
    cells = pixels = 0
    for image_id in chosen:
        for annotation in file.loadAnns(file.getAnnIds([image_id])):
            area = int(np.count_nonzero(file.annToMask(annotation)))
            cells, pixels = cells + (area > 0), pixels + area
    return {"images": len(chosen), "cells": cells, "pixels": pixels}


ROWS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "nothing": nothing, "json": json_load, "pycocotools": pycocotools, "ours": ours, "every": every_annotation,
    "keys": keys, "records": records, "maps": maps, "masks": masks,
}  # fmt: skip


if __name__ == "__main__":
    started, cpu = time.perf_counter(), time.process_time()
    found = ROWS[sys.argv[1]](Path(sys.argv[2]))
    took = {"seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu, "peak_mb": peak_mb()}
    print(json.dumps({**found, **took}))

"""COCO instance annotations: read, checked, and turned into instance maps."""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from pycocotools import mask as coco_mask

from policy_search.cells.dataset import ImageRecord
from policy_search.cells.errors import DamagedFile, DataError
from policy_search.cells.instances import InstanceMap, Rle
from policy_search.cells.types import find_cell_type

# <Type>_Phase_<Well>_<Location>_<Time>_<Crop>.tif (design 3.3)
LIVECELL_NAME = re.compile(r"^(?P<type>[^_]+)_Phase_(?P<well>[A-Za-z]\d+)_")


@dataclass(frozen=True)
class CocoFile:
    """One annotation file.

    Attributes:
        path: where it was read.
        images: the `images` entries, by their COCO id.
        annotations: per image id, its annotations in file order. Instance id = position + 1.
        replaced: `images` entries whose id stands again further down: the last one counts.
        categories: ids under `categories`; empty where the file names none.
    """

    path: Path
    images: dict[int, dict[str, Any]]
    annotations: dict[int, list[dict[str, Any]]] = field(repr=False)
    replaced: tuple[dict[str, Any], ...] = ()
    categories: frozenset[Any] = frozenset()


def read_coco(path: str | Path) -> CocoFile:
    """Read a COCO file whose annotations are a list or a mapping (both are met in LIVECell's own files).

    Raises:
        DataError: missing; a DamagedFile if it is not JSON, or without usable images and annotations. The message names
            the file.
    """
    path = Path(path)
    try:
        stamp = path.stat()
    except OSError:
        raise DataError(f"annotation file is missing: {path}") from None
    try:
        return _read(path, stamp.st_mtime_ns, stamp.st_size)
    except DataError as error:
        raise DamagedFile(str(error), path) from error


@lru_cache(maxsize=16)
def _read(path: Path, _mtime: int, _size: int) -> CocoFile:
    try:
        content = json.loads(path.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(
            f"annotation file is damaged: {path} is not JSON ({error}). It may be truncated: fetch it again."
        ) from error
    if not isinstance(content, dict) or "images" not in content:
        raise DataError(f"{path} is not a COCO file: expected an object with 'images' and 'annotations'")
    images: dict[int, dict[str, Any]] = {}
    replaced = []
    for entry in _entries(content["images"], path, "images"):
        missing = {"id", "file_name", "height", "width"} - entry.keys()
        if missing:
            raise DataError(f"{path}: an image entry lacks {', '.join(sorted(missing))}: {str(entry)[:120]}")
        if entry["id"] in images:
            replaced.append(images[entry["id"]])
        images[entry["id"]] = entry
    by_image: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for entry in _entries(content.get("annotations", []), path, "annotations"):
        if "image_id" not in entry or "segmentation" not in entry:
            raise DataError(f"{path}: an annotation lacks image_id or segmentation: {str(entry)[:120]}")
        by_image[entry["image_id"]].append(entry)
    return CocoFile(path, images, dict(by_image), tuple(replaced), _category_ids(content.get("categories")))


def _category_ids(value: Any) -> frozenset[Any]:
    """Nothing but the check asks for categories: what is not a list of them is taken as none."""
    entries = value if isinstance(value, list) else []
    return frozenset(e["id"] for e in entries if isinstance(e, dict) and isinstance(e.get("id"), int | str))


def _entries(value: Any, path: Path, key: str) -> list[dict[str, Any]]:
    """The entries under a key, given as a list or as a mapping from some id."""
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
        raise DataError(f"{path}: '{key}' should be a list or a mapping of objects, found {type(value).__name__}")
    return value


def annotation_rle(annotation: dict[str, Any], height: int, width: int) -> Rle | None:
    """RLE of one annotation on its frame, or None if it has no usable shape (a ring needs three points)."""
    shape = annotation["segmentation"]
    if isinstance(shape, dict):
        rle: Rle = coco_mask.frPyObjects(shape, height, width) if isinstance(shape["counts"], list) else dict(shape)
        return rle
    rings = [[float(v) for v in ring] for ring in shape if len(ring) >= 6 and len(ring) % 2 == 0]
    if not rings:
        return None
    parts: list[Rle] = coco_mask.frPyObjects(rings, height, width)
    merged: Rle = parts[0] if len(parts) == 1 else coco_mask.merge(parts)
    return merged


def instances_of(coco: CocoFile, image_id: int) -> InstanceMap:
    """The instance map of one image. Instance id = annotation position + 1; crowd regions are no instances."""
    entry = coco.images[image_id]
    height, width = int(entry["height"]), int(entry["width"])
    rles: list[Rle] = []
    for annotation in coco.annotations.get(image_id, []):
        rle = None if annotation.get("iscrowd") else annotation_rle(annotation, height, width)
        # A shape without pixels keeps its place, so that ids stay positions.
        rles.append(rle if rle is not None else empty_rle(height, width))
    return InstanceMap.from_rles(rles, height, width)


def empty_rle(height: int, width: int) -> Rle:
    """RLE without a pixel."""
    rle: Rle = coco_mask.frPyObjects({"size": [height, width], "counts": [height * width]}, height, width)
    return rle


def annotations_key(coco: CocoFile, image_id: int) -> str:
    """Digest of one image's annotations."""
    text = json.dumps([a["segmentation"] for a in coco.annotations.get(image_id, [])], default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def image_record(entry: dict[str, Any], dataset: str, split: str, fallback_type: str) -> ImageRecord:
    """A record from a COCO image entry; type and well come from the file name where it follows LIVECell's pattern.

    `cell_type` and `well` of the entry itself, where they stand, count more than the name.
    """
    name = Path(str(entry["file_name"])).name
    stem = Path(name).stem
    match = LIVECELL_NAME.match(stem)
    spelt = str(entry.get("cell_type") or (match["type"] if match else stem.split("_Phase_")[0]))
    known = find_cell_type(spelt)
    if known is not None:
        type_name = known.name
    else:
        type_name = spelt if "_Phase_" in stem or "cell_type" in entry else fallback_type
    return ImageRecord(
        id=f"{dataset}/{stem}",
        cell_type=type_name,
        split=split,
        well=str(entry.get("well") or f"{type_name}/{match['well'] if match else stem}"),
        height=int(entry["height"]),
        width=int(entry["width"]),
        complete=not entry.get("annotation_incomplete", False),
    )

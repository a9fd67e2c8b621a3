"""COCO instance annotations: read, checked, and turned into instance maps."""

from __future__ import annotations

import hashlib
import json
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from policy_search.cells.annotations import source
from policy_search.cells.coco_shapes import annotation_rle, empty_rle
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
        annotations: per image id, its annotations in file order. Instance id = position + 1. Those of a large file are
            read from its compact copy each time they are asked for.
        replaced: `images` entries whose id stands again further down: the last one counts.
        categories: ids under `categories`; empty where the file names none.
    """

    path: Path
    images: dict[int, dict[str, Any]]
    annotations: Mapping[int, list[dict[str, Any]]] = field(repr=False)
    replaced: tuple[dict[str, Any], ...] = field(default=(), repr=False)
    categories: frozenset[Any] = frozenset()

    @property
    def types(self) -> tuple[str, ...]:
        """Cell types of the images, in order of first appearance; empty text for images that do not say theirs."""
        return tuple(dict.fromkeys(name or "" for name in self._types.values()))

    def images_of(self, cell_type: str) -> Iterator[tuple[int, dict[str, Any]]]:
        """Ids and entries of one type's images, in file order; those that do not say their type belong to any."""
        wanted = cell_type.lower()
        return ((i, self.images[i]) for i, name in self._types.items() if name is None or name.lower() == wanted)

    @cached_property
    def _types(self) -> dict[int, str | None]:
        """Per image its type: looked at once, not once for every type that is asked for."""
        return {image_id: entry_type(entry) for image_id, entry in self.images.items()}


_READ_BEFORE: OrderedDict[tuple[Path, str], CocoFile] = OrderedDict()
_KEPT = 16


def read_coco(path: str | Path) -> CocoFile:
    """Read a COCO file whose annotations are a list or a mapping (both are met in LIVECell's own files).

    Raises:
        DataError: missing; a DamagedFile if it is not JSON, or without usable images and annotations. The message names
            the file.
    """
    path = Path(path)
    try:
        key, data = source.key_of(path)
        known = _READ_BEFORE.pop((path, key), None)
        if known is None:
            content, key = source.read(path, key, data)
            categories = _category_ids(content.rest.get("categories"))
            known = CocoFile(path, content.images, content.annotations, content.replaced, categories)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise DataError(f"annotation file is missing: {path}") from None
        raise DamagedFile(f"annotation file cannot be read: {path} ({error.strerror or error})", path) from error
    except DataError as error:
        raise DamagedFile(str(error), path) from error
    _READ_BEFORE[path, key] = known
    while len(_READ_BEFORE) > _KEPT:
        _READ_BEFORE.popitem(last=False)
    return known


def _category_ids(value: Any) -> frozenset[Any]:
    """What is no list of categories is taken as none."""
    entries = value if isinstance(value, list) else []
    return frozenset(e["id"] for e in entries if isinstance(e, dict) and isinstance(e.get("id"), int | str))


def instances_of(coco: CocoFile, image_id: int) -> InstanceMap:
    """The instance map of one image. Instance id = annotation position + 1; crowd regions are no instances.

    Raises:
        DataError: a shape cannot be drawn, or there are too many; the message names file, image and annotation.
    """
    entry = coco.images[image_id]
    height, width = int(entry["height"]), int(entry["width"])
    rles: list[Rle] = []
    try:
        for number, annotation in enumerate(coco.annotations.get(image_id, []), start=1):
            rle = None if annotation.get("iscrowd") else _rle(annotation, number, height, width)
            # A shape without pixels keeps its place, so that ids stay positions.
            rles.append(rle if rle is not None else empty_rle(height, width))
        return InstanceMap.from_rles(rles, height, width)
    except DataError as error:
        raise DataError(f"{coco.path}: image {entry['file_name']}: {error}") from error


def _rle(annotation: dict[str, Any], number: int, height: int, width: int) -> Rle | None:
    try:
        return annotation_rle(annotation, height, width)
    except DataError as error:
        named = f" (id {ascii(annotation['id'])[:40]})" if "id" in annotation else ""
        raise DataError(f"annotation {number}{named}: {error}. Mend or remove it.") from None


def annotations_key(coco: CocoFile, image_id: int) -> str:
    """Digest of one image's annotations."""
    if isinstance(coco.annotations, source.PackedAnnotations) and image_id in coco.annotations:
        return coco.annotations.digest(image_id)  # of the same text
    text = json.dumps([a["segmentation"] for a in coco.annotations.get(image_id, [])], default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def entry_type(entry: dict[str, Any]) -> str | None:
    """The cell type that an image entry or its file name says; None if neither does."""
    stem = Path(str(entry["file_name"])).stem
    match = LIVECELL_NAME.match(stem)
    spelt = str(entry.get("cell_type") or (match["type"] if match else stem.split("_Phase_")[0]))
    known = find_cell_type(spelt)
    if known is not None:
        return known.name
    return spelt if "_Phase_" in stem or "cell_type" in entry else None


def image_record(entry: dict[str, Any], dataset: str, split: str, fallback_type: str) -> ImageRecord:
    """A record from a COCO image entry; type and well come from the file name where it follows LIVECell's pattern.

    `cell_type` and `well` of the entry itself, where they stand, count more than the name.
    """
    stem = Path(str(entry["file_name"])).stem
    match = LIVECELL_NAME.match(stem)
    said = entry_type(entry)
    type_name = fallback_type if said is None else said
    return ImageRecord(
        id=f"{dataset}/{stem}",
        cell_type=type_name,
        split=split,
        well=str(entry.get("well") or f"{type_name}/{match['well'] if match else stem}"),
        height=int(entry["height"]),
        width=int(entry["width"]),
        complete=not entry.get("annotation_incomplete", False),
    )

"""What a COCO file has to hold, and the sentence for one that does not; small files are read whole."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from policy_search.cells.errors import DataError

Entry = dict[str, Any]
IMAGES, ANNOTATIONS = "images", "annotations"


class Content(NamedTuple):
    """What an annotation file holds.

    Attributes:
        images: the `images` entries, by their COCO id.
        annotations: per image id, its annotations in file order.
        replaced: `images` entries whose id stands again further down: the last one counts.
        rest: every other key of the file (`categories`, `info`, …).
    """

    images: dict[Any, Entry]
    annotations: Mapping[Any, list[Entry]]
    replaced: tuple[Entry, ...]
    rest: Entry


def parse(data: bytes, path: Path) -> Content:
    """Content of a file that is small enough to be held in memory.

    Raises:
        DataError: not JSON, or without usable images and annotations; the message names the file.
    """
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:  # damaged text, endless numbers, brackets without end
        raise not_json(path, str(error)) from error
    if not isinstance(content, dict) or IMAGES not in content:
        raise not_coco(path)
    images, replaced = image_table(checked_images(members(content.pop(IMAGES), path, IMAGES), path))
    grouped: dict[Any, list[Entry]] = {}
    for entry in members(content.pop(ANNOTATIONS, []), path, ANNOTATIONS):
        append(grouped, entry, path)
    return Content(images, grouped, replaced, content)


def members(value: Any, path: Path, key: str) -> list[Entry]:
    """The entries under a key, given as a list or as a mapping from some id."""
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
        raise not_entries(path, key, value)
    return value


def checked_images(entries: list[Entry], path: Path) -> list[Entry]:
    """The image entries, each with what it needs."""
    for entry in entries:
        missing = {"id", "file_name", "height", "width"} - entry.keys()
        if missing:
            raise DataError(f"{path}: an image entry lacks {', '.join(sorted(missing))}: {str(entry)[:120]}")
        if isinstance(entry["id"], list | dict):
            raise _no_id(path, "id", entry)
    return entries


def image_table(entries: Iterable[Entry]) -> tuple[dict[Any, Entry], tuple[Entry, ...]]:
    """Image entries by id, and those that a later one with the same id replaces."""
    images: dict[Any, Entry] = {}
    replaced = []
    for entry in entries:
        if entry["id"] in images:
            replaced.append(images[entry["id"]])
        images[entry["id"]] = entry
    return images, tuple(replaced)


def append(grouped: dict[Any, list[Entry]], entry: Entry, path: Path) -> None:
    """Put an annotation to the others of its image."""
    if "image_id" not in entry or "segmentation" not in entry:
        raise DataError(f"{path}: an annotation lacks image_id or segmentation: {str(entry)[:120]}")
    try:
        grouped.setdefault(entry["image_id"], []).append(entry)
    except TypeError:
        raise _no_id(path, "image_id", entry) from None


def not_json(path: Path, reason: str) -> DataError:
    """The error for a file that cannot be parsed."""
    return DataError(
        f"annotation file is damaged: {path} is not JSON ({reason}). It may be truncated: fetch it again "
        "(LIVECell's by `policy-search data fetch`)."
    )


def not_coco(path: Path) -> DataError:
    """The error for JSON of another form."""
    return DataError(f"{path} is not a COCO file: expected an object with 'images' and 'annotations'")


def not_entries(path: Path, key: str, value: Any) -> DataError:
    """The error for a key that holds no entries."""
    return DataError(f"{path}: '{key}' should be a list or a mapping of objects, found {type(value).__name__}")


def _no_id(path: Path, key: str, entry: Entry) -> DataError:
    return DataError(f"{path}: {key} should be a number or text, found {type(entry[key]).__name__}: {str(entry)[:120]}")

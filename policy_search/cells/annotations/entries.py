"""What a COCO file has to hold, and the sentence for one that does not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from policy_search.cells.annotations.image_entries import check_image
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


def checked_images(entries: list[Entry], path: Path) -> list[Entry]:
    """The image entries, each with what it needs."""
    for entry in entries:
        check_image(entry, path)
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


def repeated_key(path: Path, key: str) -> DataError:
    """The error for a key that stands twice in one object: JSON parsers keep the last one, and lose what was before."""
    return DataError(f"{path}: the key {ascii(key)[:80]} stands twice in one object. Remove one, or rename it.")


def _no_id(path: Path, key: str, entry: Entry) -> DataError:
    return DataError(f"{path}: {key} should be a number or text, found {type(entry[key]).__name__}: {str(entry)[:120]}")

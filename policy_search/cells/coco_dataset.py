"""One COCO file as a dataset: where its images lie, which plane of them is meant, and ids that tell them apart."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

from policy_search.cells.coco import CocoFile, image_record, read_coco
from policy_search.cells.dataset import CellDataset, ImageRecord
from policy_search.cells.errors import DataError
from policy_search.cells.livecell import FileReader, image_index
from policy_search.cells.planes import Plane


def coco_dataset(name: str, path: Path, split: str, folder: Path | None = None) -> CellDataset:
    """The images of one file, of split `unlabeled` those with `"annotated": false`, of all others the rest.

    Images whose entries hold a `position` come in that order: training goes through a written training set as it went
    through the original.

    Args:
        name: of the dataset.
        path: of the COCO file.
        split: that the records belong to.
        folder: with the images; looked for beside the file when None.

    Raises:
        DataError: the file is missing or damaged, or there is no folder of images.
    """
    coco = read_coco(path)
    places = image_files(coco, folder)
    chosen = [(key, entry) for key, entry in coco.images.items() if is_annotated(entry) != (split == "unlabeled")]
    entries = [entry for _, entry in chosen]
    records, files, sources, planes, position = [], {}, {}, {}, {}
    unlabelled = {}
    for (image_id, entry), record_id in zip(chosen, _ids(path.stem, entries), strict=True):
        record = dataclasses.replace(image_record(entry, path.stem, split, path.stem), id=record_id)
        if is_annotated(entry):
            sources[record.id] = (coco, image_id)
        else:
            record = dataclasses.replace(record, annotated=False, complete=False)
            unlabelled[record.id] = (coco, image_id)
        records.append(record)
        files[record.id] = places[image_id]
        position[record.id] = int(entry.get("position", 0))
        plane = plane_of(entry, path)
        if plane:
            planes[record.id] = plane
    ordered: list[ImageRecord] = sorted(records, key=lambda r: (position[r.id], r.cell_type, r.id))
    return CellDataset(name, tuple(ordered), FileReader(files, sources, planes, unlabelled))


def is_annotated(entry: dict[str, Any]) -> bool:
    """Whether somebody labelled the image, if only to say that it holds no cell."""
    return entry.get("annotated") is not False


def plane_of(entry: dict[str, Any], path: Path) -> Plane:
    """The keys `page` and `channel` of an image entry, both counted from 1.

    Raises:
        DataError: one of them is no such number.
    """
    for key in ("page", "channel"):
        value = entry.get(key)
        if value is not None and (type(value) is not int or value < 1):
            raise DataError(f"{path}: {key} of image {entry['file_name']} should count from 1, found {value!r}")
    return Plane(entry.get("page"), entry.get("channel"))


def image_files(coco: CocoFile, folder: Path | None = None) -> dict[int, Path | None]:
    """Per image id its file: as named, else the one of that name anywhere below the folder, else None.

    A name that stands in several folders of the file is never looked for elsewhere: it would be a guess.

    Raises:
        DataError: there is no folder of images.
    """
    folder = folder or _images_folder(coco)
    if not folder.is_dir():
        raise DataError(f"images folder is missing: {folder}. Name it after the file: {coco.path}:IMAGES_DIR")
    names = Counter(Path(name).name for name in {str(entry["file_name"]) for entry in coco.images.values()})
    index: dict[str, Path] | None = None
    files: dict[int, Path | None] = {}
    for image_id, entry in coco.images.items():
        exact = folder / str(entry["file_name"])
        if os.path.isfile(exact):  # also False for a name that no file can have
            files[image_id] = exact
            continue
        if index is None:  # walking a large folder takes long
            index = image_index(folder)
        files[image_id] = index.get(exact.name) if names[exact.name] == 1 else None
    return files


def _images_folder(coco: CocoFile) -> Path:
    """Beside the annotation file, in `images` beside it or one above, whichever holds the first image."""
    first = next((str(e["file_name"]) for e in coco.images.values()), "")
    beside = coco.path.parent
    for folder in (beside, beside / "images", beside.parent / "images"):
        if os.path.isfile(folder / first):
            return folder
    return beside / "images" if (beside / "images").is_dir() else beside


def _ids(dataset: str, entries: list[dict[str, Any]]) -> list[str]:
    """Record ids: the shortest of stem, path without suffix, whole path, path and plane that no other entry has.

    Two entries for one plane of one file keep one id: nothing tells them apart, and the check reports them.
    """
    spelt = []
    for entry in entries:
        path = PurePosixPath(str(entry["file_name"]).replace("\\", "/"))
        whole = "/".join(part for part in path.parts if part not in ("..", "/"))
        plane = "".join(f"@{key}{entry[key]}" for key in ("page", "channel") if entry.get(key) is not None)
        spelt.append((path.stem, whole.removesuffix(path.suffix), whole, whole + plane))
    counts = [Counter(names) for names in zip(*spelt, strict=True)]
    return [
        f"{dataset}/" + next((n for n, count in zip(names, counts, strict=True) if count[n] == 1), names[-1])
        for names in spelt
    ]

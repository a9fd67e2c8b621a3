"""LIVECell on disk: both folder layouts, missing split files, unlabelled images."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policy_search.cells.coco import CocoFile, annotations_key, image_record, instances_of, read_coco
from policy_search.cells.dataset import CellDataset, ImageRecord
from policy_search.cells.errors import DataError, SizeError
from policy_search.cells.images import read_image
from policy_search.cells.instances import InstanceMap
from policy_search.cells.planes import Plane
from policy_search.cells.types import CELL_TYPES, find_cell_type

SPLITS = ("train", "val", "test")
IMAGE_SUFFIXES = {".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp"}


@dataclass(frozen=True)
class FileReader:
    """Pixels and instances from files.

    Attributes:
        files: record id → image file (None where the file is missing: an error only once it is asked for).
        sources: record id → (annotation file, COCO image id); absent for unlabelled images.
        planes: record id → plane of its file, where the file holds several.
        unlabelled: record id → (annotation file, COCO image id) of images that the file calls unlabelled. Annotations
            that it has of them nonetheless are not read, but a check counts them.
    """

    files: dict[str, Path | None]
    sources: dict[str, tuple[CocoFile, int]] = field(repr=False)
    planes: dict[str, Plane] = field(default_factory=dict)
    unlabelled: dict[str, tuple[CocoFile, int]] = field(default_factory=dict, repr=False)

    def image(self, record: ImageRecord) -> NDArray[np.uint8]:
        """See `Reader`. Raises DataError when missing, damaged, or of another size than annotated."""
        path = self._path(record)
        pixels = read_image(path, self.planes.get(record.id, Plane()))
        if pixels.shape[:2] != (record.height, record.width):
            raise SizeError(
                f"{path} is {pixels.shape[1]}×{pixels.shape[0]} pixels, its annotations say "
                f"{record.width}×{record.height}: image and annotation file do not belong together"
            )
        return pixels

    def instances(self, record: ImageRecord) -> InstanceMap:
        """See `Reader`."""
        if record.id not in self.sources:
            raise DataError(f"{record.id} is unlabelled: it has no instances to read")
        return instances_of(*self.sources[record.id])

    def content_key(self, record: ImageRecord) -> str:
        """Digest of the image file's bytes and the annotations."""
        path = self._path(record)
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise DataError(f"image file cannot be read: {path} ({error.strerror or error})") from error
        digest += self.planes.get(record.id, Plane()).key()
        return digest + (annotations_key(*self.sources[record.id]) if record.id in self.sources else "-")

    def _path(self, record: ImageRecord) -> Path:
        path = self.files[record.id]
        if path is None:
            raise DataError(
                f"image file of {record.id} is missing; its annotations are there. Fetch it: policy-search data fetch."
            )
        return path


def merge_readers(readers: Sequence[FileReader]) -> FileReader:
    """One reader over the records of several."""
    files: dict[str, Path | None] = {}
    sources: dict[str, tuple[CocoFile, int]] = {}
    planes: dict[str, Plane] = {}
    unlabelled: dict[str, tuple[CocoFile, int]] = {}
    for reader in readers:
        files |= reader.files
        sources |= reader.sources
        planes |= reader.planes
        unlabelled |= reader.unlabelled
    return FileReader(files, sources, planes, unlabelled)


@lru_cache(maxsize=4)
def _image_index(folder: Path, _mtime: int) -> dict[str, Path]:
    index: dict[str, Path] = {}
    for parent, _, names in sorted(os.walk(folder)):
        for name in names:
            if Path(name).suffix.lower() in IMAGE_SUFFIXES:
                index.setdefault(name, Path(parent) / name)
    return index


def image_index(folder: Path) -> dict[str, Path]:
    """File name → path for every image below `folder`: flat and per-type layouts look the same."""
    return _image_index(folder, folder.stat().st_mtime_ns) if folder.is_dir() else {}


def forget_images() -> None:
    """Look again which images are there: new ones below a subfolder do not show in the folder's own date."""
    _image_index.cache_clear()


def dataset_folder(root: Path) -> Path:
    """The folder that holds `annotations/`: the root itself, or the folder that LIVECell's archives unpack to."""
    for folder in _possible(root):
        if (folder / "annotations").is_dir():
            return folder
    raise DataError(
        f"no LIVECell data in {root}: expected its folders 'annotations' and 'images' there. Point --root (or "
        f"LIVECELL_ROOT) at the folder that holds them, or fetch them: policy-search data fetch A172 --root {root}"
    )


def has_data(root: Path) -> bool:
    """Whether `dataset_folder` finds one."""
    return any((folder / "annotations").is_dir() for folder in _possible(root))


def home(root: Path) -> Path:
    """The folder that holds `annotations/`, or is to hold it."""
    return dataset_folder(root) if has_data(root) else root


def _possible(root: Path) -> tuple[Path, ...]:
    return root, root / "LIVECell_dataset_2021"


def types_in(root: Path) -> tuple[str, ...]:
    """Names of every type with an annotation folder, annotated image or unlabelled image below the root."""
    base = dataset_folder(root)
    names: dict[str, None] = {}
    for path in _union_files(base).values():
        names |= dict.fromkeys(read_coco(path).types)
    singles = base / "annotations" / "LIVECell_single_cells"
    folders = [*_folders(singles), *_folders(base / "unlabeled")]
    lower = {n.lower() for n in names}
    for folder in folders:
        known = find_cell_type(folder.name)
        name = known.name if known else folder.name
        if name.lower() not in lower:
            names[name] = None
            lower.add(name.lower())
    order = {t.name: i for i, t in enumerate(CELL_TYPES)}
    return tuple(sorted(names, key=lambda n: (order.get(n, len(order)), n)))


def livecell_dataset(name: str, types: Sequence[str], split: str, root: Path) -> CellDataset:
    """The records of `types` in one split; types without that split contribute none (their file may be absent)."""
    base = dataset_folder(root)
    records: list[ImageRecord] = []
    readers: list[FileReader] = []
    for type_name in types:
        found, reader = _unlabeled(base, type_name) if split == "unlabeled" else _annotated(base, type_name, split)
        records += found
        readers.append(reader)
    return CellDataset(name, tuple(records), merge_readers(readers))


def nothing_missing(root: Path, type_name: str, split: str) -> bool:
    """Whether a type's annotation file of a split is there with every image that it names."""
    if not has_data(root):
        return False
    base = dataset_folder(root)
    if annotation_file(base, type_name, split) is None:
        return False
    records, reader = _annotated(base, type_name, split)
    return bool(records) and None not in reader.files.values()


def _annotated(base: Path, type_name: str, split: str) -> tuple[list[ImageRecord], FileReader]:
    path = annotation_file(base, type_name, split)
    if path is None:
        return [], FileReader({}, {})
    coco = read_coco(path)
    index = image_index(base / "images")
    records, files, sources = [], {}, {}
    for image_id, entry in coco.images_of(type_name):  # the union file holds every type
        record = image_record(entry, type_name, split, type_name)
        records.append(record)
        files[record.id] = index.get(Path(str(entry["file_name"])).name)
        sources[record.id] = (coco, image_id)
    return sorted(records, key=lambda r: r.id), FileReader(files, sources)


def annotation_file(base: Path, type_name: str, split: str) -> Path | None:
    """The type's own file if it is there, else the union over all types, else None."""
    for folder in _folders(base / "annotations" / "LIVECell_single_cells"):
        known = find_cell_type(folder.name)
        if (known.name if known else folder.name).lower() == type_name.lower():
            candidates = [folder / f"{split}.json", *sorted(folder.glob(f"*_{split}.json"))]
            own = next((p for p in candidates if p.is_file()), None)
            if own is not None:
                return own
    return _union_files(base).get(split)


def _union_files(base: Path) -> dict[str, Path]:
    folder = base / "annotations" / "LIVECell"
    paths = {split: folder / f"livecell_coco_{split}.json" for split in SPLITS}
    return {split: path for split, path in paths.items() if path.is_file()}


def _unlabeled(base: Path, type_name: str) -> tuple[list[ImageRecord], FileReader]:
    records: list[ImageRecord] = []
    files: dict[str, Path | None] = {}
    for folder in _folders(base / "unlabeled"):
        known = find_cell_type(folder.name)
        if (known.name if known else folder.name).lower() != type_name.lower():
            continue
        for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES):
            height, width = read_image(path).shape[:2]
            entry: dict[str, Any] = {"file_name": path.name, "height": height, "width": width}
            described = image_record(entry, f"{type_name}/unlabeled", "unlabeled", type_name)
            record = ImageRecord(
                described.id, type_name, "unlabeled", described.well, height, width, annotated=False, complete=False
            )
            records.append(record)
            files[record.id] = path
    return records, FileReader(files, {})


def _folders(parent: Path) -> list[Path]:
    return sorted(p for p in parent.iterdir() if p.is_dir()) if parent.is_dir() else []

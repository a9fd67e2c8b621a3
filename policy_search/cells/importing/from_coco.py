"""COCO files of other tools, one or several, gathered into entries of one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from policy_search.cells.coco import CocoFile, read_coco
from policy_search.cells.coco_dataset import image_files, is_annotated, plane_of
from policy_search.cells.coco_shapes import annotation_rle, empty_rle
from policy_search.cells.errors import DataError
from policy_search.cells.images import read_image
from policy_search.cells.importing.collected import Collected, annotations_of_codes
from policy_search.cells.planes import Plane

MADE_BY = "policy-search data import"
# Keys of an image entry that mean something to us; licences and addresses of other tools stay behind.
KEPT = ("cell_type", "well", "annotated", "annotation_incomplete")


def coco_files_in(folder: Path, names: Sequence[str]) -> list[Path]:
    """The COCO files among names relative to a folder; what an import wrote earlier is none of them."""
    found = []
    for name in names:
        if name.lower().endswith(".json"):
            try:
                content = json.loads((folder / name).read_bytes())
            except (ValueError, RecursionError, OSError):
                continue
            known = isinstance(content, dict) and {"images", "annotations"} <= content.keys()
            info = content.get("info") if known else None
            if known and not (isinstance(info, dict) and info.get("made_by") == MADE_BY):
                found.append(folder / name)
    return found


def collect_coco(
    folder: Path, paths: Sequence[Path], plane: Plane, progress: Callable[[], None] = lambda: None
) -> Collected:
    """Read every file. `file_name` of the entries is relative to `folder`.

    Raises:
        DataError: a file is damaged, or an image or a run-length code cannot be read; the message names it.
    """
    found = Collected()
    seen: set[tuple[Path, Plane]] = set()
    for path in paths:
        coco = read_coco(path)
        files = image_files(coco)
        if None in files.values():  # as in LIVECell, where annotations and images are far apart
            below = image_files(coco, folder)
            files = {key: file or below[key] for key, file in files.items()}
        found.note("image entries whose id stands again further down the file", len(coco.replaced))
        for image_id, cells in coco.annotations.items():
            if image_id not in coco.images:
                found.cells_in += len(cells)
                found.leave_cells("the file holds no image of their id", path.name, len(cells))
        for image_id, entry in coco.images.items():
            _image(found, folder, coco, image_id, files[image_id], plane_of(entry, path) or plane, seen)
            progress()
    return found


def _image(
    found: Collected, folder: Path, coco: CocoFile, image_id: int, file: Path | None, plane: Plane,
    seen: set[tuple[Path, Plane]],
) -> None:  # fmt: skip
    entry, annotations = coco.images[image_id], coco.annotations.get(image_id, [])
    name, count = str(entry["file_name"]), len(annotations)
    found.images_in += 1
    found.cells_in += count
    if file is None:
        found.leave_image("the image file is missing", name, count)
        return
    if (file.resolve(), plane) in seen:
        found.leave_image("the image stands in the files more than once: the first is taken", name, count)
        return
    seen.add((file.resolve(), plane))
    height, width = read_image(file, plane).shape[:2]
    if (height, width) != (entry["height"], entry["width"]):
        size = f"{entry['width']}×{entry['height']}, image {width}×{height}"
        found.leave_image("image and annotations differ in size", f"{name} (annotations {size})", count)
        return
    cells = _cells(found, coco, name, annotations, (height, width))
    taken: dict[str, Any] = {"file_name": Path(os.path.relpath(file, folder)).as_posix()}
    taken |= {"height": height, "width": width}
    taken |= {k: v for k, v in (("page", plane.page), ("channel", plane.channel)) if v is not None}
    taken |= {key: entry[key] for key in KEPT if entry.get(key) is not None}
    if not is_annotated(entry):
        found.leave_cells("their image says that nobody labelled it", name, len(cells))
        cells = []
    found.add(taken, cells)
    found.note("images without a cell", int(is_annotated(entry) and not cells))


def _cells(
    found: Collected, coco: CocoFile, name: str, annotations: Sequence[dict[str, Any]], size: tuple[int, int]
) -> list[dict[str, Any]]:
    single = [a for a in annotations if not a.get("iscrowd")]
    found.leave_cells("they are marked as crowds, not as single cells", name, len(annotations) - len(single))
    try:
        rles = [annotation_rle(a, *size) or empty_rle(*size) for a in single]
        made = annotations_of_codes(rles, *size)
    except (DataError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{coco.path}: cells of {name} cannot be read: {error}") from error
    cells = [cell for cell in made if cell is not None]
    found.leave_cells("their shapes hold no pixel", name, len(made) - len(cells))
    return cells

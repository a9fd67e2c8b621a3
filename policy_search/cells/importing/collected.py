"""What an import gathers: image entries, their cells, and everything that was left out, with the reason."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policy_search.cells.coco import LIVECELL_NAME
from policy_search.cells.errors import InputError
from policy_search.cells.importing.pairing import IMAGE_FOLDERS, LABEL_FOLDERS
from policy_search.cells.instances import InstanceMap, Rle
from policy_search.cells.rle import pixels_of
from policy_search.cells.types import find_cell_type

_SPLIT_FOLDERS = {"train", "training", "val", "valid", "validation", "test", "testing"}


@dataclass
class Reason:
    """Why images or cells were left out.

    Attributes:
        names: of the files.
        cells: known to be in them.
    """

    names: list[str] = field(default_factory=list)
    cells: int = 0


@dataclass
class Collected:
    """Everything that came in is either here as an image or cell, or counted under a reason.

    Attributes:
        images: COCO entries without id.
        cells: annotations of each image, without ids.
        images_in, cells_in: found in what was given.
        images_out: reason → images left out, with their cells.
        cells_out: reason → images of which some cells were left out.
        notes: what a person should know of what was taken, with the number of cells or files.
    """

    images: list[dict[str, Any]] = field(default_factory=list)
    cells: list[list[dict[str, Any]]] = field(default_factory=list)
    images_in: int = 0
    cells_in: int = 0
    images_out: dict[str, Reason] = field(default_factory=dict)
    cells_out: dict[str, Reason] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)

    def add(self, entry: dict[str, Any], cells: list[dict[str, Any]]) -> None:
        """Take an image."""
        self.images.append(entry)
        self.cells.append(cells)

    def leave_image(self, reason: str, name: str, cells: int = 0) -> None:
        """Count an image that is not taken."""
        found = self.images_out.setdefault(reason, Reason())
        found.names.append(name)
        found.cells += cells

    def leave_cells(self, reason: str, name: str, cells: int) -> None:
        """Count cells of a taken image, or of no image, that are not taken."""
        if cells:
            found = self.cells_out.setdefault(reason, Reason())
            found.names.append(name)
            found.cells += cells

    def note(self, text: str, count: int) -> None:
        """Count something worth knowing."""
        if count:
            self.notes[text] = self.notes.get(text, 0) + count


def annotations_of_labels(labels: NDArray[np.integer[Any]]) -> list[dict[str, Any]]:
    """COCO annotations (run-length codes, exact to the pixel) of (H, W) labels, in order of value, without ids.

    Raises:
        DataError: more than 65535 cells.
    """
    values = np.unique(labels)
    instances = InstanceMap.from_labels(labels)
    boxes, areas = instances.boxes().tolist(), instances.areas().tolist()
    return [
        {**annotation(rle, box, area), "label": value}
        for value, rle, box, area in zip(values[values != 0].tolist(), instances.rles(), boxes, areas, strict=True)
    ]


def annotations_of_codes(rles: Sequence[Rle], height: int, width: int) -> list[dict[str, Any] | None]:
    """COCO annotations of run-length codes, None for one without a pixel; without ids.

    Raises:
        DataError: a code is damaged or for another frame.
    """
    found: list[dict[str, Any] | None] = []
    for rle, pixels in zip(rles, pixels_of(rles, height, width), strict=True):
        if len(pixels) == 0:
            found.append(None)
            continue
        rows, columns = pixels // width, pixels % width
        box = [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]
        found.append(annotation(rle, box, len(pixels)))
    return found


def annotation(rle: Rle, box: Iterable[int], area: int) -> dict[str, Any]:
    """One COCO annotation without ids; `box` is XYXY, right and bottom exclusive."""
    x0, y0, x1, y1 = box
    counts = rle["counts"]
    return {
        "category_id": 1,
        "iscrowd": 0,
        "area": area,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "segmentation": {
            "size": list(rle["size"]),
            "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts,
        },
    }


def type_of(name: str, given: str | None, fallback: str) -> str:
    """Cell type of an image by its relative name: what was given, LIVECell's pattern, the first folder that says
    anything, the fallback; in LIVECell's spelling where it is one of LIVECell's."""
    path = PurePosixPath(name)
    match = LIVECELL_NAME.match(path.stem)
    silent = IMAGE_FOLDERS | LABEL_FOLDERS | _SPLIT_FOLDERS
    folders = [p for p in path.parts[:-1] if p.lower() not in silent and p not in ("..", "/") and not p.isdigit()]
    spelt = given or (match["type"] if match else folders[0] if folders else fallback)
    known = find_cell_type(spelt)
    return known.name if known else spelt


def well_of(name: str, pattern: str | None) -> str:
    """Well of an image by its relative name: one group of a regular expression found in the file's name, or `folder`;
    by default LIVECell's pattern, else the image is a well of its own.

    Raises:
        InputError: the pattern does not fit the name.
    """
    path = PurePosixPath(name)
    if pattern == "folder":
        return path.parent.as_posix()
    if pattern is not None:
        match = re.search(pattern, path.name)
        if match is None or not match.group(1):
            raise InputError(f"--well {pattern} does not fit the file name {path.name}: every image needs its well")
        return str(match.group(1))
    match = LIVECELL_NAME.match(path.stem)
    if match:
        return match["well"]
    # Frames of a Cell Tracking Challenge sequence are near copies.
    if re.fullmatch(r"t\d{3,4}", path.stem) and re.fullmatch(r"\d\d", path.parent.name):
        return path.parent.as_posix()
    return path.with_suffix("").as_posix()


def document(images: Sequence[tuple[dict[str, Any], list[dict[str, Any]]]], info: dict[str, Any]) -> dict[str, Any]:
    """A whole COCO file: ids from 1, in the order given."""
    entries = [{"id": number, **entry} for number, (entry, _) in enumerate(images, start=1)]
    annotations: list[dict[str, Any]] = []
    for number, (_, cells) in enumerate(images, start=1):
        annotations += [{"id": len(annotations) + i, "image_id": number, **c} for i, c in enumerate(cells, start=1)]
    return {
        "info": info, "images": entries, "annotations": annotations, "categories": [{"id": 1, "name": "cell"}],
    }  # fmt: skip

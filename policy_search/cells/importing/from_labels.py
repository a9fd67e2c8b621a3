"""Images with label images beside them, gathered as COCO entries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label as components_of

from policy_search.cells.errors import DataError
from policy_search.cells.images import read_image
from policy_search.cells.importing.collected import Collected, annotations_of_labels
from policy_search.cells.importing.label_file import read_labels
from policy_search.cells.importing.pairing import Pairing
from policy_search.cells.planes import Plane

BINARY = "the label image is a mask with one value for all cells: --split-components makes each connected part one cell"
SEVERAL = "several label images fit and differ: --labels 'GLOB' says which are meant"
SHARED = "the label image fits several images: --images 'GLOB' says which are meant"
NONE = "no label image: --keep-unlabelled takes such images as unlabelled ones"


def collect_labels(
    folder: Path,
    pairing: Pairing,
    plane: Plane,
    *,
    split_components: bool = False,
    keep_unlabelled: bool = False,
    progress: Callable[[], None] = lambda: None,
) -> Collected:
    """Read every pair. `file_name` of the entries is relative to `folder`; type and well are left to the caller.

    Raises:
        DataError: an image or a label image that cannot be read or holds what it must not; the message names it.
    """
    found = Collected(images_in=len(pairing.labels))
    owners = Counter(label for labels in pairing.labels.values() for label in labels)
    for name, labels in pairing.labels.items():
        if not labels and keep_unlabelled:
            found.add({**_entry(folder, name, plane), "annotated": False}, [])
        elif not labels:
            found.leave_image(NONE, name)
        elif any(owners[label] > 1 for label in labels):
            found.leave_image(SHARED, name)
        else:
            _pair(found, folder, name, labels, plane, split_components)
        progress()
    found.note("label images that fit no image", len(pairing.without_image))
    found.note("other outputs of cellpose or tracks, not looked at", len(pairing.by_products))
    return found


def _pair(
    found: Collected, folder: Path, name: str, names: Sequence[str], plane: Plane, split_components: bool
) -> None:
    read = [read_labels(folder / label, plane) for label in names]
    labels = read[0]
    count = len(np.unique(labels[labels != 0]))
    if any(not np.array_equal(labels, other) for other in read[1:]):
        found.leave_image(SEVERAL, f"{name}: {', '.join(names)}")
        return
    parts, several = _parts(labels)
    if looks_binary(labels, parts):
        if not split_components:
            found.cells_in += count
            found.leave_image(BINARY, names[0], count)
            return
        labels, count, several = parts, int(parts.max()), 0
    found.cells_in += count
    entry = _entry(folder, name, plane)
    if labels.shape != (entry["height"], entry["width"]):
        size = f"{labels.shape[1]}×{labels.shape[0]}, image {entry['width']}×{entry['height']}"
        found.leave_image("image and label image differ in size", f"{name} (labels {size})", count)
        return
    try:
        cells = annotations_of_labels(labels)
    except DataError as error:
        raise DataError(f"{folder / names[0]}: {error}") from error
    found.add(entry, cells)
    found.note("cells in several parts, each kept as one cell", several)
    found.note("images without a cell in their label image", int(count == 0))


def looks_binary(labels: NDArray[np.int64], parts: NDArray[np.int64]) -> bool:
    """Whether labels (H, W) say only where cells are: one value, 1 or 255, for several connected parts."""
    values = np.unique(labels[labels != 0])
    return len(values) == 1 and int(values[0]) in (1, 255) and int(parts.max()) > 1


def _parts(labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """Connected parts (also across corners) of equal label, numbered from 1, and how many labels have several."""
    parts: NDArray[np.int64] = components_of(labels, background=0, connectivity=2).astype(np.int64)
    first = np.unique(parts, return_index=True)[1]
    owners = labels.ravel()[first]
    counts = np.unique(owners[owners != 0], return_counts=True)[1]
    return parts, int(np.count_nonzero(counts > 1))


def _entry(folder: Path, name: str, plane: Plane) -> dict[str, Any]:
    height, width = read_image(folder / name, plane).shape[:2]
    chosen = {"page": plane.page, "channel": plane.channel}
    return {
        "file_name": name, "height": height, "width": width, **{k: v for k, v in chosen.items() if v is not None},
    }  # fmt: skip

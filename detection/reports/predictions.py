"""Predictions beside ground truth: which images of a run are shown, labelled and found cells on them as outlines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detection.config import PredictConfig
from detection.matches import ImageMatches, average_precision
from detection.overlay import border, overlay
from detection.reports.images import side_by_side
from policy_search.cells.errors import InputError
from policy_search.cells.instances import Instance, InstanceMap

# Okabe and Ito's sky blue and vermilion, which colour-blind readers tell apart; also apart in brightness on grey.
LABELLED, FOUND = (86, 180, 233), (213, 94, 0)
SIDE = 256  # pixels of the part that is shown: outlines must stay visible
SCORE = float(PredictConfig.model_fields["score"].default)


class Chosen(NamedTuple):
    """An image of a type under one run, and why it is shown: `best`, `worst` or `only`."""

    image: str
    kind: str
    ap50: float


class Pair(NamedTuple):
    """Labelled cells left, found cells right.

    Attributes:
        pixels: (H, W, 3) uint8.
        labelled, found: cells on the whole image, found ones with a score of at least `SCORE`.
    """

    pixels: NDArray[np.uint8]
    labelled: int
    found: int


def extremes(images: Sequence[ImageMatches]) -> list[Chosen]:
    """The image with the best and that with the worst AP50 of its own; one where there is one. Ties: first by name.

    Images without a labelled cell have no AP50 and are never chosen.
    """
    scored = [(value, image.image) for image in images if (value := average_precision([image])) is not None]
    if not scored:
        return []
    ordered = sorted(scored, key=lambda pair: (-pair[0], pair[1]))
    if len(ordered) == 1:
        return [Chosen(ordered[0][1], "only", ordered[0][0])]
    return [Chosen(ordered[0][1], "best", ordered[0][0]), Chosen(ordered[-1][1], "worst", ordered[-1][0])]


class Kept:
    """Detections and ground truth of one cell type that a run kept (`detect finetune --keep-detections`).

    Raises:
        InputError: a file is missing or is not COCO's.
    """

    def __init__(self, folder: Path, stem: str) -> None:
        truth = _read(folder / "ground_truth" / f"{stem}.json", dict)
        found = _read(folder / "detections" / f"{stem}.json", list)
        self._images = {str(image["file_name"]): image for image in truth["images"]}
        self._labelled = _by_image(truth["annotations"])
        self._found = _by_image(found)

    def cells(self, image: str) -> tuple[InstanceMap, InstanceMap]:
        """Labelled cells, and found cells with a score of at least `SCORE`.

        Raises:
            InputError: the run did not see that image.
        """
        if image not in self._images:
            raise InputError(f"the detections that were kept are of other images than {image}: run it again")
        entry = self._images[image]
        found = [each for each in self._found.get(entry["id"], []) if each["score"] >= SCORE]
        both = (self._labelled.get(entry["id"], []), found)
        labelled, detected = (
            InstanceMap.from_rles([each["segmentation"] for each in cells], entry["height"], entry["width"])
            for cells in both
        )
        return labelled, detected


def pair(image: NDArray[np.uint8], labelled: InstanceMap, found: InstanceMap) -> Pair:
    """Both sets of outlines on the part of the image that holds most labelled cells.

    Args:
        image: (H, W) or (H, W, 3) uint8.
        labelled, found: cells on that frame.
    """
    grey = overlay(image, [])
    window = fullest(labelled, *grey.shape[:2])
    left, right = outlined(grey, labelled, LABELLED)[window], outlined(grey, found, FOUND)[window]
    return Pair(side_by_side([left, right]), len(labelled), len(found))


def outlined(picture: NDArray[np.uint8], cells: Iterable[Instance], colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    """A copy of an (H, W, 3) picture with the outermost pixels of each cell in one colour."""
    shown = picture.copy()
    for cell in cells:
        x0, y0, x1, y1 = cell.box
        shown[y0:y1, x0:x1][border(cell.mask)] = colour
    return shown


def fullest(cells: Iterable[Instance], height: int, width: int, side: int = SIDE) -> tuple[slice, slice]:
    """Rows and columns of the window, `side` pixels square where the frame allows, with most centres of cells.

    Windows are tried at steps of a quarter of the side and at the far edges; the first of equals is taken.
    """
    boxes = np.array([cell.box for cell in cells], float).reshape(-1, 4)
    xs, ys = boxes[:, [0, 2]].mean(axis=1), boxes[:, [1, 3]].mean(axis=1)
    best, most = (0, 0), -1
    for top in _starts(height, side):
        for left in _starts(width, side):
            inside = int(((xs >= left) & (xs < left + side) & (ys >= top) & (ys < top + side)).sum())
            if inside > most:
                best, most = (top, left), inside
    return slice(best[0], min(best[0] + side, height)), slice(best[1], min(best[1] + side, width))


def _starts(length: int, side: int) -> list[int]:
    last = max(0, length - side)
    return sorted({*range(0, last + 1, side // 4), last})


def _by_image(entries: Iterable[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = {}
    for entry in entries:
        found.setdefault(entry["image_id"], []).append(entry)
    return found


def _read(path: Path, kind: type) -> Any:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise InputError(f"{path} is damaged: not JSON ({error})") from None
    if not isinstance(content, kind):
        raise InputError(f"{path} is damaged: expected COCO's format")
    return content

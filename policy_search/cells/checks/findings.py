"""The problems that a check can find, each with a code that stays the same, and how one is put down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

ERROR, WARNING = "error", "warning"


@dataclass(frozen=True)
class Code:
    """A kind of problem.

    Attributes:
        level: `error` (an image cannot be used, or not rightly) or `warning` (to be looked at).
        counted: what `Finding.count` counts.
        meaning: of the code, as a heading.
    """

    level: str
    counted: str
    meaning: str


CODES: dict[str, Code] = {
    # Files and images that cannot be used.
    "annotations-damaged": Code(ERROR, "files", "annotation file truncated, not JSON or not COCO"),
    "file-changed": Code(ERROR, "files", "not as `data fetch` left it: damaged, changed or gone"),
    "image-missing": Code(ERROR, "images", "annotated, but the image file is not there"),
    "image-damaged": Code(ERROR, "images", "image file truncated or unreadable"),
    "image-size": Code(ERROR, "images", "image and annotations differ in size"),
    "shapes-damaged": Code(ERROR, "images", "outlines that cannot be drawn"),
    "image-id-conflict": Code(ERROR, "images", "one image id for different images: only the last is used"),
    "image-name-conflict": Code(ERROR, "images", "several image entries of one name: only the last is used"),
    # Annotation files.
    "image-entry-repeated": Code(WARNING, "entries", "the same image entry more than once"),
    "annotation-orphaned": Code(WARNING, "annotations", "annotations of an image that is not in the file: never seen"),
    "annotation-hidden": Code(WARNING, "annotations", "annotations of images marked as unlabelled: never seen"),
    "annotation-id-repeated": Code(WARNING, "annotations", "annotation ids that are given more than once"),
    "category-unknown": Code(WARNING, "annotations", "category ids that the file's categories lack"),
    "type-near-miss": Code(WARNING, "images", "cell type spelt almost like one of LIVECell's"),
    # Cells that are lost.
    "cell-empty": Code(WARNING, "annotations", "annotations without a usable ring: left out"),
    "cell-outside": Code(WARNING, "annotations", "annotations wholly outside the frame: left out"),
    "cell-without-pixel": Code(WARNING, "annotations", "annotations too thin to cover a pixel: left out"),
    "crowd-region": Code(WARNING, "annotations", "crowd regions are no cells: left out"),
    # Cells that may be wrong.
    "ring-too-short": Code(WARNING, "annotations", "rings with fewer than three points, beside usable ones: left out"),
    "vertices-outside": Code(WARNING, "annotations", "outlines that reach outside the frame: cut"),
    "bbox-differs": Code(WARNING, "annotations", "bbox and outline disagree (the outline counts)"),
    "area-differs": Code(WARNING, "annotations", "area and outline disagree (the outline counts)"),
    "cell-duplicated": Code(WARNING, "pairs", "cells outlined twice (IoU above 0.9)"),
    "cell-within-another": Code(WARNING, "cells", "cells that lie over 80% within another one"),
    # Images that may be wrong.
    "annotation-incomplete": Code(WARNING, "images", "marked incomplete: right detections may count as false"),
    "cells-few": Code(WARNING, "images", "fewer than 10 annotated cells on 520×704 px: perhaps unfinished"),
    "cells-below-type": Code(WARNING, "images", "under 5% of the cells usual for the type: perhaps unfinished"),
    "image-constant": Code(WARNING, "images", "all pixels are equal"),
    "image-saturated": Code(WARNING, "images", "over a tenth of the pixels are as bright as can be"),
    # Splits.
    "image-repeated": Code(WARNING, "images", "the same pixels under several names"),
    "image-in-two-splits": Code(WARNING, "images", "the same pixels in two splits: scores are of images trained on"),
    "wells-shared": Code(WARNING, "wells", "wells in two splits: their images are near copies, scores too good"),
}


@dataclass(frozen=True)
class Finding:
    """One problem of one record.

    Attributes:
        code: one of `CODES`.
        record: id of the image; where it is about more than one image, the annotation file or the cell type.
        split: `train`, `val`, `test` or `unlabeled`; two joined by ` and ` where it lies between them; may be empty.
        text: what is wrong with this record.
        count: how many of what the code counts.
    """

    code: str
    record: str
    split: str
    text: str
    count: int = 1

    def __post_init__(self) -> None:
        if self.code not in CODES:
            raise ValueError(f"{self.code} is not one of the codes: {', '.join(CODES)}")

    @property
    def level(self) -> str:
        """`error` or `warning`."""
        return CODES[self.code].level

    def document(self) -> dict[str, Any]:
        """As JSON types."""
        return {"level": self.level, **vars(self)}


def some(items: list[str], most: int = 3) -> str:
    """The first of them, and how many more."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more


def amount(count: int, one: str) -> str:
    """A number with its noun: 1 cell, 2 cells."""
    return f"{count} {one}{'' if count == 1 else 's'}"

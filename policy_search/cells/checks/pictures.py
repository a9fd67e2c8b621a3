"""Checks of one image's pixels: whether they can be read, hold a picture, and are those of another image."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policy_search.cells.checks.findings import Finding
from policy_search.cells.dataset import CellDataset, ImageRecord
from policy_search.cells.errors import DataError, SizeError
from policy_search.cells.livecell import FileReader

SATURATED = 0.1  # share of the pixels; the halos of phase contrast stay under a hundredth


def read(dataset: CellDataset, record: ImageRecord) -> NDArray[np.uint8] | Finding:
    """The pixels, (H, W) or (H, W, 3) uint8, or why there are none."""
    try:
        return dataset.image(record)
    except SizeError as error:
        return Finding("image-size", record.id, record.split, str(error))
    except DataError as error:
        code = "image-missing" if _is_missing(dataset.reader, record) else "image-damaged"
        return Finding(code, record.id, record.split, str(error))


def _is_missing(reader: Any, record: ImageRecord) -> bool:
    if not isinstance(reader, FileReader):
        return False
    path = reader.files.get(record.id)
    return path is None or not path.exists()


def pixel_findings(image: NDArray[np.uint8], record: ImageRecord) -> list[Finding]:
    """Whether the pixels hold a picture at all."""
    lowest, highest = int(image.min()), int(image.max())
    if lowest == highest:
        return [Finding("image-constant", record.id, record.split, f"all pixels are {lowest}")]
    share = np.count_nonzero(image == 255) / image.size if highest == 255 else 0.0
    if share <= SATURATED:
        return []
    return [Finding("image-saturated", record.id, record.split, f"{share:.0%} of the pixels are white (255)")]


def digest(image: NDArray[np.uint8]) -> bytes:
    """16 bytes that are equal for equal pixels, whatever the file looks like."""
    code = hashlib.blake2b(str(image.shape).encode(), digest_size=16)
    code.update(np.ascontiguousarray(image).data)
    return code.digest()

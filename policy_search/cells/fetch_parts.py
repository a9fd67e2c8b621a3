"""What LIVECell consists of on its server, and when a part of it is whole."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from policy_search.cells.coco import read_coco
from policy_search.cells.errors import DataError, InputError
from policy_search.cells.livecell import SPLITS
from policy_search.cells.types import CELL_TYPES, CellType, cell_type

BASE = "https://livecell-dataset.s3.eu-central-1.amazonaws.com/LIVECell_dataset_2021/"
IMAGES = "images.zip"
PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # how a file of PyTorch before 1.6 begins


@dataclass(frozen=True)
class Part:
    """One file that is fetched whole.

    Attributes:
        path: below the server's address, and below the folder.
        check: gives the file names of the images that a file at a path is about; raises DataError when it is not such
            a part.
    """

    path: str
    check: Callable[[Path], set[str]]


def base_address() -> str:
    """Where LIVECell is fetched from: LIVECELL_URL, else its public bucket.

    Raises:
        InputError: the variable holds no web address.
    """
    base = os.environ.get("LIVECELL_URL") or BASE
    parts = urlsplit(base)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise InputError(f"LIVECELL_URL is {base!r}: expected an address such as {BASE}")
    return base


def wanted_types(names: Sequence[str]) -> tuple[CellType, ...]:
    """The types that names mean, in LIVECell's order and each once; `all` means the eight.

    Raises:
        DataError: no such type.
    """
    chosen = {t for name in names for t in (CELL_TYPES if name.lower() == "all" else (cell_type(name),))}
    return tuple(t for t in CELL_TYPES if t in chosen)


def wanted_splits(names: str | None) -> tuple[str, ...]:
    """The splits that a user names by commas; None means all.

    Raises:
        InputError: no such split.
    """
    if names is None:
        return SPLITS
    chosen = {name.strip().lower() for name in names.split(",")}
    unknown = chosen - set(SPLITS)
    if unknown:
        raise InputError(f"--split {names}: expected {', '.join(SPLITS)}, or several by commas")
    return tuple(split for split in SPLITS if split in chosen)


def annotation_part(kind: CellType, split: str) -> Part:
    """The annotation file of a type and split."""
    folder = kind.name.lower()
    return Part(f"annotations/LIVECell_single_cells/{folder}/{split}.json", lambda path: annotated_images(path, kind))


def model_part(kind: CellType) -> Part:
    """The published anchor-based model of a type."""
    return Part(f"models/Anchor_based/{kind.name}/LIVECell_anchor_based_{kind.name.lower()}_model.pth", check_weights)


def annotated_images(path: Path, kind: CellType) -> set[str]:
    """The file names of a type's images in an annotation file.

    Raises:
        DataError: damaged, without an annotation, or without an image of that type.
    """
    coco = read_coco(path)
    own = {Path(str(entry["file_name"])).name for _, entry in coco.images_of(kind.name)}
    if not own or not coco.annotations:
        raise DataError(
            f"{path} lists {len(coco.images)} images, {len(own)} of them of {kind.name}, and annotations of "
            f"{len(coco.annotations)}: it is not the annotation file of {kind.name}"
        )
    return own


def check_weights(path: Path) -> set[str]:
    """Whether a file can be PyTorch's: a zip whose entries have their checksums, or a pickle. Nothing of it is run.

    Returns:
        No image.

    Raises:
        DataError: neither.
    """
    with path.open("rb") as file:
        begins = file.read(2)
    if begins in PICKLES:
        return set()
    try:
        if begins != b"PK":
            raise DataError(f"{path} is no file of PyTorch's: neither a zip nor a pickle")
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, struct.error) as error:
        raise DataError(f"{path} is no zip that can be read: {error}") from error
    if broken is not None:
        raise DataError(f"{path} is damaged: its entry {broken} has another checksum")
    return set()

"""Which label image belongs to which image, by the names and folders that labs and their tools use."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from policy_search.cells.errors import InputError
from policy_search.cells.importing.label_file import SEG_ENDING
from policy_search.cells.livecell import IMAGE_SUFFIXES

LABEL_SUFFIXES = {".tif", ".tiff", ".png"}
IMAGE_FOLDERS = {"image", "images", "img", "imgs", "raw"}
LABEL_FOLDERS = {"mask", "masks", "label", "labels", "annotation_masks", "instance_masks"}
_LABEL_STEM = re.compile(r"_(cp_masks|masks?|labels?|seg|instances?(_ids)?)$", re.IGNORECASE)
_IMAGE_STEM = re.compile(r"_(img|image|raw)$", re.IGNORECASE)
# What cellpose writes beside its masks, to be looked at.
_BY_PRODUCT = re.compile(r"_(cp_)?(flows(_cp_masks)?|output|outlines|styles)$", re.IGNORECASE)
# Cell Tracking Challenge: 01/t000.tif, 01_GT/SEG/man_seg000.tif, silver truth in 01_ST/SEG.
_CTC_LABEL = re.compile(r"^(?P<base>.*?)(?P<run>\d\d)_(GT|ST)/SEG/man_seg(?P<time>\d{3,4})\.tiff?$")
_CTC_IMAGE = re.compile(r"^(?P<base>.*?)(?P<run>\d\d)/t(?P<time>\d{3,4})\.tiff?$")
_CTC_TRACKS = re.compile(r"(^|/)\d\d_(GT|ST)/(TRA|SEG)/|(^|/)\d\d_RES/")

Key = tuple[str, ...]


@dataclass(frozen=True)
class Pairing:
    """Names are relative to the folder, with `/`.

    Attributes:
        labels: of each image the label images that fit; none, one, or several.
        without_image: label images that fit no image.
        by_products: files that are neither, such as cellpose's flows.
    """

    labels: Mapping[str, tuple[str, ...]]
    without_image: tuple[str, ...]
    by_products: tuple[str, ...]


def names_below(folder: Path) -> list[str]:
    """Every file below a folder, hidden ones left out, in order."""
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        base = Path(parent).relative_to(folder)
        found += [(base / name).as_posix() for name in names if not name.startswith(".")]
    return sorted(found)


def pair(names: Iterable[str], images_glob: str | None = None, labels_glob: str | None = None) -> Pairing:
    """Pair images with label images by name.

    Args:
        names: of files, relative, with `/`.
        images_glob: which of them are images; by rule when None.
        labels_glob: which of them are label images; by rule when None. With both, an image and a label image belong
            together where their wildcards stand for the same text.

    Raises:
        InputError: a pattern fits no file, or both hold a different number of wildcards.
    """
    usable = [n for n in names if n.endswith(SEG_ENDING) or PurePosixPath(n).suffix.lower() in IMAGE_SUFFIXES]
    by_products = [n for n in usable if _by_product(n)] if not labels_glob else []
    usable = [n for n in usable if n not in set(by_products)]
    if labels_glob:
        labels = _chosen(usable, labels_glob, "--labels")
    else:
        labels = {n: () for n in usable if _is_label(n)}
    if images_glob:
        images = _chosen(usable, images_glob, "--images")
        if not labels_glob:
            labels = {n: key for n, key in labels.items() if n not in images}
    else:
        images = {n: () for n in usable if n not in labels and not n.endswith(SEG_ENDING)}
        if labels_glob:
            images = {n: key for n, key in images.items() if not _by_product(n) and not _is_label(n)}
    if images_glob and labels_glob:
        if len(next(iter(images.values()))) != len(next(iter(labels.values()))):
            raise InputError(
                f"--images {images_glob} and --labels {labels_glob}: expected as many wildcards in both, because an "
                "image and its label image are those whose wildcards stand for the same text"
            )
        fits = _matches({n: [key] for n, key in images.items()}, {n: [key] for n, key in labels.items()})
    else:
        fits = _matches({n: _image_keys(n) for n in images}, {n: _label_keys(n) for n in labels})
    used = {label for found in fits.values() for label in found}
    return Pairing(fits, tuple(n for n in labels if n not in used), tuple(by_products))


def _by_product(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(_BY_PRODUCT.search(path.stem)) or bool(_CTC_TRACKS.search(name) and not _CTC_LABEL.match(name))


def _matches(images: Mapping[str, list[Key]], labels: Mapping[str, list[Key]]) -> dict[str, tuple[str, ...]]:
    by_key: dict[Key, list[str]] = defaultdict(list)
    for name, keys in labels.items():
        for key in dict.fromkeys(keys):
            by_key[key].append(name)
    return {
        name: tuple(dict.fromkeys(label for key in keys for label in by_key.get(key, ()) if label != name))
        for name, keys in images.items()
    }


def _chosen(names: list[str], glob: str, option: str) -> dict[str, Key]:
    """The names that a pattern fits, with the text that each of its wildcards stands for."""
    parts = re.split(r"(\*\*/|\*|\?)", glob.removeprefix("./"))
    groups = {"**/": "((?:[^/]+/)*)", "*": "([^/]*)", "?": "([^/])"}
    pattern = re.compile("".join(groups.get(part, re.escape(part)) for part in parts))
    found = {name: tuple(match.groups()) for name in names if (match := pattern.fullmatch(name))}
    if not found:
        raise InputError(f"{option} {glob}: no image file in the folder has such a name, for example {names[:1]}")
    return found


def _is_label(name: str) -> bool:
    path = PurePosixPath(name)
    if name.endswith(SEG_ENDING) or _CTC_LABEL.match(name):
        return True
    inside = any(part.lower() in LABEL_FOLDERS for part in path.parts[:-1])
    return path.suffix.lower() in LABEL_SUFFIXES and (inside or bool(_LABEL_STEM.search(path.stem)))


def _folder(path: PurePosixPath) -> str:
    """The folder with `*` for the parts that only say whether images or labels are in it."""
    return "/".join("*" if part.lower() in IMAGE_FOLDERS | LABEL_FOLDERS else part for part in path.parts[:-1])


def _image_keys(name: str) -> list[Key]:
    if ctc := _CTC_IMAGE.match(name):
        return [("ctc", ctc["base"], ctc["run"], ctc["time"]), *_plain_keys(name)]
    return _plain_keys(name)


def _plain_keys(name: str) -> list[Key]:
    path = PurePosixPath(name)
    folder = _folder(path)
    folders = [folder] if "*" in folder.split("/") else [folder, f"{folder}/*".lstrip("/")]
    return [(place, stem) for place in folders for stem in (path.stem, _IMAGE_STEM.sub("", path.stem))]


def _label_keys(name: str) -> list[Key]:
    if ctc := _CTC_LABEL.match(name):
        return [("ctc", ctc["base"], ctc["run"], ctc["time"])]
    path = PurePosixPath(name)
    stem = name.rsplit("/", 1)[-1].removesuffix(SEG_ENDING) if name.endswith(SEG_ENDING) else path.stem
    stripped = _LABEL_STEM.sub("", stem)
    return [(_folder(path), s) for s in (stem, stripped, _IMAGE_STEM.sub("", stripped))]

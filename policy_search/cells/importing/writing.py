"""The COCO files of an import: names, types and wells filled in, divided into splits, written all or none."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from policy_search.cells.errors import InputError
from policy_search.cells.files import replacing
from policy_search.cells.importing.collected import Collected, document, type_of, well_of
from policy_search.cells.importing.well_splits import SPLITS, split_by_well

Image = tuple[dict[str, Any], list[dict[str, Any]]]


def described(
    found: Collected, folder: Path, out: Path, cell_type: str | None = None, well: str | None = None
) -> list[Image]:
    """The images with `cell_type`, `well` and a `file_name` relative to the file to be written.

    Args:
        found: with names relative to `folder`.
        folder: that was imported.
        out: of the COCO file.
        cell_type: for all images; else that of the entry, else by name (`type_of`), at last the stem of `out`.
        well: see `well_of`; None takes the entry's own well first.

    Raises:
        InputError: the pattern for wells does not fit a name.
    """
    images = []
    for entry, cells in zip(found.images, found.cells, strict=True):
        name = str(entry["file_name"])
        said = str(entry["cell_type"]) if entry.get("cell_type") else None
        kind = type_of(name, cell_type or said, out.stem)
        own = str(entry["well"]) if well is None and entry.get("well") else f"{kind}/{well_of(name, well)}"
        images.append(({**entry, "file_name": _from(out, folder / name), "cell_type": kind, "well": own}, cells))
    return images


def targets(out: Path, fractions: Sequence[float] | None, force: bool) -> dict[str, Path]:
    """Where each split goes; one file under the name `all` without fractions.

    Raises:
        InputError: one of the files is there and `force` does not say that it may be replaced, or a file of an earlier
            import would be taken for a split of this one.
    """
    beside = {split: out.with_name(f"{out.stem}_{split}{out.suffix}") for split in (*SPLITS, "unlabeled")}
    if fractions is None:
        chosen = {"all": out}
    else:
        chosen = {s: beside[s] for s, share in zip(SPLITS, fractions, strict=True) if share > 0}
        stale = [str(path) for split, path in beside.items() if split not in chosen and path.exists()]
        if stale:
            raise InputError(f"{', '.join(stale)} would be read as a split of this dataset: remove it first")
    there = [str(path) for path in chosen.values() if path.exists()]
    if there and not force:
        raise InputError(f"{', '.join(there)} exists already: --force replaces it, or choose another name with --out")
    return chosen


def write(
    images: Sequence[Image], files: dict[str, Path], fractions: Sequence[float] | None, seed: int, info: dict[str, Any]
) -> dict[str, Counter[str]]:
    """Write the COCO files, all of them or none; returns `images`, `cells` and `wells` of each split.

    Raises:
        InputError: there are too few wells for the splits, or the folder cannot be written.
    """
    if fractions is None:
        splits = ["all"] * len(images)
    else:
        wells, types = [e["well"] for e, _ in images], [e["cell_type"] for e, _ in images]
        splits = split_by_well(wells, types, fractions, np.random.default_rng(seed))
    counts: dict[str, Counter[str]] = {}
    with ExitStack() as stack:
        for split, path in files.items():
            part = [image for image, chosen in zip(images, splits, strict=True) if chosen == split]
            scratch = stack.enter_context(replacing(path))
            text = json.dumps(document(part, info), ensure_ascii=False, allow_nan=False)
            scratch.write_text(text + "\n", encoding="utf-8")
            counts[split] = Counter(
                images=len(part), cells=sum(len(cells) for _, cells in part), wells=len({e["well"] for e, _ in part})
            )
    return counts


def _from(out: Path, image: Path) -> str:
    """The image's path as seen from the file's folder; absolute where there is no such path (another drive)."""
    try:
        return Path(os.path.relpath(image.resolve(), out.resolve().parent)).as_posix()
    except ValueError:
        return image.resolve().as_posix()

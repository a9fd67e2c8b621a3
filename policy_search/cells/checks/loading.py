"""Opening every split of what a user named, with a finding where a file is damaged and the rest still opened."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from policy_search.cells.checks.entries import coco_files
from policy_search.cells.checks.findings import Finding
from policy_search.cells.dataset import CellDataset
from policy_search.cells.errors import DamagedFile, DataError
from policy_search.cells.fetched import FILE, verify_fetched
from policy_search.cells.images import read_image
from policy_search.cells.livecell import IMAGE_SUFFIXES, FileReader, dataset_folder, home, types_in
from policy_search.cells.sources import SPLITS, find_root, resolve


class Opened(NamedTuple):
    """One split, or a part of it.

    Attributes:
        dataset: its images; perhaps none.
        findings: files that could not be opened.
        same: True if an earlier split came from the same file, so that there is nothing more to look at.
    """

    dataset: CellDataset
    findings: tuple[Finding, ...] = ()
    same: bool = False


def open_splits(data: str, root: Path | None = None) -> Iterator[Opened]:
    """All splits behind a `--data` name, one after the other; a split that is not there is empty.

    Raises:
        DataError: unknown name or missing folder; not for damaged files, these are findings.
    """
    if changed := _changed(data, root):
        yield _nothing(data, *changed)
    before: set[str] = set()
    told: set[str] = set()
    for split in SPLITS:
        for opened in _open(data, split, root):
            files = {str(coco.path) for coco in coco_files(opened.dataset)}
            single_file = ".json" in data.lower()  # a union file of LIVECell holds several types
            new = tuple(f for f in opened.findings if f.record not in told)  # one file may stand behind every split
            yield Opened(opened.dataset, new, same=single_file and bool(files) and files <= before)
            before |= files
            told |= {f.record for f in new}


def _changed(data: str, root: Path | None) -> list[Finding]:
    """Files that `data fetch` recorded and that are no longer what they were."""
    if "/" in data or ".json" in data.lower():
        return []
    folder = find_root(root)
    if folder is None:
        return []
    record = home(folder) / FILE
    return [Finding("file-changed", str(record), "", text) for text in verify_fetched(record.parent)]


def _open(data: str, split: str, root: Path | None) -> Iterator[Opened]:
    try:
        yield Opened(resolve(data, split, root, missing_ok=True, fetch=False))
        return
    except DamagedFile as error:
        damaged = error
    except DataError:
        if split != "unlabeled":
            raise
        found = _damaged_unlabeled(root)
        if not found:
            raise
        yield _nothing(data, *found)
        return
    parts = _types(data, root)
    if len(parts) == 1:
        yield _nothing(data, Finding("annotations-damaged", str(damaged.path), split, str(damaged)))
        return
    for part in parts:
        yield from _open(part, split, root)


def _nothing(data: str, *findings: Finding) -> Opened:
    return Opened(CellDataset(data, (), FileReader({}, {})), findings)


def _types(data: str, root: Path | None) -> list[str]:
    """The types that a name stands for, one by one; the name itself where it cannot be taken apart."""
    if "/" in data or ".json" in data.lower():
        return [data]
    names = [name.strip() for name in data.split(",")]
    if data.lower() != "all":
        return names
    folder = find_root(root)
    try:
        return list(types_in(folder)) if folder is not None else names
    except DamagedFile:  # the union file: no type can be told from it
        return names


def _damaged_unlabeled(root: Path | None) -> list[Finding]:
    """Unlabelled images that cannot be read: their size is what is known of an unlabelled image."""
    folder = find_root(root)
    found = []
    for path in sorted((dataset_folder(folder) / "unlabeled").rglob("*")) if folder is not None else []:
        if path.suffix.lower() in IMAGE_SUFFIXES:
            try:
                read_image(path)
            except DataError as error:
                found.append(
                    Finding("image-damaged", f"{path.parent.name}/unlabeled/{path.stem}", "unlabeled", str(error))
                )
    return found

"""The images that a fine-tune is tested on, from `--eval`: cell types of the source's own kind, and COCO files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from policy_search.cells import CellDataset, resolve
from policy_search.cells.errors import InputError
from policy_search.cells.livecell import FileReader, merge_readers

DEMO = "demo/"


def to_test_on(data: str, wanted: str, root: Path | None) -> CellDataset:
    """What to test on, given a source name and a list by commas of cell types, `all` and COCO files.

    `all` is every type with an image under the root; for a source in the demo culture every type there, and for a
    source that is a COCO file, its own test split. Items with `.json` are COCO files, as for `--data`; their test
    splits are added. The dataset's name is a value of `--eval` that means the same whatever the source is.

    Raises:
        InputError: unknown name; nothing labelled to test on; a cell type that comes from two places; or the demo
            culture together with files.
    """
    items = [item.strip() for item in wanted.split(",")]
    types, files = [i for i in items if not _is_file(i)], [i for i in items if _is_file(i)]
    parts = []
    if _is_file(data) and "all" in map(str.lower, types):
        types = [name for name in types if name.lower() != "all"]
        parts.append(_labelled(data, root, missing_ok=True))
    if types:
        text = ",".join(types)
        prefix = DEMO if data.lower().startswith(DEMO) and not text.lower().startswith(DEMO) else ""
        part = _labelled(prefix + text, root, missing_ok=text.lower() == "all")
        parts.append(replace(part, name=(DEMO if part.synthetic else "") + ",".join(part.cell_types) or part.name))
    parts += [_labelled(file, root) for file in files]
    full = [part for part in parts if len(part)]
    if not full:
        raise InputError(_nothing(", ".join(part.name for part in parts)))
    return full[0] if len(full) == 1 else _joined(full)


def _is_file(name: str) -> bool:
    return ".json" in name.lower()


def _nothing(name: str) -> str:
    return f"there is no labelled test image for {name}: choose types that have one with --eval"


def _labelled(name: str, root: Path | None, *, missing_ok: bool = False) -> CellDataset:
    part = replace(resolve(name, "test", root, missing_ok=missing_ok).where(lambda record: record.annotated), name=name)
    if len(part) == 0 and not missing_ok:
        raise InputError(_nothing(name))
    return part


def _joined(parts: Sequence[CellDataset]) -> CellDataset:
    """One dataset over all; its reader finds a record's files by the record's id."""
    readers = [part.reader for part in parts if isinstance(part.reader, FileReader)]
    if len(readers) < len(parts):
        raise InputError("--eval names the demo culture and a file: test on them in two commands, as one is synthetic")
    homes: dict[str, str] = {}
    for part in parts:
        for cell_type in part.cell_types:
            if cell_type in homes:
                raise InputError(
                    f"--eval: the cell type {cell_type} is in {homes[cell_type]} and in {part.name}; every type can be "
                    "tested once: leave out one of them"
                )
            homes[cell_type] = part.name
    records = tuple(record for part in parts for record in part.records)
    twice = [name for name, count in Counter(record.id for record in records).items() if count > 1]
    if twice:
        raise InputError(f"--eval: two test images are called {twice[0]}: rename one of the files")
    return CellDataset(",".join(part.name for part in parts), records, merge_readers(readers))

"""What a user types for `--data`, turned into a dataset."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from pathlib import Path

from policy_search.cells.coco_dataset import coco_dataset
from policy_search.cells.dataset import CellDataset
from policy_search.cells.errors import DataError
from policy_search.cells.fetch_automatic import complete, fetch_command, turned_off
from policy_search.cells.livecell import SPLITS as LIVECELL_SPLITS
from policy_search.cells.livecell import FileReader, has_data, livecell_dataset, types_in
from policy_search.cells.types import CELL_TYPES, cell_type, find_cell_type

SPLITS = ("train", "val", "test", "unlabeled")
DEMO = "demo/"


def find_root(root: str | Path | None = None) -> Path | None:
    """LIVECell's folder: the argument, else LIVECELL_ROOT, else the user cache; None if nothing is in the last.

    Raises:
        DataError: the folder named by the argument or the variable is missing.
    """
    for value, origin in ((root, "--root"), (os.environ.get("LIVECELL_ROOT"), "LIVECELL_ROOT")):
        if value:
            folder = Path(value).expanduser()
            if not folder.is_dir():
                raise DataError(
                    f"{origin} points at {folder}, which is not a folder. To fetch LIVECell into it: "
                    f"{fetch_command(['A172'], root=folder)}"
                )
            return folder
    cache = cache_root()
    return cache if has_data(cache) else None  # a fetch without a network leaves an empty folder


def cache_root() -> Path:
    """Where LIVECell is looked for when nobody says where it is."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "policy-search" / "livecell"


def resolve(
    data: str,
    split: str = "train",
    root: str | Path | None = None,
    *,
    missing_ok: bool = False,
    fetch: bool = True,
) -> CellDataset:
    """The dataset behind a `--data` name (design 3.1).

    A LIVECell type that is not in the user cache is fetched into it, unless a root is given, LIVECELL_ROOT is set, or
    POLICY_SEARCH_OFFLINE=1.

    Args:
        data: a cell type in any spelling, several joined by commas, `all`, the same under `demo/`, or
            `path/to/coco.json[:images_dir]`.
        split: train, val, test or unlabeled.
        root: LIVECell's folder (see `find_root`); only for names that mean LIVECell.
        missing_ok: give an empty dataset where the split has no image, instead of an error.
        fetch: False takes what is there.

    Raises:
        DataError: unknown name, missing folder, damaged file, or (unless `missing_ok`) an empty split.
    """
    if split not in SPLITS:
        raise DataError(f"unknown split {split!r}: expected one of {', '.join(SPLITS)}")
    if data.lower().startswith(DEMO):
        dataset = _demo(data[len(DEMO) :], split)
    elif ".json" in data.lower() or "/" in data or os.sep in data:
        dataset = _coco(data, split)
    else:
        dataset = _livecell(data, split, root, fetch)
    if len(dataset) == 0 and not missing_ok:
        raise DataError(f"{data} has no {split} images" + _where(data, split, root))
    return dataset


def _where(data: str, split: str, root: str | Path | None) -> str:
    folder = None if data.lower().startswith(DEMO) or ".json" in data.lower() else find_root(root)
    if folder is None:
        return ""
    text = f" in {folder}; `policy-search data list` shows what is there"
    names = _names(data)
    if split not in LIVECELL_SPLITS or not all(name.lower() == "all" or find_cell_type(name) for name in names):
        return text  # nobody has these
    return f"{text}, `{fetch_command(names, split, None if folder == cache_root() else folder)}` fetches them"


def _demo(names: str, split: str) -> CellDataset:
    from policy_search.cells.demo import demo_dataset  # only the demo needs its renderer

    if names.lower() == "all":
        types = [t.name for t in CELL_TYPES]
    else:
        types = [cell_type(n).name for n in names.split(",")]
    return demo_dataset(types, split)


def _livecell(data: str, split: str, root: str | Path | None, fetch: bool) -> CellDataset:
    own_folder = root or os.environ.get("LIVECELL_ROOT")
    folder = find_root(root)
    if fetch and not own_folder and not turned_off() and split in LIVECELL_SPLITS:
        folder = cache_root()
        present = types_in(folder) if has_data(folder) else ()
        chosen = _chosen(data, list(dict.fromkeys([*(t.name for t in CELL_TYPES), *present])), folder)
        complete([t for t in CELL_TYPES if t.name in chosen], split, folder)
    elif folder is None:
        known = ["all" if n.lower() == "all" else cell_type(n).name for n in _names(data)]
        raise DataError(
            f"LIVECell is not here: {data} was looked for in {cache_root()}, and neither --root nor LIVECELL_ROOT is "
            f"set. `{fetch_command(known)}` fetches it, or try the built-in synthetic culture: "
            f"--data demo/{','.join(known)}"
        )
    else:
        chosen = _chosen(data, types_in(folder), folder)
    return livecell_dataset(data, chosen, split, folder)


def _names(data: str) -> list[str]:
    return [name.strip() for name in data.split(",")]


def _chosen(data: str, present: Sequence[str], folder: Path) -> list[str]:
    """The types that `--data` means: such as are there, or LIVECell's. Raises DataError with the nearest."""
    if data.lower() == "all":
        return list(present)
    chosen = []
    for name in _names(data):
        local = next((p for p in present if p.lower() == name.lower()), None)
        known_type = find_cell_type(name)
        if local is not None:
            chosen.append(local)
        elif known_type is not None:
            chosen.append(known_type.name)
        else:
            near = difflib.get_close_matches(name.lower(), {p.lower(): p for p in present}, n=1, cutoff=0.5)
            if near:
                match = next(p for p in present if p.lower() == near[0])
                raise DataError(f"unknown cell type {name!r} in {folder}. Did you mean {match}?")
            cell_type(name)  # raises with the nearest of LIVECell's types
    return chosen


def _coco(data: str, split: str) -> CellDataset:
    """A COCO file. Its name may hold a split word; then `x_train.json` and `x_val.json` are splits of one dataset.

    A file without a split word is taken as it is for `train` and `test`, and has no `val`. Unlabelled images may stand
    in a file of their own or among the others (`"annotated": false`).
    """
    text, _, images_dir = data.rpartition(":") if ".json:" in data.lower() else (data, "", "")
    path = _split_file(Path(text).expanduser(), split)
    if path is None:
        return CellDataset(data, (), FileReader({}, {}))
    return coco_dataset(data, path, split, Path(images_dir).expanduser() if images_dir else None)


def _split_file(path: Path, split: str) -> Path | None:
    if not path.is_file():
        raise DataError(f"no such COCO file: {path}")
    word = next((s for s in ("train", "val", "test") if s in path.stem.lower()), None)
    if word is None:
        return None if split == "val" else path
    if word == split:
        return path
    sibling = path.with_name(
        path.name.lower().replace(word, split) if path.name.islower() else path.name.replace(word, split)
    )
    if sibling != path and sibling.is_file():
        return sibling
    return path if split == "unlabeled" else None

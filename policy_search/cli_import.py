"""The command `policy-search data import`: a COCO file of what a lab has; what came in and went out."""

from __future__ import annotations

import textwrap
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from policy_search.cells.errors import InputError
from policy_search.config import ImportConfig
from policy_search.image_bar import image_bar

if TYPE_CHECKING:
    from policy_search.cells.importing.collected import Collected, Reason

console = Console()
SHOWN = 3  # names of each reason; the rest is counted


def import_data(
    folder: Annotated[Path, typer.Argument(help="Images with label images, or COCO files; or one COCO file.")],
    out: Annotated[Path, typer.Option(help="COCO file to write (.json).")],
    page: Annotated[int | None, typer.Option(help="Plane of multi-page files, counted from 1.")] = None,
    channel: Annotated[int | None, typer.Option(help="Channel of files with several, counted from 1.")] = None,
    type_name: Annotated[
        str | None, typer.Option("--type", help="Cell type. Default: by file name or folder, else the name of --out.")
    ] = None,
    well: Annotated[
        str | None,
        typer.Option(help="Regular expression with one group over the file name, or 'folder'. Default: by LIVECell's "
                          "names, else each image is a well of its own."),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Shares of train, val and test by well, as 0.7,0.15,0.15. Default: one file.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides which wells go into which split.")] = 0,
    images: Annotated[str | None, typer.Option(help="Which files are images, as 'raw/*.tif'.")] = None,
    labels: Annotated[str | None, typer.Option(help="Which files are label images, as 'seg/*_cells.tif'.")] = None,
    split_components: Annotated[
        bool, typer.Option("--split-components", help="Masks with one value for all cells: each part is a cell.")
    ] = False,
    keep_unlabelled: Annotated[
        bool, typer.Option("--keep-unlabelled", help="Take images without a label image as unlabelled ones.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
) -> None:  # fmt: skip
    """Make a COCO file of label images (TIFF, PNG, cellpose) or of COCO files. Images are not copied."""
    from policy_search.cells.importing import writing
    from policy_search.cells.importing.from_coco import MADE_BY

    config = ImportConfig(
        folder=folder, out=out, page=page, channel=channel, type=type_name, well=well, split=_shares(split), seed=seed,
        images=images, labels=labels, split_components=split_components, keep_unlabelled=keep_unlabelled, force=force,
    )  # fmt: skip
    files = writing.targets(config.out, config.split, config.force)
    base = folder.parent if folder.is_file() else folder
    found = _collect(config, base)
    if not any(entry.get("annotated") is not False for entry in found.images):
        why = "; ".join(f"{reason} ({len(what.names)})" for reason, what in found.images_out.items())
        raise InputError(f"{folder} holds no labelled image that can be used: {why or 'no image was found'}")
    entries = writing.described(found, base, config.out, config.type, config.well)
    info = {"made_by": MADE_BY, "options": config.identity()}
    counts = writing.write(entries, files, config.split, config.seed, info)
    _print(found, entries, counts, files)


def register(data_app: typer.Typer) -> None:
    """Add the command to `policy-search data`."""
    data_app.command("import", epilog="Example: policy-search data import my_images --out my.json")(import_data)


def _shares(text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--split: expected three shares, as 0.7,0.15,0.15, found {text!r}") from None


def _collect(config: ImportConfig, base: Path) -> Collected:
    from policy_search.cells.importing.from_coco import coco_files_in, collect_coco
    from policy_search.cells.importing.from_labels import collect_labels
    from policy_search.cells.importing.pairing import names_below, pair
    from policy_search.cells.planes import Plane

    plane = Plane(config.page, config.channel)
    if not config.folder.exists():
        raise InputError(f"no such folder: {config.folder}")
    names = [config.folder.name] if config.folder.is_file() else names_below(base)
    with image_bar() as bar:
        task = bar.add_task("reading images", total=None)
        files = [] if config.labels else coco_files_in(base, names)
        if config.folder.is_file() and not files:
            raise InputError(f"{config.folder} is not a COCO file: expected one, or a folder with images")
        if not files:
            pairing = pair(names, config.images, config.labels)
            bar.update(task, total=len(pairing.labels))
            return collect_labels(
                base, pairing, plane, split_components=config.split_components,
                keep_unlabelled=config.keep_unlabelled, progress=lambda: bar.advance(task),
            )  # fmt: skip
        beside = [n for n, labels in pair(names).labels.items() if labels]
        if beside:
            raise InputError(
                f"{config.folder} holds a COCO file ({files[0].name}) and label images (of {beside[0]}): name the COCO "
                "file, or the label images with --labels 'GLOB'"
            )
        return collect_coco(base, files, plane, lambda: bar.advance(task))


def _print(found: Collected, entries: list[Any], counts: dict[str, Counter[str]], files: dict[str, Path]) -> None:
    cells_out = sum(count["cells"] for count in counts.values())
    _line(f"in:  {_amount(found.images_in, 'image')}, {_amount(found.cells_in, 'cell')}")
    _line(f"out: {_amount(len(entries), 'image')}, {_amount(cells_out, 'cell')}")
    lost = sum(what.cells for what in (*found.images_out.values(), *found.cells_out.values()))
    if found.images_out or found.cells_out:
        _line(f"left out: {_amount(found.images_in - len(entries), 'image')}, {_amount(lost, 'cell')}")
        for reason, what in found.images_out.items():
            _reason(f"{_amount(len(what.names), 'image')}, {_amount(what.cells, 'cell')}: {reason}", what)
        for reason, what in found.cells_out.items():
            _reason(f"{_amount(what.cells, 'cell')}: {reason}", what)
    for text, count in found.notes.items():
        _line(f"note: {count:,} {text}")
    types = Counter(str(entry["cell_type"]) for entry, _ in entries)
    _line("types: " + ", ".join(f"{name} ({_amount(count, 'image')})" for name, count in types.items()))
    unlabelled = sum(entry.get("annotated") is False for entry, _ in entries)
    if unlabelled:
        _line(f"unlabelled: {_amount(unlabelled, 'image')}")
    for split, count in counts.items():
        sizes = ", ".join(_amount(count[key], key.removesuffix("s")) for key in ("images", "cells", "wells"))
        _line(f"wrote {files[split]}: {sizes}")
    first = next(iter(files.values()))
    console.print()
    _line(f"Next: policy-search data check --data {first}")
    _line(f"      policy-search run --data {first} --out RUN")


def _reason(text: str, what: Reason) -> None:
    _line(f"  {text}", "    ")
    for name in what.names[:SHOWN]:
        _line(f"    {name}", "      ")
    if len(what.names) > SHOWN:
        _line(f"    … and {len(what.names) - SHOWN:,} more")


def _amount(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _line(text: str, indent: str = "  ") -> None:
    """Folded at the terminal's width; names and paths stay whole."""
    start = text[: len(text) - len(text.lstrip())]
    for line in textwrap.wrap(
        text.lstrip(), console.width, initial_indent=start, subsequent_indent=indent, break_long_words=False,
        break_on_hyphens=False,
    ):  # fmt: skip
        console.print(line, soft_wrap=True, highlight=False, markup=False)

"""The command `policy-search data morphology`: size and convexity by cell type, as tables, figure and CSV."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from policy_search.cells.dataset import CellDataset
from policy_search.cells.errors import InputError
from policy_search.cells.sources import DEMO, resolve
from policy_search.cells.types import CELL_TYPES, find_cell_type
from policy_search.config import MorphologyConfig
from policy_search.image_bar import image_bar

if TYPE_CHECKING:
    from policy_search.cells.morphology import TypeMorphology
    from policy_search.cells.morphology_tables import TypeRow

console = Console()
SPLITS = ("train", "val", "test")  # the labelled ones


def morphology(
    data: Annotated[
        list[str], typer.Option(help="A172, all, demo/all, or a COCO file. Give it again for data sets side by side.")
    ] = ["all"],  # noqa: B006 (typer's own form; never changed)
    out: Annotated[
        Path | None, typer.Option(help="Figure (.png, .svg, .pdf); a .csv and a .summary.json go beside it.")
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="LIVECell's folder. Default: LIVECELL_ROOT, else the user cache.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="train, val or test. Default: all of them that are there.")] = None,
    source: Annotated[str | None, typer.Option(help="Type that the others are compared with, e.g. A172.")] = None,
    whole: Annotated[bool, typer.Option("--whole", help="Leave out cells that the image's border cuts.")] = False,
    vertices: Annotated[
        bool, typer.Option("--vertices", help="Also the paper's measure: vertices of the annotated polygon.")
    ] = False,
) -> None:
    """Measure size and convexity of the annotated cells of each type."""
    from policy_search.cells.files import require_writable_folder, write_json
    from policy_search.cells.morphology import measure
    from policy_search.cells.morphology_figure import check_format, draw
    from policy_search.cells.morphology_tables import by_size, find_source, summarise, write_cells

    config = MorphologyConfig(
        data=tuple(data), out=out, root=root, split=split, source=source, whole=whole, vertices=vertices
    )  # fmt: skip
    if config.out is not None:
        check_format(config.out)
    datasets = labelled(config)
    if config.out is not None:
        require_writable_folder(config.out.parent)
    with image_bar() as bar:
        task = bar.add_task("images", total=sum(len(d) for d in datasets))
        types = measure(datasets, vertices=vertices, progress=lambda done: bar.advance(task, done))
    if vertices and not any(len(t.polygon_vertices()) for t in types):
        raise InputError(f"--vertices: no cell of {', '.join(config.data)} was annotated by a polygon; leave it out")
    types = by_size([t.whole_only() for t in types] if whole else types)
    reference = find_source(types, source) if source is not None else None
    rows = summarise(types, reference)
    for line in _what_was_measured(config, datasets, types):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    _print_tables(rows, reference)
    if config.out is None:
        return
    title = f"data: {', '.join(config.data)}; splits: {_splits(datasets)}" + ("; whole cells only" if whole else "")
    draw(types, config.out, title=title, source=reference)
    cells, summary = config.out.with_suffix(".csv"), config.out.with_suffix(".summary.json")
    write_cells(cells, types)
    write_json(summary, {"config": config.model_dump(mode="json"), "types": [row.document() for row in rows]})
    console.print(f"wrote {config.out}, {cells} and {summary}", soft_wrap=True, highlight=False, markup=False)


def labelled(config: MorphologyConfig) -> list[CellDataset]:
    """The data sets of a configuration, split by split; splits without an image are left out.

    Raises:
        InputError: a name given twice, or without an image in any of the splits.
    """
    twice = [name for name, count in Counter(config.data).items() if count > 1]
    if twice:
        raise InputError(f"--data {twice[0]} is given twice: leave one of them out")
    found = []
    for name in config.data:
        if config.split is not None:
            found.append(resolve(name, config.split, config.root))
            continue
        parts = [resolve(name, split, config.root, missing_ok=True) for split in SPLITS]
        if not any(len(p) for p in parts):
            raise InputError(
                f"{name} has no annotated image in any split; `policy-search data list` shows what is there"
            )
        found += [p for p in parts if len(p)]
    return found


def register(data_app: typer.Typer) -> None:
    """Add the command to `policy-search data`."""
    data_app.command(
        epilog="Example: policy-search data morphology --data all --source A172 --out morphology.png"
    )(morphology)  # fmt: skip


def _splits(datasets: Sequence[CellDataset]) -> str:
    present = {record.split for dataset in datasets for record in dataset}
    return ", ".join(split for split in SPLITS if split in present)


def _what_was_measured(
    config: MorphologyConfig, datasets: Sequence[CellDataset], types: Sequence[TypeMorphology]
) -> list[str]:
    lines = []
    for name in dict.fromkeys(d.name for d in datasets):
        own = [t for t in types if t.data == name]
        counts = Counter(record.split for t in own for record in t.records)
        splits = ", ".join(f"{split} {counts[split]}" for split in SPLITS if counts[split])
        cells = sum(len(t) for t in own)
        kind = " (synthetic)" if any(t.synthetic for t in own) else ""
        lines.append(f"{name}{kind}: {cells:,} cells in {sum(counts.values())} images ({splits})")
    if config.whole:
        lines.append("Cells cut by the image's border are left out.")
    else:
        cut = sum(int((~t.whole).sum()) for t in types)
        lines.append(f"Cut by the image's border: {cut:,} cells, counted as they show (--whole: without).")
    missing = _without_images(config, types)
    if missing:
        lines.append(f"No annotated image of {', '.join(missing)} in {config.split or 'any split'}.")
    return [*lines, ""]


def _without_images(config: MorphologyConfig, types: Sequence[TypeMorphology]) -> list[str]:
    """Types that were asked for by name, or by `all`, and are not there. A COCO file holds what it holds."""
    missing = []
    for name in config.data:
        demo = name.lower().startswith(DEMO)
        names = name[len(DEMO) :] if demo else name
        if "/" in names or ".json" in names.lower():
            continue
        there = {t.cell_type.lower() for t in types if t.synthetic == demo}
        eight = [t.name for t in CELL_TYPES]
        if names.lower() != "all":
            stripped = [n.strip() for n in names.split(",")]
            wanted = [known.name if (known := find_cell_type(n)) else n for n in stripped]
        else:
            # A folder of other cells in LIVECell's layout lacks none of the eight.
            wanted = eight if any(n.lower() in there for n in eight) else []
        missing += [DEMO * demo + n for n in wanted if n.lower() not in there]
    return missing


def _print_tables(rows: Sequence[TypeRow], reference: TypeMorphology | None) -> None:
    counts = _table("cell type", "images", "wells", "cells", "cut")
    for row in rows:
        counts.add_row(row.label, f"{row.images:,}", f"{row.wells:,}", f"{row.cells:,}", f"{row.cut:,}")
    quantiles = ("5%", "25%", "median", "75%", "95%")
    compared = ("area ×", "length ×", "larger") if reference is not None else ()
    size = _table("size, px²", *quantiles, *compared)
    convexity = _table("convexity", *quantiles)
    vertices = _table("vertices", *quantiles)
    for row in rows:
        size.add_row(row.label, *(_cell(v, ",.0f") for v in row.area), *_compared(row))
        convexity.add_row(row.label, *(_cell(v, ".2f") for v in row.convexity))
        if row.vertices is not None:
            vertices.add_row(row.label, *(_cell(v, ",.0f") for v in row.vertices))
    for table in (counts, size, convexity, vertices):
        if table.row_count:
            console.print(table)
            console.print()
    if reference is not None:
        for line in _reading(rows, reference):
            console.print(line, style="dim", highlight=False, markup=False)


def _reading(rows: Sequence[TypeRow], reference: TypeMorphology) -> list[str]:
    """How to read the columns of the comparison, with the type farthest from the source as the example."""
    name = reference.label
    lines = [
        f"area ×: median area over that of {name}; length ×: its square root, the zoom",
        f"that would take {name} to that size. larger: chance that a cell is larger than",
        f"a cell of {name} (50%: no difference).",
    ]
    ratios = {r.label: r.area_ratio for r in rows if r.label != name and r.area_ratio and not math.isnan(r.area_ratio)}
    if ratios:
        far = max(ratios, key=lambda label: abs(math.log(ratios[label])))
        lines.append(f"Farthest: {far} cells are {ratios[far]:.2f}× the area of {name}'s.")
    return lines


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number else "left", overflow="fold", no_wrap=bool(number))
    return table


def _compared(row: TypeRow) -> tuple[str, ...]:
    if row.area_ratio is None or row.length_ratio is None or row.larger_than_source is None:
        return ()
    return _cell(row.area_ratio, ".2f"), _cell(row.length_ratio, ".2f"), _cell(row.larger_than_source, ".0%")


def _cell(value: float, form: str) -> str:
    return "–" if math.isnan(value) else format(value, form)

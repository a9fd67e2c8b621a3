"""The command line `policy-search`: its commands from cli_*.py, and preview, show, data list, data stats."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from policy_search.cells.errors import InputError
from policy_search.cells.sources import SPLITS, find_root, resolve
from policy_search.cli_check import register as register_check
from policy_search.cli_dashboard import register as register_dashboard
from policy_search.cli_fetch import register as register_fetch
from policy_search.cli_import import register as register_import
from policy_search.cli_morphology import register as register_morphology
from policy_search.cli_policies import register
from policy_search.cli_report import register as register_report
from policy_search.cli_search import EXAMPLE, search
from policy_search.cli_study import register as register_study

app = typer.Typer(
    name="policy-search",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Learn augmentation policies that carry a cell-segmentation model over to cell types nobody labelled.",
)
data_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Get, import and look at data: fetch, import, check, stats, …",
)
app.add_typer(data_app, name="data")
register_study(app)
register(app)
register_report(app)
register_dashboard(app)
register_fetch(data_app)
register_import(data_app)
register_check(data_app)
register_morphology(data_app)
app.command(epilog=EXAMPLE)(search)
console = Console()
MAX_ROWS = 24  # a longer table is summed up: nobody reads it

Root = Annotated[Path | None, typer.Option(help="LIVECell's folder. Default: LIVECELL_ROOT, else the user cache.")]
Data = Annotated[
    str, typer.Option(help="A172 (any LIVECell type, or several by commas), all, demo/A172, or a COCO file.")
]


@app.command(epilog="Example: policy-search preview --policy flip --data demo/A172 --out sheet.png")
def preview(
    policy: Annotated[str, typer.Option(help="A policy file, or the name of a naive strategy.")],
    data: Data,
    out: Annotated[Path, typer.Option(help="Picture to write (.png).")],
    root: Root = None,
    split: Annotated[str, typer.Option(help="train or val.")] = "train",
    images: Annotated[int, typer.Option(min=1, max=20, help="Rows: images shown.")] = 3,
    draws: Annotated[int, typer.Option(min=1, max=12, help="Columns: applications of the policy per image.")] = 4,
    seed: Annotated[int, typer.Option(help="Same seed, same sheet.")] = 0,
) -> None:
    """Write a contact sheet: images, and what the policy makes of them."""
    from policy_search.augment import load_policy
    from policy_search.augment.preview import save_preview

    document = load_policy(policy)
    save_preview(document, resolve(data, split, root), out, images=images, draws=draws, seed=seed)
    console.print(f"wrote {out}", soft_wrap=True)


@app.command(epilog="Example: policy-search show policies/best.json")
def show(
    policy: Annotated[str, typer.Argument(help="A policy file, or the name of a naive strategy.")],
    full: Annotated[bool, typer.Option("--full", help="Every branch of a large policy, not their sum.")] = False,
) -> None:
    """Print a policy as a table a person can read."""
    from policy_search.augment import load_policy
    from policy_search.augment.describe import describe, summarise

    document = load_policy(policy)
    facts = document.provenance.model_dump(exclude_none=True)
    # Text, not strings: what stands in a file is no markup.
    console.print(Text.assemble((document.name, "bold"), f"  hash {document.content_hash}"), highlight=False)
    for key in ("family", "data", "synthetic", "study", "trial", "seed", "score", "verdict", "created"):
        if facts.get(key) not in (None, ""):
            console.print(f"  {key}: {facts[key]}", highlight=False, markup=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("where", overflow="fold")
    table.add_column("chosen", justify="right")
    table.add_column("applied", justify="right")
    table.add_column("operation", no_wrap=True)
    table.add_column("settings", overflow="fold")
    every = describe(document.transform)
    rows = every if full or len(every) <= MAX_ROWS else summarise(every)
    for row in rows:
        table.add_row(row.path, _percent(row.share), _percent(row.gate), Text(row.name), Text(row.settings))
    console.print(table)
    console.print("chosen: chance that this branch is taken; applied: chance to run once it is.", style="dim")
    if len(rows) < len(every):
        console.print(f"Summed up from {len(every)} branches: ranges span all of them (--full).", style="dim")


@data_app.command("list", epilog="Example: policy-search data list --root LIVECell_dataset_2021")
def data_list(root: Root = None) -> None:
    """Show which cell types and splits are there."""
    from policy_search.cells.livecell import types_in

    folder = find_root(root)
    table = Table("cell type", *(f"{s} images" for s in SPLITS), box=None, pad_edge=False, header_style="bold")
    if folder is not None:
        for name in types_in(folder):
            counts = [len(resolve(name, split, folder, missing_ok=True)) for split in SPLITS]
            table.add_row(name, *(str(c) if c else "–" for c in counts))
        console.print(f"LIVECell layout in {folder}", soft_wrap=True)
    else:
        console.print(
            "No LIVECell folder: give --root, set LIVECELL_ROOT, or: policy-search data fetch A172", soft_wrap=True
        )
    for name in resolve("demo/all", "train").cell_types:
        counts = [len(resolve(f"demo/{name}", split, missing_ok=True)) for split in SPLITS]
        table.add_row(f"demo/{name}", *(str(c) if c else "–" for c in counts))
    console.print(table)
    console.print("demo/… is a built-in synthetic culture.", style="dim")


@data_app.command("stats", epilog="Example: policy-search data stats --data A172 --split train")
def data_stats(
    data: Data = "all",
    root: Root = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "train",
) -> None:
    """Count cells and measure size, coverage and grey levels per cell type."""
    from policy_search.cells.type_stats import type_stats

    dataset = resolve(data, split, root)
    title = f"{data}, {split}" + (" (synthetic)" if dataset.synthetic else "")
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name in ("cell type", "images", "cells", "cells/image", "median px²", "covered", "grey mean", "grey std"):
        table.add_column(name, justify="left" if name == "cell type" else "right")
    for row in type_stats(dataset):
        table.add_row(
            row.cell_type, str(row.images), str(row.cells), f"{row.cells_per_image:.0f}", f"{row.median_area:.0f}",
            f"{row.covered:.0%}", f"{row.pixel_mean:.3f}", f"{row.pixel_std:.3f}",
        )  # fmt: skip
    console.print(table)


def _percent(value: float) -> str:
    return "<1%" if 0 < value < 0.005 else f"{value:.0%}"


def main() -> None:
    """Entry point: an InputError is one sentence on standard error and exit code 2."""
    try:
        app()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()

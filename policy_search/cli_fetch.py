"""The command `policy-search data fetch`: LIVECell's images, annotations and models, as far as they are not there."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from policy_search.cells.errors import InputError
from policy_search.cells.fetch_automatic import fetch_command
from policy_search.cells.fetch_parts import BASE, wanted_splits, wanted_types
from policy_search.cells.livecell import home
from policy_search.cells.sources import cache_root

console = Console()


def fetch(
    types: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TYPE…", help="A172 (any of LIVECell's types, in any spelling), or all.", show_default=False
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="train, val or test, or several by commas. Default: all three.")
    ] = None,
    model: Annotated[bool, typer.Option("--model", help="Also the published model of each type.")] = False,
    root: Annotated[
        Path | None, typer.Option(help="Folder to fetch into. Default: LIVECELL_ROOT, else the user cache.")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Fetch nothing: say which files are no longer as they were fetched.")
    ] = False,
) -> None:
    """Fetch LIVECell (CC BY-NC 4.0) type by type; the same command continues, and repairs what is damaged."""
    folder = root or Path(os.environ.get("LIVECELL_ROOT") or cache_root())
    folder = folder.expanduser()
    if verify:
        _verify(home(folder))
        return
    if not types:
        raise InputError(f"fetch what? Name types, such as {fetch_command(['A172', 'BT474'])}, or: all")
    from policy_search.cells.fetch import fetch_livecell
    from policy_search.cells.fetch_progress import FetchProgress

    kinds = wanted_types(types)
    try:
        with FetchProgress() as watch:
            result = fetch_livecell(kinds, wanted_splits(split), folder, models=model, watch=watch)
    except KeyboardInterrupt:
        again = fetch_command(types, split, root) + (" --model" if model else "")
        print(f"stopped; what has come is kept. This goes on:\n{again}", file=sys.stderr)
        raise typer.Exit(130) from None
    _say(f"{result.new} files fetched, {result.kept} were there; {result.asked} requests")
    _say(f"LIVECell in {result.folder}")
    for kind, path in zip(kinds, result.models, strict=False):
        _say(f"{kind.name}: detect finetune --preset livecell --weights {path}")


def _verify(folder: Path) -> None:
    from policy_search.cells.fetched import FILE, read_fetched, verify_fetched

    if not (folder / FILE).is_file():
        raise InputError(f"nothing was fetched into {folder}: it has no {FILE}")
    problems = verify_fetched(folder)
    for problem in problems:
        _say(problem)
    if problems:
        _say(f"{len(problems)} problems in {folder}; policy-search data fetch with the same types repairs them")
        raise typer.Exit(1)
    _say(f"{len(read_fetched(folder).files)} files in {folder} are as they were fetched")


def _say(text: str) -> None:
    console.print(text, soft_wrap=True, highlight=False, markup=False)


def register(data_app: typer.Typer) -> None:
    """Add the command to `policy-search data`."""
    data_app.command(
        epilog=f"Example: policy-search data fetch A172 BT474 --model. LIVECELL_URL names a mirror of {BASE}"
    )(fetch)

"""The commands `policy-search convert` and `policy-search export`: policies from and for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from policy_search.cells.errors import InputError

console = Console()
SOURCES = ("autoalbument",)
TARGETS = ("albumentationsx",)


def convert(
    file: Annotated[Path, typer.Argument(help="The policy JSON of AutoAlbument 0.4.0, e.g. policy/latest.json.")],
    out: Annotated[Path, typer.Option(help="Policy file to write.")],
    source: Annotated[str, typer.Option("--from", help="The tool that wrote it: autoalbument.")] = "autoalbument",
    reading: Annotated[
        str, typer.Option(help="searched: what the search trained; emitted: what the file did when it was run.")
    ] = "searched",
) -> None:
    """Turn a policy of AutoAlbument into one of ours, and say where its search and its file disagree."""
    from policy_search.augment.autoalbument import READINGS, convert_file

    _known("--from", source, SOURCES)
    chosen = next((r for r in READINGS if r == reading), None)
    if chosen is None:
        raise InputError(f"--reading {reading}: expected {' or '.join(READINGS)}")
    conversion = convert_file(file, chosen)
    conversion.document.save(out)
    if conversion.differences:
        console.print("Searched differently from what the file does (v: the value in the file):")
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("operation", "the file does", "the search did"):
            table.add_column(title, overflow="fold")
        table.add_column("times", justify="right")
        table.add_column("per image", justify="right")
        for row in conversion.differences:
            table.add_row(row.operation, row.emitted, row.searched, str(row.count), f"{row.applications:.3f}")
        console.print(table)
        console.print("per image: how often an augmented image meets it, on average.", style="dim")
    else:
        console.print("No operation in it was searched differently from what the file does.")
    for note in conversion.notes:
        console.print(f"* {note}", highlight=False, markup=False)
    other = "emitted" if chosen == "searched" else "searched"
    console.print(f"wrote {out} as {chosen} (--reading {other} for the other)", soft_wrap=True, highlight=False)


def export(
    policy: Annotated[str, typer.Argument(help="A policy file, or the name of a naive strategy.")],
    out: Annotated[Path, typer.Option(help="File to write.")],
    target: Annotated[str, typer.Option(help="The library that is to load it: albumentationsx.")] = "albumentationsx",
    without: Annotated[
        str, typer.Option(help="Classes in whose place nothing is to happen, by commas: CopyPaste,Illumination.")
    ] = "",
) -> None:
    """Write a policy for AlbumentationsX 2.5, which names arguments differently and drops unknown ones."""
    from policy_search.augment import load_policy
    from policy_search.augment.albumentationsx import X_VERSION, export_albumentationsx
    from policy_search.cells.files import write_json

    _known("--target", target, TARGETS)
    left_out = tuple(name.strip() for name in without.split(",") if name.strip())
    write_json(out, export_albumentationsx(load_policy(policy), left_out))
    for name in left_out:
        console.print(f"left out: {name}; an image that would have met it stays as it is", highlight=False)
    console.print(f"wrote {out} for albumentationsx {X_VERSION}", soft_wrap=True, highlight=False)


def register(app: typer.Typer) -> None:
    """Add both commands to the command line."""
    app.command(epilog="Example: policy-search convert --from autoalbument policy/latest.json --out policy.json")(
        convert
    )
    app.command(epilog="Example: policy-search export policies/crop.json --target albumentationsx --out crop_x.json")(
        export
    )


def _known(option: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"{option} {value}: expected {' or '.join(choices)}")

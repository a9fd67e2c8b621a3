"""The command `policy-search data check`: what is wrong with a dataset, by code, for people and for programs."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from policy_search.cells.errors import InputError
from policy_search.image_bar import image_bar

if TYPE_CHECKING:
    from policy_search.cells.checks import Finding, Report

console = Console()
SHOWN = 3  # findings of each code; the rest is counted


def check(
    data: Annotated[
        str, typer.Option(help="A172 (any LIVECell type, or several by commas), all, demo/A172, or a COCO file.")
    ] = "all",
    root: Annotated[
        Path | None, typer.Option(help="LIVECell's folder. Default: LIVECELL_ROOT, else the user cache.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Summary and findings as JSON on standard output.")] = False,
    every: Annotated[bool, typer.Option("--all", help="Every finding, not the first of each code.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit code 1 also when there is a warning.")] = False,
    codes: Annotated[bool, typer.Option("--codes", help="List the codes with their meaning, and stop.")] = False,
) -> None:
    """Report damaged files, lost, wrong or duplicate annotations, and leaks between splits.

    Exit code: 0 every image can be used; 1 one cannot (with --strict also when there is a warning); 2 bad input, for
    example an unknown name.
    """
    if codes:
        _print_codes()
        return
    try:
        report, notes = _run(data, root)
    except KeyboardInterrupt:
        print("interrupted: nothing is reported of a check that is not whole", file=sys.stderr)
        raise typer.Exit(130) from None
    if not report.images and not report.findings:
        raise InputError(f"{data} has no image in any split; `policy-search data list` shows what is there")
    if as_json:
        print(json.dumps({"data": data, **report.document()}, indent=2))
    else:
        _print(data, report, notes, every)
    raise typer.Exit(0 if report.usable and not (strict and report.warnings) else 1)


def register(data_app: typer.Typer) -> None:
    """Add the command to `policy-search data`."""
    data_app.command("check", epilog="Example: policy-search data check --data all")(check)


def _run(data: str, root: Path | None) -> tuple[Report, list[str]]:
    """The report, and what else a reader should know of how it was made."""
    from policy_search.cells.checks import Check, open_splits

    check, notes = Check(), []
    with image_bar() as bar:
        task = bar.add_task("reading annotations", total=None)
        for opened in open_splits(data, root):
            check.note(opened.findings)
            if opened.same:
                notes.append("One file serves for training and for testing; its images are looked at once.")
            elif len(opened.dataset):
                done = bar.tasks[0].completed
                bar.update(task, description=opened.dataset.records[0].split, total=done + len(opened.dataset))
                check.add(opened.dataset, lambda: bar.advance(task))
        bar.update(task, description="comparing images")
        return check.report(), notes


def _print(data: str, report: Report, notes: list[str], every: bool) -> None:
    from policy_search.cells.checks import CODES

    for code, group in report.by_code().items():
        kind = CODES[code]
        count = sum(f.count for f in group)
        amount = f"{count:,} {kind.counted if count != 1 else kind.counted.removesuffix('s')}"
        _line(f"{kind.level}: {code}: {amount}: {kind.meaning}", "  ")
        shown = group if every else group[:SHOWN]
        for finding in shown:
            _line(f"  {_where(finding)}: {finding.text}", "    ")
        if len(shown) < len(group):
            _line(f"  … and {len(group) - len(shown):,} more (--all shows them)", "    ")
        console.print()
    for note in notes:
        _line(note, "")
    images = sum(report.images.values())
    splits = ", ".join(f"{split} {count:,}" for split, count in report.images.items())
    _line(f"{data}: {images:,} images ({splits}), {report.cells:,} annotated cells", "  ")
    verdict = "every image can be used" if report.usable else "NOT usable as it is"
    _line(f"{verdict}: {_amount(report.errors, 'error')}, {_amount(report.warnings, 'warning')}", "  ")


def _where(finding: Finding) -> str:
    return f"{finding.split}: {finding.record}" if finding.split else finding.record


def _amount(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _line(text: str, indent: str) -> None:
    """Folded at the terminal's width; names and paths stay whole. Ids and names in files may hold anything."""
    text = "".join(c if c.isprintable() else "�" for c in text)
    for line in textwrap.wrap(
        text, console.width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    ):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def _print_codes() -> None:
    from policy_search.cells.checks import CODES

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("code", no_wrap=True)
    table.add_column("level", no_wrap=True)
    table.add_column("counts", no_wrap=True)
    table.add_column("meaning")
    for name, code in CODES.items():
        table.add_row(name, code.level, code.counted, code.meaning)
    console.print(table)

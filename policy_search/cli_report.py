"""The command `policy-search report`: a run folder as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

console = Console()


def report(
    study: Annotated[
        Path, typer.Argument(metavar="STUDY", help="Run folder that policy-search run wrote, finished or not.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Page to write (.html), Markdown beside it. Default: STUDY/report.html.")
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="LIVECell's folder, if it has moved since the run.", show_default=False)
    ] = None,
) -> None:
    """Write what a study found as one page: scores, intervals, operations, previews, cost. Reads the study only."""
    from policy_search.study.reports.writer import write_run_report

    page, markdown, state = write_run_report(study, out, root)
    console.print(state, soft_wrap=True, highlight=False, markup=False)
    console.print(f"wrote {page} and {markdown}", soft_wrap=True, highlight=False, markup=False)


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(epilog="Example: policy-search report runs/search/A172-seed0")(report)

"""`detect report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from detection.cli_options import Results, Root, app, console


@app.command(
    epilog="Example: detect report runs/matrix/demo/table1.json runs/matrix/demo/table2.json --out report.html"
)
def report(
    matrices: Annotated[
        list[Path],
        typer.Argument(metavar="MATRIX...", help="Records that `detect matrix` writes: runs/matrix/SCALE/NAME.json."),
    ],
    results: Results = Path("runs/results.sqlite"),
    root: Root = None,
    out: Annotated[Path, typer.Option(help="Page to write (.html).")] = Path("report.html"),
    paper: Annotated[
        Path | None, typer.Option(help="The paper's AP50, to stand beside ours: experiments/paper_tables.csv.")
    ] = None,
    pictures: Annotated[
        bool, typer.Option("--pictures/--no-pictures", help="Show images of cells, whose licence may forbid it.")
    ] = True,
) -> None:
    """Write experiments as one page that needs nothing else: verdict, tables, gains, figures, pictures, commands.

    Predictions are shown where the runs kept them (`--keep-detections`).
    """
    from detection.report import write_report

    write_report(matrices, results, out, root=root, paper=paper, pictures=pictures)
    size = out.stat().st_size / 1e6
    console.print(f"wrote {out} ({size:.1f} MB)", soft_wrap=True, highlight=False, markup=False)

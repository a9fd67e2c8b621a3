"""`detect compare`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from detection.cli_options import Results, app
from policy_search.cells.errors import InputError


@app.command(epilog="Example: detect compare runs/matrix/demo/table2.json --format tex --out table2.tex")
def compare(
    matrix: Annotated[Path, typer.Argument(help="Record that `detect matrix` writes: runs/matrix/SCALE/NAME.json.")],
    results: Results = Path("runs/results.sqlite"),
    form: Annotated[
        str | None,
        typer.Option("--format", help="md, csv or tex. Default: from --out's ending, else a short table."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File to write. Default: standard output.")] = None,
    paper: Annotated[
        Path | None, typer.Option(help="The paper's AP50, to stand beside ours: experiments/paper_tables.csv.")
    ] = None,
    pairs: Annotated[bool, typer.Option(help="Compare each learnt row with each naive one, too.")] = True,
    draws: Annotated[int, typer.Option(min=100, help="Resamples of the bootstrap.")] = 10_000,
    level: Annotated[float, typer.Option(min=0.5, max=0.999, help="Of the intervals.")] = 0.95,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap's draws.")] = 0,
) -> None:
    """Say which rows of an experiment carry over better than its reference, with intervals.

    Paired by seed and test image; a bootstrap over wells and the spread between seeds; Holm's correction.
    """
    from detection.compare import compare as compare_rows
    from detection.compare import every_pair
    from detection.matrices.record import load_matrix
    from detection.matrices.runs import PAPERS_SOURCE, learnt_rows, naive_rows, paper_of, runs_of
    from detection.statistics.paper import read_paper
    from detection.store import Store
    from detection.tables.table import FORMS, render
    from detection.tables.terminal import terminal
    from policy_search.cells.files import write_text

    wanted = form or (out.suffix.removeprefix(".") if out else None)
    if wanted is not None and wanted not in FORMS:
        raise InputError(f"unknown format {wanted!r}: expected one of {', '.join(FORMS)}; name it with --format")
    record = load_matrix(matrix)
    theirs = paper_of(record, read_paper(paper)) if paper else {}
    if paper and not theirs:
        sys.stderr.write(f"the paper's numbers are left out: its model was trained on {PAPERS_SOURCE}\n")
    asked = every_pair(learnt_rows(record), naive_rows(record)) if pairs else ()
    found = [
        compare_rows(runs, pairs=asked, draws=draws, level=level, seed=seed)
        for runs in runs_of(record, Store(results, create=False))
    ]
    if not found:
        raise InputError(f"no run of {matrix} is finished yet. Go on with `detect matrix`.")
    text = terminal(found) if wanted is None else render(found, wanted, theirs)
    if out is None:
        sys.stdout.write(text)
        return
    write_text(out, text)
    sys.stderr.write(f"wrote {out}\n")

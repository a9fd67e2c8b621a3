"""`detect evaluate` and `detect table`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from detection.cli_options import Device, Results, Root, Weights, app, checked, console, needs_detectron2, show_scores


@app.command(epilog="Example: detect evaluate --weights runs/base/model.pth --data all")
def evaluate(
    weights: Weights,
    data: Annotated[str, typer.Option(help="Types to test on: A172,BT474, all, demo/all, or a COCO file.")] = "all",
    root: Root = None,
    split: Annotated[str, typer.Option(help="test, val or train.")] = "test",
    out: Annotated[Path | None, typer.Option(help="Folder for scores.json and config.json.")] = None,
    device: Device = "cpu",
) -> None:
    """Test a model on unaugmented images of each cell type."""
    from detection.config import EvaluateConfig

    config = checked(EvaluateConfig, weights=weights, data=data, root=root, split=split, out=out, device=device)
    with needs_detectron2():
        from detection.evaluate import run_evaluation

        scores, synthetic = run_evaluation(config, console.print)
    show_scores(scores, synthetic)


@app.command(epilog="Example: detect table --format tex")
def table(
    results: Results = Path("runs/results.sqlite"),
    form: Annotated[str, typer.Option("--format", help="md, csv or tex.")] = "md",
) -> None:
    """Print AP50 of every policy on every cell type, mean and spread over seeds."""
    from detection.store import Store
    from detection.table import render

    sys.stdout.write(render(Store(results, create=False).all(), form))

"""`detect evaluate` and `detect table`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from detection.cli_options import (
    Allow,
    Device,
    ForeignPreset,
    Results,
    Root,
    Weights,
    app,
    checked,
    console,
    needs_detectron2,
    show_scores,
)


@app.command(epilog="Example: detect evaluate --weights runs/base/model.pth --data all")
def evaluate(
    weights: Weights,
    preset: ForeignPreset = None,
    allow: Allow = None,
    data: Annotated[str, typer.Option(help="Types to test on: A172,BT474, all, demo/all, or a COCO file.")] = "all",
    root: Root = None,
    split: Annotated[str, typer.Option(help="test, val or train.")] = "test",
    wells: Annotated[bool, typer.Option(help="Show the scores of each well, too.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for scores.json and the COCO files of detections and ground truth.")
    ] = None,
    device: Device = "cpu",
) -> None:
    """Test a model on unaugmented images of each cell type.

    Scores count up to 2,000 cells an image. With --out, detections/TYPE.json and ground_truth/TYPE.json can be scored
    again with pycocotools.
    """
    from detection.config import EvaluateConfig

    config = checked(
        EvaluateConfig, weights=weights, preset=preset, allow=tuple(allow or ()), data=data, root=root, split=split,
        out=out, device=device,
    )  # fmt: skip
    with needs_detectron2():
        from detection.evaluate import run_evaluation

        found = run_evaluation(config, console.print)
    show_scores(found.types, found.synthetic)
    single = [name for name, by_well in found.wells.items() if len(by_well) == 1]
    if single:
        console.print(f"one well only, so nothing is known of other wells: {', '.join(single)}", highlight=False)
    if wells:
        several = [by_well for by_well in found.wells.values() if len(by_well) > 1]
        for by_well in several:
            show_scores(by_well, found.synthetic)
    if out:
        console.print(f"wrote {out / 'scores.json'}", soft_wrap=True, highlight=False)


@app.command(epilog="Example: detect table --format tex")
def table(
    results: Results = Path("runs/results.sqlite"),
    form: Annotated[str, typer.Option("--format", help="md, csv or tex.")] = "md",
) -> None:
    """Print AP50 of every policy on every cell type, mean and spread over seeds."""
    from detection.store import Store
    from detection.table import render

    sys.stdout.write(render(Store(results, create=False).all(), form))

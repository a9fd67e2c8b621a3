"""`detect predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from detection.cli_options import Allow, Device, ForeignPreset, Weights, app, checked, console, needs_detectron2


@app.command(epilog="Example: detect predict plate1/*.tif --weights runs/base/model.pth --out cells")
def predict(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Files, folders, or patterns in quotes.")],
    weights: Weights,
    out: Annotated[Path, typer.Option(help="Folder for overlays/, labels/ and counts.csv.")],
    score: Annotated[
        float,
        typer.Option(min=0, max=0.999, help="Least score of a cell: lower finds more, right or wrong."),
    ] = 0.3,
    tile: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Side of the tiles in pixels, at least 4 times the largest cell; 0: in one piece. "
            "Default: 520 for images longer than 1024.",
        ),
    ] = None,
    page: Annotated[
        int | None, typer.Option(help="Page of stacks, counted from 1: z positions and times.", show_default=False)
    ] = None,
    channel: Annotated[
        int | None, typer.Option(help="Channel of files with several, counted from 1.", show_default=False)
    ] = None,
    preset: ForeignPreset = None,
    allow: Allow = None,
    device: Device = "cpu",
) -> None:
    """Find, outline and count the cells in images.

    TIFF, OME-TIFF, PNG or JPG; grey or colour; 8 or 16 bits. For each image, overlays/NAME.png shows the outlines,
    labels/NAME.tif holds one number a cell (0 is background), and counts.csv has a row with the number of cells, their
    areas in pixels and the fraction of the image that they cover. If an image cannot be read, the others are done and
    the exit code is 2.
    """
    from detection.config import PredictConfig

    config = checked(
        PredictConfig, images=images, weights=weights, preset=preset, allow=tuple(allow or ()), out=out, score=score,
        tile=tile, page=page, channel=channel, device=device,
    )  # fmt: skip
    with needs_detectron2():
        from detection.predict import run_prediction

        done = run_prediction(config, lambda text: console.print(text, soft_wrap=True, highlight=False, markup=False))
    total = sum(made.counts.cells for made in done)
    console.print(f"wrote {out}: {total} cells in {len(done)} image{'s' if len(done) > 1 else ''}", soft_wrap=True)

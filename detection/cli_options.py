"""What the commands of `detect` share: the application, options, checks and the table of scores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic import BaseModel, ValidationError
from rich.console import Console
from rich.table import Table as RichTable

from policy_search.cells.errors import InputError

app = typer.Typer(
    name="detect",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Fine-tune Cascade Mask R-CNN with an augmentation policy and test it on cell types it never saw.",
)
console = Console()
C = TypeVar("C", bound=BaseModel)

Data = Annotated[str, typer.Option(help="A172 (any LIVECell type, or several by commas), demo/A172, or a COCO file.")]
Root = Annotated[Path | None, typer.Option(help="LIVECell's folder. Default: LIVECELL_ROOT, else the user cache.")]
Weights = Annotated[Path, typer.Option(help="model.pth of a pretrain or finetune; published weights with --preset.")]
Results = Annotated[Path, typer.Option(help="Database of results.")]
Seed = Annotated[int, typer.Option(min=0, help="Same seed, same result.")]
Iterations = Annotated[int | None, typer.Option(min=1, help="Instead of --epochs.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …")]
_OF_PRESET = "Default: the preset's."
Rate = Annotated[float | None, typer.Option(help=f"Highest learning rate. {_OF_PRESET}")]
Batch = Annotated[int | None, typer.Option(min=1, help=f"Crops or images an iteration. {_OF_PRESET}")]
Crop = Annotated[int | None, typer.Option(min=0, help=f"Side of the crops in pixels; 0: whole images. {_OF_PRESET}")]
Sizes = Annotated[
    str | None, typer.Option(help=f"Shortest edges to draw from, by commas; none: images as they are. {_OF_PRESET}")
]
Optimizer = Annotated[str | None, typer.Option(help=f"adamw or sgd. {_OF_PRESET}")]
Schedule = Annotated[str | None, typer.Option(help=f"Of the learning rate: cosine or steps. {_OF_PRESET}")]
Warmup = Annotated[int | None, typer.Option(min=0, help=f"Iterations of rising learning rate. {_OF_PRESET}")]
Decay = Annotated[float | None, typer.Option(min=0, help=f"Of the weights. {_OF_PRESET}")]
Clip = Annotated[float | None, typer.Option(min=0, help=f"Longest gradient; 0: any length. {_OF_PRESET}")]
PrecisionOption = Annotated[
    str | None, typer.Option("--precision", help=f"fp32, bf16, fp16, or auto: what the device is good at. {_OF_PRESET}")
]
Processes = Annotated[int, typer.Option(min=1, help="That share every batch; on CUDA one a GPU.")]
SaveEvery = Annotated[float, typer.Option(min=0, help="Seconds between two savings of an unfinished training.")]
ValidateOn = Annotated[
    str | None, typer.Option(help="Data whose val split chooses among the weights. Default: the last weights count.")
]
ValidateEvery = Annotated[int, typer.Option(min=1, help="Iterations between two validations.")]
Patience = Annotated[int, typer.Option(min=0, help="Validations without a better AP50 before the end; 0: no limit.")]
Allow = Annotated[
    list[str] | None,
    typer.Option(help="Accept in weights from elsewhere: missing, unexpected or shape; may be given again."),
]
ForeignPreset = Annotated[
    str | None, typer.Option("--preset", help="Network of weights from elsewhere, such as livecell.")
]
Workers = Annotated[int, typer.Option(min=0, help="Processes that prepare crops; they change no result.")]


def given(**options: Any) -> dict[str, Any]:
    """Only what was given; the rest keeps the default of the configuration."""
    return {name: value for name, value in options.items() if value is not None}


def checked(kind: type[C], **values: Any) -> C:
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        option = "--" + str(first["loc"][0]).replace("_", "-") if first["loc"] else "options"
        raise InputError(f"{option}: {first['msg']}, got {first['input']!r}") from error


@contextmanager
def needs_detectron2() -> Iterator[None]:
    """Say how to get what the detection extra brings when it is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in {"policy_search", "detection"}:
            raise
        raise InputError(
            f"`detect` needs {error.name}, which is not installed. Run `make setup`, or install the extra: "
            'pip install "policy-search[detection]" and detectron2 (python scripts/install_detectron2.py).'
        ) from error


def show_scores(scores: dict[str, Any], synthetic: bool) -> None:
    """Scores per cell type, in percent."""
    title = "mask scores in %" + (", SYNTHETIC data" if synthetic else "")
    shown = RichTable(title=title, title_justify="left")
    shown.add_column("cell type", no_wrap=True)
    columns = {"ap50": "AP50", "ap": "AP", "ap75": "AP75", "ar": "AR", "cells": "cells", "detections": "found"}
    for heading in columns.values():
        shown.add_column(heading, justify="right")
    for cell_type, row in scores.items():
        values = [getattr(row, name) for name in columns]
        texts = ["-" if v is None else str(v) if isinstance(v, int) else f"{100 * v:.1f}" for v in values]
        shown.add_row(cell_type, *texts)
    console.print(shown)

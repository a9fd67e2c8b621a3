"""The command line `detect`: pretrain, finetune, evaluate, table."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from pydantic import BaseModel, ValidationError
from rich.console import Console
from rich.table import Table as RichTable

from policy_search.cells.errors import InputError

if TYPE_CHECKING:
    from detection.finetune import Watcher

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
Weights = Annotated[Path, typer.Option(help="model.pth of a pretrain or finetune.")]
Results = Annotated[Path, typer.Option(help="Database of results.")]
Seed = Annotated[int, typer.Option(min=0, help="Same seed, same result.")]
Iterations = Annotated[int | None, typer.Option(min=1, help="Instead of --epochs.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …")]
Rate = Annotated[float | None, typer.Option(help="Highest learning rate. Default: what fits the command.")]
Batch = Annotated[int, typer.Option(min=1, help="Crops an iteration.")]
Workers = Annotated[int, typer.Option(min=0, help="Processes that prepare crops; they change no result.")]


@app.command(epilog="Example: detect pretrain --data A172 --preset tiny --out runs/base")
def pretrain(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder for model.pth, config.json and the TensorBoard log.")],
    preset: Annotated[str, typer.Option(help="Network: tiny.")] = "tiny",
    root: Root = None,
    seed: Seed = 0,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over all crops, instead of --iterations.")] = None,
    iterations: Annotated[int | None, typer.Option(min=1, help="Batches. Default: 1400.")] = None,
    flip: Annotated[bool, typer.Option(help="Mirror and turn crops; the paper's base model sees them as they are.")] = (
        False
    ),
    lr: Rate = None,
    batch: Batch = 2,
    workers: Workers = 0,
    device: Device = "cpu",
) -> None:
    """Train a base model on one cell type, unaugmented."""
    from detection.config import PretrainConfig

    if epochs is not None and iterations is not None:
        raise InputError("--epochs and --iterations were both given: choose one")
    length: dict[str, Any] = {"iterations": iterations} if iterations else {}
    if epochs is not None:
        length = {"epochs": epochs, "iterations": None}
    config = _checked(
        PretrainConfig, data=data, out=out, preset=preset, root=root, seed=seed, flip=flip, batch=batch,
        workers=workers, device=device, **length, **_given(lr=lr),
    )  # fmt: skip
    with _training("pretrain") as watcher:
        from detection.finetune import pretrain as run

        path = run(config, watcher)
    console.print(f"wrote {path}", soft_wrap=True)


@app.command(epilog="Example: detect finetune --policy policies/best.json --data A172 --weights runs/base/model.pth")
def finetune(
    policy: Annotated[str, typer.Option(help="A policy file, or a naive strategy: none, random_choice, …")],
    data: Data,
    weights: Weights,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run. Default: runs/detect/SOURCE/POLICY/seedN.")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="Refuse weights of another network than this.")] = None,
    evaluate: Annotated[
        str, typer.Option("--eval", help="Types to test on, by commas; all: every type with a test image.")
    ] = "all",
    root: Root = None,
    seed: Seed = 0,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over all crops of the threefold set.")] = 15,
    iterations: Iterations = None,
    factor: Annotated[int, typer.Option(min=1, help="Copies of each image: 1 untouched, the rest augmented.")] = 3,
    unfreeze: Annotated[bool, typer.Option("--unfreeze", help="Train the backbone, too.")] = False,
    results: Results = Path("runs/results.sqlite"),
    force: Annotated[bool, typer.Option("--force", help="Run although the result is there.")] = False,
    lr: Rate = None,
    batch: Batch = 2,
    workers: Workers = 0,
    device: Device = "cpu",
) -> None:
    """Fine-tune a base model with a policy and test it on every cell type."""
    from detection.checkpoint import load_checkpoint
    from detection.config import FinetuneConfig
    from detection.config import preset as preset_config

    if preset is not None and load_checkpoint(weights).config != preset_config(preset):
        raise InputError(f"{weights} does not hold the {preset} network: pretrain one with --preset {preset}")
    config = _checked(
        FinetuneConfig, policy=policy, data=data, weights=weights, out=out or _run_folder(data, policy, seed),
        root=root, seed=seed, epochs=epochs, iterations=iterations, factor=factor, unfreeze=unfreeze, evaluate=evaluate,
        results=results, force=force, batch=batch, workers=workers, device=device, **_given(lr=lr),
    )  # fmt: skip
    with _training("finetune") as watcher:
        from detection.finetune import finetune as run

        outcome = run(config, watcher)
    if outcome.skipped:
        console.print(f"already in {results}, skipped (--force runs it again)", soft_wrap=True)
    _show({r.cell_type + (" (seen)" if r.seen else ""): r for r in outcome.results},
          any(r.synthetic for r in outcome.results))  # fmt: skip


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

    config = _checked(EvaluateConfig, weights=weights, data=data, root=root, split=split, out=out, device=device)
    with _needs_detectron2():
        from detection.evaluate import run_evaluation

        scores, synthetic = run_evaluation(config, console.print)
    _show(scores, synthetic)


@app.command(epilog="Example: detect table --format tex")
def table(
    results: Results = Path("runs/results.sqlite"),
    form: Annotated[str, typer.Option("--format", help="md, csv or tex.")] = "md",
) -> None:
    """Print AP50 of every policy on every cell type, mean and spread over seeds."""
    from detection.store import Store
    from detection.table import render

    sys.stdout.write(render(Store(results, create=False).all(), form))


def _given(**options: Any) -> dict[str, Any]:
    """Only what was given; the rest keeps the default of the configuration."""
    return {name: value for name, value in options.items() if value is not None}


def _checked(kind: type[C], **values: Any) -> C:
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        option = "--" + str(first["loc"][0]).replace("_", "-") if first["loc"] else "options"
        raise InputError(f"{option}: {first['msg']}, got {first['input']!r}") from error


def _run_folder(data: str, policy: str, seed: int) -> Path:
    def safe(text: str) -> str:
        return "".join(c if c.isalnum() or c in "-_." else "_" for c in text)

    name = Path(policy).stem if policy.endswith(".json") else policy
    return Path("runs/detect") / safe(data) / safe(name) / f"seed{seed}"


@contextmanager
def _needs_detectron2() -> Iterator[None]:
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


@contextmanager
def _training(title: str) -> Iterator[Watcher]:
    """A progress bar with loss and time left on a terminal, a line every tenth of the way elsewhere."""
    from detection.progress import Bar

    with _needs_detectron2():
        from detection.finetune import TrainingDivergedError, Watcher

        try:
            with Bar(title, console) as bar:
                yield Watcher(step=bar.step, say=bar.say)
        except TrainingDivergedError as error:
            sys.stderr.write(f"error: {error}\n")
            raise typer.Exit(1) from error


def _show(scores: dict[str, Any], synthetic: bool) -> None:
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


def main() -> None:
    """Entry point. Bad input ends with exit code 2 and one sentence, never with a traceback."""
    # detectron2 scripts a function while it is imported; a user can do nothing about torch's warning on that.
    warnings.filterwarnings("ignore", message=".*torch.jit.script.*", category=FutureWarning)
    try:
        app()
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()

"""`detect pretrain` and `detect finetune`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detection.cli_options import (
    Batch,
    Data,
    Device,
    Iterations,
    Rate,
    Results,
    Root,
    Seed,
    Weights,
    Workers,
    app,
    checked,
    console,
    given,
    needs_detectron2,
    show_scores,
)
from policy_search.cells.errors import InputError

if TYPE_CHECKING:
    from detection.finetune import Watcher


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
    config = checked(
        PretrainConfig, data=data, out=out, preset=preset, root=root, seed=seed, flip=flip, batch=batch,
        workers=workers, device=device, **length, **given(lr=lr),
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
    from detection.presets import preset as preset_config

    if preset is not None and load_checkpoint(weights).config != preset_config(preset).network:
        raise InputError(f"{weights} does not hold the {preset} network: pretrain one with --preset {preset}")
    config = checked(
        FinetuneConfig, policy=policy, data=data, weights=weights, out=out or _run_folder(data, policy, seed),
        root=root, seed=seed, epochs=epochs, iterations=iterations, factor=factor, unfreeze=unfreeze, evaluate=evaluate,
        results=results, force=force, batch=batch, workers=workers, device=device, **given(lr=lr),
    )  # fmt: skip
    with _training("finetune") as watcher:
        from detection.finetune import finetune as run

        outcome = run(config, watcher)
    if outcome.skipped:
        console.print(f"already in {results}, skipped (--force runs it again)", soft_wrap=True)
    show_scores({r.cell_type + (" (seen)" if r.seen else ""): r for r in outcome.results},
          any(r.synthetic for r in outcome.results))  # fmt: skip


def _run_folder(data: str, policy: str, seed: int) -> Path:
    def safe(text: str) -> str:
        return "".join(c if c.isalnum() or c in "-_." else "_" for c in text)

    name = Path(policy).stem if policy.endswith(".json") else policy
    return Path("runs/detect") / safe(data) / safe(name) / f"seed{seed}"


@contextmanager
def _training(title: str) -> Iterator[Watcher]:
    """A progress bar with loss and time left on a terminal, a line every tenth of the way elsewhere."""
    from detection.progress import Bar

    with needs_detectron2():
        from detection.finetune import TrainingDivergedError, Watcher

        try:
            with Bar(title, console) as bar:
                yield Watcher(step=bar.step, say=bar.say)
        except TrainingDivergedError as error:
            sys.stderr.write(f"error: {error}\n")
            raise typer.Exit(1) from error

"""`detect pretrain` and `detect finetune`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detection.cli_options import (
    Allow,
    Batch,
    Clip,
    Crop,
    Data,
    Decay,
    Device,
    Iterations,
    Optimizer,
    Patience,
    PrecisionOption,
    Processes,
    Rate,
    Results,
    Root,
    SaveEvery,
    Schedule,
    Seed,
    Sizes,
    ValidateEvery,
    ValidateOn,
    Warmup,
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
    from detection.config import FinetuneConfig
    from detection.recipe import Recipe
    from detection.watcher import Watcher


@app.command(epilog="Example: detect pretrain --data A172 --preset tiny --out runs/base")
def pretrain(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder for model.pth, config.json and the TensorBoard log.")],
    preset: Annotated[str, typer.Option(help="Network and recipe: see detect config.")] = "tiny",
    weights: Annotated[Path | None, typer.Option(help="Begin with this backbone. Default: fresh weights.")] = None,
    allow: Allow = None,
    root: Root = None,
    seed: Seed = 0,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over all crops, instead of --iterations.")] = None,
    iterations: Annotated[int | None, typer.Option(min=1, help="Batches. Default: the preset's.")] = None,
    flip: Annotated[bool, typer.Option(help="Mirror and turn crops; the paper's base model sees them as they are.")] = (
        False
    ),
    lr: Rate = None,
    batch: Batch = None,
    crop: Crop = None,
    sizes: Sizes = None,
    optimizer: Optimizer = None,
    schedule: Schedule = None,
    warmup: Warmup = None,
    weight_decay: Decay = None,
    clip: Clip = None,
    precision: PrecisionOption = None,
    validate_on: ValidateOn = None,
    validate_every: ValidateEvery = 200,
    patience: Patience = 0,
    save_every: SaveEvery = 300,
    force: Annotated[bool, typer.Option("--force", help="Start anew although there is an unfinished training.")] = (
        False
    ),
    workers: Workers = 0,
    device: Device = "cpu",
    processes: Processes = 1,
) -> None:
    """Train a base model on one cell type, unaugmented. Stopped, the same command goes on."""
    from detection.config import PretrainConfig
    from detection.presets import preset as preset_of

    if epochs is not None and iterations is not None:
        raise InputError("--epochs and --iterations were both given: choose one")
    length: dict[str, Any] = {"iterations": iterations or preset_of(preset).iterations}
    if epochs is not None:
        length = {"epochs": epochs, "iterations": None}
    recipe = _recipe(
        preset_of(preset).pretraining, device, lr=lr, batch=batch, crop=crop, sizes=sizes, optimizer=optimizer,
        schedule=schedule, warmup=warmup, weight_decay=weight_decay, clip=clip, precision=precision,
    )  # fmt: skip
    config = checked(
        PretrainConfig, data=data, out=out, preset=preset, weights=weights, allow=tuple(allow or ()), root=root,
        seed=seed, flip=flip, validate_on=validate_on, validate_every=validate_every, patience=patience,
        save_every=save_every, force=force, workers=workers, device=device, processes=processes, **length, **recipe,
    )  # fmt: skip
    with _training("pretrain") as watcher:
        from detection.pretrain import pretrain as run

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
    preset: Annotated[
        str | None, typer.Option(help="Network and recipe; other weights are refused. Default: the weights' own.")
    ] = None,
    allow: Allow = None,
    evaluate: Annotated[
        str,
        typer.Option("--eval", help="Types and COCO files to test on, by commas; all: types with a test image."),
    ] = "all",
    root: Root = None,
    seed: Seed = 0,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over all crops of the threefold set.")] = 15,
    iterations: Iterations = None,
    factor: Annotated[int, typer.Option(min=1, help="Copies of each image: 1 untouched, the rest augmented.")] = 3,
    unfreeze: Annotated[bool, typer.Option("--unfreeze", help="Train the backbone, too.")] = False,
    results: Results = Path("runs/results.sqlite"),
    force: Annotated[bool, typer.Option("--force", help="Run from the start although the result is there.")] = False,
    lr: Rate = None,
    batch: Batch = None,
    crop: Crop = None,
    sizes: Sizes = None,
    optimizer: Optimizer = None,
    schedule: Schedule = None,
    warmup: Warmup = None,
    weight_decay: Decay = None,
    clip: Clip = None,
    precision: PrecisionOption = None,
    validate_on: ValidateOn = None,
    validate_every: ValidateEvery = 200,
    patience: Patience = 0,
    save_every: SaveEvery = 300,
    feature_cache: Annotated[Path | None, typer.Option(help="Keep features of the frozen backbone here.")] = None,
    feature_cache_gb: Annotated[float, typer.Option(min=0.001, help="Size of that folder at most.")] = 20,
    materialize: Annotated[Path | None, typer.Option(help="Write the training set here: COCO and images.")] = None,
    keep_detections: Annotated[
        bool, typer.Option("--keep-detections", help="Write what was found in test images: OUT/test, COCO files.")
    ] = False,
    workers: Workers = 0,
    device: Device = "cpu",
    processes: Processes = 1,
) -> None:
    """Fine-tune a base model with a policy and test it on every cell type. Stopped, the same command goes on."""
    config = finetune_config(
        policy=policy, data=data, weights=weights, out=out, preset=preset, allow=allow, evaluate=evaluate, root=root,
        seed=seed, epochs=epochs, iterations=iterations, factor=factor, unfreeze=unfreeze, results=results,
        force=force, lr=lr, batch=batch, crop=crop, sizes=sizes, optimizer=optimizer, schedule=schedule,
        warmup=warmup, weight_decay=weight_decay, clip=clip, precision=precision, validate_on=validate_on,
        validate_every=validate_every, patience=patience, save_every=save_every, feature_cache=feature_cache,
        feature_cache_gb=feature_cache_gb, materialize=materialize, keep_detections=keep_detections, workers=workers,
        device=device, processes=processes,
    )  # fmt: skip
    with _training("finetune") as watcher:
        from detection.finetune import finetune as run

        outcome = run(config, watcher)
    if outcome.skipped:
        console.print(f"already in {results}, skipped (--force runs it again)", soft_wrap=True)
    show_scores({r.cell_type + (" (seen)" if r.seen else ""): r for r in outcome.results},
          any(r.synthetic for r in outcome.results))  # fmt: skip


def finetune_config(
    *, policy: str, data: str, weights: Path, out: Path | None, preset: str | None, allow: list[str] | None, seed: int,
    device: str, lr: float | None, batch: int | None, crop: int | None, sizes: str | None, optimizer: str | None,
    schedule: str | None, warmup: int | None, weight_decay: float | None, clip: float | None, precision: str | None,
    **rest: Any,
) -> FinetuneConfig:  # fmt: skip
    """The configuration of `detect finetune` from its options, those of `rest` as they are. Reads the weights.

    Raises:
        InputError: an option that cannot be used, or weights of another network.
    """
    from detection.config import FinetuneConfig
    from detection.presets import preset as preset_of
    from detection.weights import base_weights, preset_name

    if preset is None:
        preset = preset_name(base_weights(weights, None), weights)
    else:
        base_weights(weights, preset_of(preset).network, tuple(allow or ()))
    recipe = _recipe(
        preset_of(preset).finetuning, device, lr=lr, batch=batch, crop=crop, sizes=sizes, optimizer=optimizer,
        schedule=schedule, warmup=warmup, weight_decay=weight_decay, clip=clip, precision=precision,
    )  # fmt: skip
    return checked(
        FinetuneConfig, policy=policy, data=data, weights=weights, out=out or _run_folder(data, policy, seed),
        preset=preset, allow=tuple(allow or ()), seed=seed, device=device, **rest, **recipe,
    )  # fmt: skip


def _recipe(preset: Recipe, device: str, *, sizes: str | None, precision: str | None, **options: Any) -> dict[str, Any]:
    """The preset's recipe with what was given in its place; concrete, so that it can be saved beside a result."""
    recipe = {**preset.model_dump(), **given(**options)}
    if sizes is not None:
        try:
            recipe["sizes"] = () if sizes.strip().lower() == "none" else tuple(int(s) for s in sizes.split(","))
        except ValueError:
            raise InputError(f"--sizes: expected numbers of pixels by commas, or none, got {sizes!r}") from None
        if any(size < 1 for size in recipe["sizes"]):
            raise InputError(f"--sizes: every size must be at least 1 pixel, got {sizes!r}")
    from detection.precision import resolve_precision

    recipe["precision"] = resolve_precision(precision or preset.precision, device)
    return recipe


def _run_folder(data: str, policy: str, seed: int) -> Path:
    def safe(text: str) -> str:
        return "".join(c if c.isalnum() or c in "-_." else "_" for c in text)

    name = Path(policy).stem if policy.endswith(".json") else policy
    return Path("runs/detect") / safe(data) / safe(name) / f"seed{seed}"


@contextmanager
def _training(title: str) -> Iterator[Watcher]:
    """A progress bar with loss, AP50 and time left on a terminal, a line every tenth of the way elsewhere."""
    from detection.failures import TrainingError, TrainingInterrupted
    from detection.progress import Bar
    from detection.watcher import Watcher

    with needs_detectron2():
        try:
            with Bar(title, console) as bar:
                yield Watcher(step=bar.step, say=bar.say, validated=bar.validated)
        except TrainingError as error:
            sys.stderr.write(f"error: {error}\n")
            raise typer.Exit(1) from error
        except TrainingInterrupted as stopped:
            sys.stderr.write(f"{stopped}\n")
            raise typer.Exit(130) from stopped

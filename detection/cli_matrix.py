"""`detect matrix`: an experiment file, run to its end."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from detection.cli_options import Results, Root, app, checked, console, needs_detectron2

if TYPE_CHECKING:
    from detection.matrix import MatrixConfig, Outcome, Ready
    from detection.tasks import Engine

STOPPED = 130
# Those of this installation, whatever PATH says.
PROGRAMS = {
    "detect": (sys.executable, "-m", "detection.cli"),
    "policy-search": (sys.executable, "-m", "policy_search.cli"),
}


@app.command(epilog="Example: detect matrix experiments/table1.toml --scale demo")
def matrix(
    experiment: Annotated[Path, typer.Argument(help="Experiment file, such as experiments/table1.toml.")],
    scale: Annotated[str, typer.Option(help="One of the file's scales: demo, livecell-mini, livecell, …")] = "demo",
    root: Root = None,
    weights: Annotated[
        Path | None, typer.Option(help="Base model, such as LIVECell's published one. Default: the scale's.")
    ] = None,
    evaluate: Annotated[str | None, typer.Option("--eval", help="Types to test on. Default: the scale's.")] = None,
    results: Results = Path("runs/results.sqlite"),
    work: Annotated[Path, typer.Option(help="Folder of base models, searches and runs.")] = Path("runs/matrix"),
    only: Annotated[list[str] | None, typer.Option(help="A row by its label; may be given again.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Fine-tunes to run now at most.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what is to do and every command.")] = False,
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="Processes of this machine, or a Ray cluster.")
    ] = "local",
    jobs: Annotated[int, typer.Option(min=1, help="Processes at a time, with --engine local.")] = 1,
    address: Annotated[
        str | None, typer.Option(help="Of a Ray cluster. Default: one that is started here for the time.")
    ] = None,
    gpus_per_run: Annotated[
        float | None, typer.Option(min=0, help="GPUs, or a part of one, for each run. Default: the scale's.")
    ] = None,
    retry: Annotated[int, typer.Option(min=0, help="How often a run that was killed is started again.")] = 2,
) -> None:
    """Fine-tune with every policy of an experiment, on each source and seed.

    Results that are there are skipped, so the same command goes on after any stop. What is finished stands in
    WORK/SCALE/EXPERIMENT.json.
    """
    from detection.matrix import MatrixConfig, prepare

    config = checked(
        MatrixConfig, experiment=experiment, scale=scale, root=root, weights=weights, evaluate=evaluate,
        results=results, work=work, only=tuple(only or ()), limit=limit, gpus=gpus_per_run,
    )  # fmt: skip
    with needs_detectron2():
        ready = prepare(config)
        _say_what(config, ready, jobs, dry_run)
        if dry_run:
            return
        outcome = _run(config, ready, _engine(engine, ready, jobs, retry, address))
    _say_end(outcome, config)
    if outcome.failures:
        raise typer.Exit(1)


def _say_what(config: MatrixConfig, ready: Ready, jobs: int, every_command: bool) -> None:
    from detection.matrices.ledger import Ledger
    from detection.matrices.overview import commands, headline, overview
    from detection.matrices.writer import shell_line
    from detection.matrix import open_cells

    synthetic = any(cell.source.lower().startswith("demo/") for cell in ready.plan.cells)
    _print(headline(ready, synthetic))
    cells = open_cells(config, ready, Ledger(config.results, look_only=True))
    for line in overview(ready, cells, jobs):
        _print(line)
    if every_command:
        for line in commands(ready, cells, lambda words: shell_line(words, config.root)):
            typer.echo(line)  # a terminal must not break it


def _run(config: MatrixConfig, ready: Ready, engine: Engine) -> Outcome:
    from detection.local_engine import LocalEngine
    from detection.matrices.writer import Session
    from detection.matrix import run_matrix

    here = isinstance(engine, LocalEngine)
    session = Session(_again(), getattr(engine, "threads", 0), here)
    try:
        with _terminated_like_interrupted():
            return run_matrix(config, ready, engine, partial(_view, engine), session, _print)
    except KeyboardInterrupt:
        sys.stderr.write(f"interrupted; running tasks have saved their state. This goes on:\n{_again()}\n")
        raise typer.Exit(STOPPED) from None
    except OSError as error:  # the record; whatever a single task could not write is that task's failure
        place = error.filename2 or error.filename or config.folder
        sys.stderr.write(f"error: {place}: {error.strerror}. Make room or give way; the same command goes on\n")
        raise typer.Exit(1) from None


def _engine(name: str, ready: Ready, jobs: int, retry: int, address: str | None) -> Engine:
    if name == "ray":
        from detection.engine import RayEngine

        return RayEngine(address=address, retries=retry, programs=PROGRAMS)
    from detection.local_engine import LocalEngine

    needs_gpu = any(cell.task.gpus for cell in ready.plan.cells)
    return LocalEngine(jobs, retry, _gpus() if needs_gpu else (), programs=PROGRAMS)


def _gpus() -> list[str]:
    """Names for CUDA_VISIBLE_DEVICES of the GPUs that this process may use."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip()]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


def _view(engine: Engine, total: int, names: Sequence[str]) -> Any:
    if console.is_terminal:
        from detection.matrices.progress import MatrixProgress

        place = getattr(engine, "place", lambda task: "")  # one machine needs no name
        return MatrixProgress(console, total, names, place=place)
    from detection.matrices.lines import MatrixLines

    return MatrixLines(console, total, names)


def _say_end(outcome: Outcome, config: MatrixConfig) -> None:
    _print(f"{outcome.done} of {outcome.planned} fine-tunes are in {config.results}; wrote {outcome.record}")
    if outcome.failures:
        sys.stderr.write(f"error: {len(outcome.failures)} failed; the same command tries them again:\n")
        for failure in outcome.failures:
            sys.stderr.write(f"\n{failure.name}\n  " + failure.message.replace("\n", "\n  ") + "\n")


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM, which batch systems send, stops as Ctrl-C does."""

    def handle(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _again() -> str:
    return shlex.join(["detect", *sys.argv[1:]])


def _print(line: str) -> None:
    console.print(line, soft_wrap=True, highlight=False, markup=False)

"""The commands that run a study: run, resume, worker."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from policy_search.cells.errors import InputError

if TYPE_CHECKING:
    from policy_search.config import RunConfig

console = Console()
NOT_BEGUN = "stopped before anything was begun: repeat the command"
Root = Annotated[Path | None, typer.Option(help="LIVECell's folder. Default: LIVECELL_ROOT, else the user cache.")]
Artifacts = Annotated[
    Path | None, typer.Option(help="Folder of the dashboard's pictures. Default: OUT/artifacts.", show_default=False)
]


def run(
    data: Annotated[
        str, typer.Option(help="A172 (any LIVECell type, or several by commas), all, demo/A172, or a COCO file.")
    ],
    root: Root = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder; naming it again continues it. Default: runs/search/DATA-seedN.")
    ] = None,
    objective: Annotated[
        str,
        typer.Option(
            help="What scores a policy: probe (a small network trained under it, on shifted images), bridge (how near "
            "its images come to those of --target), affinity-diversity (does a trained network still know its images, "
            "does it have to work for them), tradeoff (the product of both) or ap50 (a real fine-tune: minutes each)."
        ),
    ] = "probe",
    target: Annotated[
        str,
        typer.Option(help="Types without labels, by commas: policies are learnt from their images alone, too."),
    ] = "",
    trials: Annotated[int, typer.Option(help="Policies to score, the naive strategies included.")] = 20,
    steps: Annotated[int, typer.Option(help="Gradient steps of each policy learnt from the source.")] = 200,
    target_steps: Annotated[int, typer.Option(help="With --target: steps of each policy learnt for it.")] = 320,
    recognise_steps: Annotated[
        int, typer.Option(help="With --target: training of networks that recognise the size of its cells; 0: none.")
    ] = 400,
    seed: Annotated[int, typer.Option(help="Same seed, same policy.")] = 0,
    per_transform: Annotated[
        bool, typer.Option("--per-transform", help="Stacks with one probability for each transform.")
    ] = False,
    storage: Annotated[
        str | None,
        typer.Option(
            help="postgresql://USER@HOST/DATABASE for several workers (password: PGPASSWORD or ~/.pgpass), or "
            "sqlite:///FILE. Default: sqlite:///OUT/study.db."
        ),
    ] = None,
    study: Annotated[str | None, typer.Option(help="The study's name. Default: DATA seed N.")] = None,
    parallel: Annotated[
        int, typer.Option(help="Trials that may run at once. Same number, same result with any number of workers.")
    ] = 4,
    artifacts: Artifacts = None,
    heartbeat: Annotated[
        int, typer.Option(help="PostgreSQL: seconds between a worker's signs of life; after two without it is dead.")
    ] = 60,
    validate_on: Annotated[
        str, typer.Option(help="Labelled types to score on, by commas. Default: the source under held-back shifts.")
    ] = "",
    final_seeds: Annotated[int, typer.Option(help="Fresh seeds of the second round.")] = 5,
    finalists: Annotated[int, typer.Option(help="Learnt policies, and naive ones, in the second round.")] = 3,
    probe_steps: Annotated[int, typer.Option(help="Training steps of the probe under a policy.")] = 120,
    probe_base_steps: Annotated[int, typer.Option(help="Training steps every probe starts from, unaugmented.")] = 400,
    weights: Annotated[
        Path | None, typer.Option(help="Base model of `detect pretrain`, for ap50. Default: one is trained in OUT.")
    ] = None,
    ap50_iterations: Annotated[int, typer.Option(help="Iterations of a fine-tune, for ap50.")] = 150,
) -> None:
    """Find the augmentation policy that helps most where nobody labelled: OUT/best.json."""
    from policy_search.config import RunConfig

    config = RunConfig(
        data=data, root=root, out=out or Path("runs/search") / f"{_safe(data)}-seed{seed}",
        objective=objective, target=_names(target), trials=trials, steps=steps,
        target_steps=target_steps,
        recognise_steps=recognise_steps, seed=seed, per_transform=per_transform, storage=storage,
        study=study, parallel=parallel, artifacts=artifacts, heartbeat=heartbeat, validate_on=_names(validate_on),
        final_seeds=final_seeds, finalists=finalists, probe_steps=probe_steps, probe_base_steps=probe_base_steps,
        weights=weights, ap50_iterations=ap50_iterations,
    )  # fmt: skip
    _to_the_end(config)


def resume(
    folder: Annotated[
        Path | None, typer.Argument(metavar="STUDY", help="Run folder of an interrupted run.", show_default=False)
    ] = None,
    storage: Annotated[str | None, typer.Option(help="Instead of STUDY: the storage that holds the study.")] = None,
    study: Annotated[str | None, typer.Option(help="With --storage: the study's name.")] = None,
    out: Annotated[Path | None, typer.Option(help="With --storage: run folder to make.")] = None,
    root: Root = None,
    artifacts: Artifacts = None,
) -> None:
    """Go on with an interrupted run where it stopped; with --storage also on another machine than it was begun on."""
    if (folder is None) == (storage is None):
        raise InputError("expected either STUDY, the folder of a run, or --storage with --study and --out")
    if folder is not None:
        if study is not None or out is not None:
            other = "--study" if study is not None else "--out"
            raise InputError(f"{other} goes with --storage: STUDY, the folder of a run, says it all")
        from policy_search.study.reports.data import read_config

        config, _ = read_config(folder)
        given = {"out": folder, **({"root": root} if root else {}), **({"artifacts": artifacts} if artifacts else {})}
        _to_the_end(config.model_copy(update=given))
        return
    if storage is None or study is None or out is None:
        raise InputError("--storage needs --study, the name of the study, and --out, the run folder to make")
    with _stoppable(lambda: NOT_BEGUN):
        from policy_search.study.runner import config_of

        config = config_of(storage, study, out=out, root=root, artifacts=artifacts)
    _to_the_end(config, adopt=True)


def worker(
    storage: Annotated[str, typer.Option(help="The storage that the study was begun in: postgresql://…")],
    study: Annotated[str, typer.Option(help="The study's name, as `policy-search run` gave it.")],
    root: Root = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for what this worker measures. Default: runs/workers/STUDY/HOST-PID.")
    ] = None,
    artifacts: Annotated[
        Path | None, typer.Option(help="The run's artifact folder, if this machine has it: pictures for the dashboard.")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="The base model on this machine, for ap50.")] = None,
) -> None:
    """Share the work of a study that policy-search run has begun, until it is done. That run writes best.json."""
    folder = out or Path("runs/workers") / _safe(study) / f"{socket.gethostname()}-{os.getpid()}"
    with _stoppable(lambda: "stopped; the study goes on without this worker, which comes back by the same command"):
        from policy_search.progress import StudyBar
        from policy_search.study.runner import join_study

        with StudyBar(console) as bar:
            trials, finals = join_study(
                storage, study, out=folder, root=root, artifacts=artifacts, weights=weights, progress=bar
            )
    _say(f"The study is done. This worker did {trials} trials and {finals} scorings of the second round.")


def _to_the_end(config: RunConfig, *, adopt: bool = False) -> None:
    def hint() -> str:
        if not (config.out / "config.json").is_file():
            return NOT_BEGUN
        return f"stopped; this goes on: policy-search resume {shlex.quote(str(config.out))}"

    with _stoppable(hint):
        from policy_search.progress import StudyBar
        from policy_search.study.previews import save_run_previews
        from policy_search.study.runner import run_study

        with StudyBar(console) as bar:
            outcome = run_study(config, progress=bar, adopt=adopt)
        pictures = save_run_previews(outcome, config)
    _say(outcome.verdict.sentence)
    if not outcome.made:
        _say("no trial was left to do: this run had found all that before")
    _say(f"wrote {outcome.best_path}")
    _say(f"see   {config.out / 'report.md'} and {pictures}, or: policy-search dashboard {config.out}")


@contextmanager
def _stoppable(hint: Callable[[], str]) -> Iterator[None]:
    """Ctrl-C and SIGTERM (what a cluster sends) free the trial that is under way and say how to go on: exit code 130.
    What breaks while a study runs is one sentence and exit code 1."""
    asked = False
    hook = sys.unraisablehook

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        raise KeyboardInterrupt

    def again(lost: sys.UnraisableHookArgs) -> None:
        # The signal came while an object was being collected, from where no exception gets out.
        if issubclass(lost.exc_type, KeyboardInterrupt):
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        else:
            hook(lost)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    sys.unraisablehook = again
    try:
        yield
    except (KeyboardInterrupt, Exception) as error:
        # Who is asked to stop may meet something else on the way out, such as a storage that is away.
        if asked or isinstance(error, KeyboardInterrupt):
            typer.echo(hint(), err=True)
            raise typer.Exit(130) from None
        sentence = _broken(error)
        if sentence is None:
            raise
        typer.echo(f"error: {sentence}", err=True)
        raise typer.Exit(1) from None
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def _broken(error: Exception) -> str | None:
    """What broke a study that was running; None for bad input and for errors of this program."""
    from policy_search.study.storages.patience import StorageLostError
    from policy_search.study.worker import StudyBrokenError

    if isinstance(error, StudyBrokenError | StorageLostError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror}. What is finished is kept: mend that and repeat the command."
    return None


def _say(text: str) -> None:
    console.print(text, soft_wrap=True, highlight=False, markup=False)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _safe(text: str) -> str:
    """A name for a folder."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in text)


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(epilog="Example: policy-search run --data demo/A172 --trials 6 --out runs/demo")(run)
    app.command(epilog="Example: policy-search resume runs/search/A172-seed0")(resume)
    app.command(epilog="Example: policy-search worker --storage postgresql://lab@host/studies --study 'A172 seed 0'")(
        worker
    )

"""The command `policy-search search`: one policy by gradient, without a study."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from policy_search.config import SearchConfig

EXAMPLE = "Example: policy-search search --data demo/A172 --steps 60 --out runs/one"
STOPPED, DIVERGED = 130, 1  # exit codes; 2 is bad input

_default = {name: field.default for name, field in SearchConfig.model_fields.items()}


def search(
    data: Annotated[str, typer.Option(help="Labelled cells: A172 (any LIVECell type), demo/A172, or a COCO file.")],
    out: Annotated[Path, typer.Option(help="Run folder; naming it again continues it.")],
    target: Annotated[
        str, typer.Option(help="Types to match, by commas: their images alone. Default: none, the source's own look.")
    ] = "",
    root: Annotated[
        Path | None, typer.Option(help="LIVECell's folder. Default: LIVECELL_ROOT, else the user cache.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Gradient steps. Default: 200, and 320 with --target.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same policy.")] = _default["seed"],
    sub_policies: Annotated[int, typer.Option(help="Sub-policies; each image goes through one.")] = _default[
        "sub_policies"
    ],
    device: Annotated[
        Literal["cpu", "cuda", "auto"], typer.Option(help="Where it runs; only the CPU repeats bit for bit.")
    ] = "cpu",
    recognise_steps: Annotated[
        int,
        typer.Option(help="With --target: training of networks that tell the size of its cells. 0: do without."),
    ] = _default["recognise_steps"],
    operations: Annotated[str, typer.Option(help="Operations to choose from, by commas. Default: all.")] = "",
    checkpoint_every: Annotated[int, typer.Option(help="Steps that a killed run may lose.")] = _default[
        "checkpoint_every"
    ],
    crop: Annotated[int, typer.Option(help="Side of what the critic sees, pixels.")] = _default["crop"],
    max_images: Annotated[int, typer.Option(help="Images read of each type, spread over the wells.")] = _default[
        "max_images"
    ],
    batch: Annotated[int, typer.Option(help="Images a step.")] = _default["batch"],
) -> None:
    """Learn one policy by gradient: OUT/policy.json. Ctrl-C stops it, the same command goes on."""
    config = SearchConfig(
        data=data, out=out, target=_names(target), root=root, steps=steps, seed=seed, sub_policies=sub_policies,
        device=_device(device), recognise_steps=recognise_steps, operations=_names(operations), crop=crop, batch=batch,
        max_images=max_images, checkpoint_every=checkpoint_every,
    )  # fmt: skip
    from policy_search.relaxed.search import SearchDivergedError
    from policy_search.search_progress import SearchBar
    from policy_search.search_run import run_search

    console = Console()
    try:
        with SearchBar(console) as bar:
            outcome = run_search(config, listener=bar)
    except SearchDivergedError as error:
        print(f"error: {error} The steps before it are in {out / 'history.jsonl'}.", file=sys.stderr)
        raise typer.Exit(DIVERGED) from None
    if outcome.document is None:
        console.print(f"stopped with {outcome.left} steps left; this goes on:", highlight=False)
        console.print(shlex.join(["policy-search", *sys.argv[1:]]), soft_wrap=True, highlight=False, markup=False)
        raise typer.Exit(STOPPED)
    if outcome.made == 0:
        console.print(f"finished already: {outcome.policy_path}", soft_wrap=True, highlight=False)
        return
    console.print(f"wrote {outcome.policy_path}", soft_wrap=True, highlight=False)
    console.print(f"see   {out / 'preview.png'} and {out / 'tensorboard'}", soft_wrap=True, highlight=False)


def _device(name: str) -> Literal["cpu", "cuda"]:
    """Takes "auto" for a CUDA device where there is one."""
    if name != "auto":
        return "cuda" if name == "cuda" else "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())

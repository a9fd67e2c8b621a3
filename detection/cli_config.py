"""`detect config`: what a preset is made of."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from detection.cli_options import app, needs_detectron2


@app.command(epilog="Example: detect config --preset livecell")
def config(
    preset: Annotated[str, typer.Option(help="tiny, r50 or livecell.")] = "tiny",
    keys: Annotated[
        bool, typer.Option("--keys", help="The weights instead: name, shape, dtype and kind, as JSON lines.")
    ] = False,
) -> None:
    """Print a preset as TOML: its network and both recipes."""
    from detection.presets import preset as preset_of
    from detection.toml import table

    chosen = preset_of(preset)
    if keys:
        with needs_detectron2():
            from detection.model import state_entries

            entries = state_entries(chosen.network)
        for entry in entries:
            typer.echo(json.dumps(entry._asdict()))
        return
    # `echo`, not the console: what is printed can be kept as a file.
    typer.echo(f"# preset {preset}; pretraining takes {chosen.iterations} iterations\n")
    parts = ("network", "pretraining", "finetuning")
    typer.echo("\n\n".join(table(part, getattr(chosen, part)) for part in parts))

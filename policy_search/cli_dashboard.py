"""The command `policy-search dashboard`: a study in the browser, while it runs or afterwards."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

console = Console()


def dashboard(
    study: Annotated[
        str | None,
        typer.Argument(metavar="STUDY", help="Run folder of policy-search run; with --storage, a name will do."),
    ] = None,
    storage: Annotated[str | None, typer.Option(help="Optuna storage URL. Default: the run folder's.")] = None,
    artifacts: Annotated[Path | None, typer.Option(help="Folder of the pictures. Default: the run folder's.")] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 8080,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
) -> None:
    """Show a study in optuna-dashboard, for this machine alone; it may be running. Ctrl-C ends it."""
    from policy_search.study.dashboard import make_server_for, open_study

    opened = open_study(study, storage, artifacts)
    server = make_server_for(opened, port)
    url = opened.url(port)
    console.print(f"{url}  (Ctrl-C ends it)", soft_wrap=True, highlight=False, markup=False)
    if opened.artifacts is None:
        console.print("pictures are not shown: give --artifacts FOLDER", soft_wrap=True, highlight=False, markup=False)
    try:
        if browser:
            webbrowser.open(url)
        server.serve_forever()
    except KeyboardInterrupt:
        console.print("dashboard ended", highlight=False)
    finally:
        server.server_close()
        opened.storage.engine.dispose()


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(epilog="Example: policy-search dashboard runs/search/A172-seed0")(dashboard)

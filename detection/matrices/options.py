"""Options in experiment files: held against the commands' own before anything runs, and written as words of a command.

An option is written as its long name without dashes in front and with `_` for `-`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import typer

from detection.cli_options import app
from detection.config import FinetuneConfig
from detection.matrices.file import Options, Value, nearest
from policy_search.cells.errors import InputError

# What the matrix itself gives to each command.
_GIVEN = {
    "search": ("data", "out", "root", "seed"),
    "pretrain": ("data", "out", "root", "seed", "force"),
    "finetune": ("data", "eval", "force", "materialize", "out", "policy", "results", "root", "seed", "weights"),
}
# A value for each that a command cannot do without, so that the others can be read alone.
_REQUIRED = {"pretrain": ("--data", "x", "--out", "x"), "finetune": ("--policy", "x", "--data", "x", "--weights", "x")}


def check_options(where: str, command: str, options: Mapping[str, Value]) -> None:
    """Raises:
    InputError: an option that the command does not have (the nearest one is named) or that the matrix gives itself, or
        a value of the wrong kind.
    """
    known = sorted(_names(command))
    for name in options:
        if name in _GIVEN[command]:
            raise InputError(f"{where}: {name!r} is given by the matrix itself: leave it out")
        if name not in known:
            raise InputError(f"{where}: unknown option {name!r}; {nearest(name, known)}")
        value, switch = options[name], command != "search" and _parameter(command, name).is_flag
        if switch != isinstance(value, bool):
            raise InputError(
                f"{where}: {name}: expected {'true or false' if switch else 'a text or a number'}, found {value!r}"
            )
        if isinstance(value, list) and not (command != "search" and _parameter(command, name).multiple):
            raise InputError(f"{where}: {name}: expected one value, found {value!r}")
        if command != "search":
            _parsed(where, command, (*_REQUIRED[command], *option_words({name: value})))


def option_words(options: Options) -> list[str]:
    """`{"lr": 0.1, "unfreeze": True}` → `["--lr", "0.1", "--unfreeze"]`; False leaves a switch out."""
    words: list[str] = []
    for name, value in options.items():
        option = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            words += [option] if value else []
        else:
            for item in value if isinstance(value, list) else [value]:
                words += [option, str(item)]
    return words


def finetune_config(words: Sequence[str]) -> FinetuneConfig:
    """The configuration that `detect finetune WORDS` runs with. Reads the weights that it names.

    Raises:
        InputError: as the command would.
    """
    from detection.cli_train import finetune_config as configure

    return configure(**_parsed("detect finetune", "finetune", words))


def _parsed(where: str, command: str, words: Sequence[str]) -> dict[str, Any]:
    """Words of a `detect` command as the arguments of its function."""
    try:
        return dict(_detect(command).make_context(command, list(words)).params)
    except typer.BadParameter as error:
        raise InputError(f"{where}: {error.format_message()}") from None


def _detect(command: str) -> Any:
    import detection.cli_train  # noqa: F401  # registers the commands

    return typer.main.get_command(app).commands[command]  # type: ignore[attr-defined]


def _parameter(command: str, name: str) -> Any:
    option = "--" + name.replace("_", "-")
    return next(parameter for parameter in _detect(command).params if option in parameter.opts)


@cache
def _names(command: str) -> frozenset[str]:
    """The long names of a command's options, as written in a file."""
    if command == "search":
        return _search_names()
    return frozenset(
        option.removeprefix("--").replace("-", "_")
        for parameter in _detect(command).params
        for option in parameter.opts
        if option.startswith("--")
    )


def _search_names() -> frozenset[str]:
    """Those of `policy-search search`, from its help: the detector does not import the search."""
    words = [sys.executable, "-m", "policy_search.cli", "search", "--help"]
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    shown = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    names = re.findall(r"^\s+--([a-z][a-z0-9-]*)", shown.stdout, re.MULTILINE)
    if shown.returncode or not names:
        raise InputError(f"`policy-search search --help` does not run here: {shown.stderr.strip()[-300:]}")
    return frozenset(name.replace("-", "_") for name in names) - {"help"}

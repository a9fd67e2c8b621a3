"""How large the cells of each target are: recognised before the first step, kept in sizes.json for runs that go on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from policy_search.cells.errors import InputError
from policy_search.cells.files import write_json
from policy_search.interrupts import stop_wanted
from policy_search.relaxed.search import SearchDivergedError
from policy_search.search_data import SearchData
from policy_search.study.probe import ProbeError
from policy_search.study.sizes import NETWORKS, ask, train_networks


class Stopped(Exception):
    """The user wants to stop; nothing is kept of networks that are not trained to the end."""


def sizes_of(path: Path, data: SearchData, *, steps: int, seed: int, tell: Callable[[str], None]) -> dict[str, float]:
    """Target type -> size of its cells, in those of the source.

    Args:
        path: sizes.json; read if it is there, else written.
        data: the source with labels, the targets without.
        steps: training of each network; 0: none, and no size is known.
        seed: of the networks.
        tell: is given lines to print.

    Raises:
        InputError: the file is damaged, or of other targets.
        SearchDivergedError: the training of a network went wrong.
        Stopped: by SIGINT or SIGTERM.
    """
    if not data.targets or steps == 0:
        return {}
    if path.is_file():
        return _read(path, data)
    tell(f"training {NETWORKS} networks of {steps} steps on {data.source.name}, to recognise the size of the cells")
    with stop_wanted() as stopped:

        def check(*_: int) -> None:
            if stopped():
                raise Stopped

        try:
            networks = train_networks(data.samples, seed=seed, steps=steps, after=check)
        except ProbeError as error:
            raise SearchDivergedError(f"{error}. --recognise-steps 0 does without these networks.") from error
        answers = ask(networks, [sample.image for sample in data.samples], data.targets, check)
    write_json(
        path,
        {
            name: {"size": one.size, "confidence": {f"{size:g}": value for size, value in one.confidence.items()}}
            for name, one in answers.by_target.items()
        },
    )
    sizes = {name: one.size for name, one in answers.by_target.items()}
    tell(
        describe(sizes)
        if answers.knows
        else "size of the cells: not recognised, as networks of the source do not know their own; taken for equal"
    )
    return sizes


def describe(sizes: dict[str, float]) -> str:
    """One line."""
    told = ", ".join(
        f"{name} {size:.2f}" if size != 1 else f"{name} 1 (no other is clear)" for name, size in sizes.items()
    )
    return f"size of the cells, in the source's: {told}"


def _read(path: Path, data: SearchData) -> dict[str, float]:
    try:
        found = {name: float(one["size"]) for name, one in json.loads(path.read_text(encoding="utf-8")).items()}
        if list(found) != list(data.targets):
            raise ValueError(f"sizes of {', '.join(found)}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is damaged ({error}). Choose another --out, or delete the folder to start over."
        ) from error
    return found

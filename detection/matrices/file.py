"""Experiment files: which policies are compared, on which seeds, and what that means at each scale. TOML, strict."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from detection.network import Frozen
from policy_search.cells import CELL_TYPES
from policy_search.cells.errors import InputError

SEARCH = "search:"
BUT = "all but "  # a source: every type of the scale except one
_DEMO = "demo/"

Value = bool | int | float | str | list[str]
Options = dict[str, Value]
_KINDS = ("bool", "int", "float", "str", "list[str]")


class Row(Frozen):
    """One policy of the comparison.

    Attributes:
        label: what tables call it; unique.
        policy: a naive strategy, a policy file (relative to the experiment file), or `search:NAME`. None: each scale
            names its own in `policies`.
        paper: its column in the paper's tables.
        finetune: options of `detect finetune` for this row alone.
        scales: where it is compared; None is everywhere.
    """

    label: str = Field(min_length=1)
    policy: str | None = Field(None, min_length=1)
    paper: str | None = None
    finetune: Options = Field(default_factory=dict)
    scales: tuple[str, ...] | None = None


class Scale(Frozen):
    """What the experiment means on one collection of images.

    Attributes:
        sources: `--data` names, or `all but TYPE` (`demo/all but TYPE`).
        types: what `{unseen}` and `all but` count from.
        eval: types to test on, as for `--eval`.
        pretrain: options of `detect pretrain`: a base model for each source and seed.
        weights: a given base model instead, relative to the experiment file. Without both, `--weights` must name one.
        finetune, searches: options over the experiment's.
        policies: label of a row → its policy at this scale.
        gpus: share of a GPU that each run needs; 0 for the CPU.
    """

    sources: tuple[str, ...] = Field(min_length=1)
    types: tuple[str, ...] = tuple(cell_type.name for cell_type in CELL_TYPES)
    eval: str = "all"
    pretrain: Options | None = None
    weights: str | None = None
    finetune: Options = Field(default_factory=dict)
    searches: dict[str, Options] = Field(default_factory=dict)
    policies: dict[str, str] = Field(default_factory=dict)
    gpus: float = Field(0, ge=0)


class Experiment(Frozen):
    """An experiment file.

    Attributes:
        title: of its tables. reference: label of the row that gains are counted from.
        seeds: every row runs with each.
        rows: what is compared.
        searches: NAME → options of `policy-search search`; one policy for each source and seed.
        finetune: options of every `detect finetune`.
        scales: what `--scale` chooses from.
    """

    title: str
    reference: str
    seeds: tuple[int, ...] = Field(min_length=1)
    rows: tuple[Row, ...] = Field(min_length=1)
    searches: dict[str, Options] = Field(default_factory=dict)
    finetune: Options = Field(default_factory=dict)
    scales: dict[str, Scale] = Field(min_length=1)

    def rows_at(self, scale: str) -> list[Row]:
        """The rows that are compared at a scale, in order."""
        return [row for row in self.rows if row.scales is None or scale in row.scales]


def read_experiment(path: str | Path) -> Experiment:
    """Read an experiment file. With `base = "FILE"` it takes over that file's values and sets its own over them.

    Raises:
        InputError: missing, not TOML, an unknown key (the nearest known one is named), a wrong value, or rows, searches
            and scales that do not fit together.
    """
    file = Path(path)
    content = _read(file)
    if "base" in content:
        base = content.pop("base")
        if not isinstance(base, str):
            raise InputError(f"{file}: base: expected the name of a file, found {base!r}")
        content = _over(_read(file.parent / base), content)
    _check_keys(content, file)
    try:
        experiment = Experiment.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        # A value of an option may be of several kinds, and pydantic names each that it tried after the key.
        where = [part for part in first["loc"] if part not in _KINDS]
        wrong = first["msg"]
        if len(where) < len(first["loc"]):
            where = where[:-1] if isinstance(where[-1], int) else where  # an item of a list
            wrong = "expected a text, a number, true or false, or a list of texts"
        found = "" if first["type"] == "missing" else f", found {_at(content, where)!r}"
        raise InputError(f"{file}: {_key(where)}: {wrong}{found}") from None
    _check_sense(experiment, file)
    return experiment


def _at(content: Any, where: Sequence[Any]) -> Any:
    """The value at a place in the file."""
    for part in where:
        content = content[part]
    return content


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read experiment file {file}: {error.strerror or error}") from None
    except ValueError as error:
        raise InputError(f"{file} is not TOML: {error}") from None


def _over(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Own values over those of the base, table by table; a list is one value."""
    merged = dict(base)
    for key, value in own.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _over(merged[key], value) if both else value
    return merged


def options_of(experiment: Experiment, path: Path) -> list[tuple[str, str, Options]]:
    """Every table of options in the file: where it stands, the command that it is for, and the options."""
    tables = [(f"{path}: [searches.{name}]", "search", options) for name, options in experiment.searches.items()]
    tables.append((f"{path}: [finetune]", "finetune", experiment.finetune))
    tables += [(f"{path}: finetune of row {row.label!r}", "finetune", row.finetune) for row in experiment.rows]
    for name, scale in experiment.scales.items():
        tables.append((f"{path}: pretrain of [scales.{name}]", "pretrain", scale.pretrain or {}))
        tables.append((f"{path}: finetune of [scales.{name}]", "finetune", scale.finetune))
        tables += [
            (f"{path}: searches.{search} of [scales.{name}]", "search", options)
            for search, options in scale.searches.items()
        ]
    return tables


def source_types(source: str, types: tuple[str, ...]) -> tuple[str, ...]:
    """The types of a source among those of the scale."""
    bare = source.removeprefix(_DEMO)
    if bare.startswith(BUT):
        left_out = bare.removeprefix(BUT).strip()
        return tuple(name for name in types if name.lower() != left_out.lower())
    return tuple(name.strip() for name in bare.split(","))


def data_name(source: str, types: tuple[str, ...]) -> str:
    """A source as a `--data` name."""
    prefix = _DEMO if source.startswith(_DEMO) else ""
    return prefix + ",".join(source_types(source, types)) if source.removeprefix(_DEMO).startswith(BUT) else source


def fill_in(value: Value, source: str, types: tuple[str, ...]) -> Value:
    """An option with `{source}` and `{unseen}` (all other types of the scale) in it filled in."""
    if not isinstance(value, str):
        return value
    own = {name.lower() for name in source_types(source, types)}
    unseen = ",".join(name for name in types if name.lower() not in own)
    return value.replace("{source}", data_name(source, types)).replace("{unseen}", unseen)


def nearest(name: str, known: list[str]) -> str:
    """A question on what was meant, or the names that there are."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"


def _check_keys(content: Mapping[str, Any], file: Path) -> None:
    """Every key that is not an option of a command must be known here."""

    def check(values: Any, model: type[BaseModel], where: list[Any]) -> None:
        if not isinstance(values, dict):
            return  # of the wrong kind: the model says so
        for key in values:
            if key not in model.model_fields:
                known = nearest(key, list(model.model_fields))
                raise InputError(f"{file}: unknown key {_key([*where, key])!r}; {known}")

    check(content, Experiment, [])
    rows, scales = content.get("rows", []), content.get("scales", {})
    for number, row in enumerate(rows if isinstance(rows, list) else []):
        check(row, Row, ["rows", number])
    for name, scale in scales.items() if isinstance(scales, dict) else ():
        check(scale, Scale, ["scales", name])


def _key(parts: list[Any]) -> str:
    """`rows[2].policy`; rows count from 1, as people do."""
    text = ""
    for part in parts:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "the file"


def _check_sense(experiment: Experiment, file: Path) -> None:
    labels = [row.label for row in experiment.rows]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise InputError(f"{file}: two rows are called {twice!r}: give each a label of its own")
    if len(set(experiment.seeds)) < len(experiment.seeds):
        raise InputError(f"{file}: seeds: expected different ones, found {list(experiment.seeds)}")
    if min(experiment.seeds) < 0:
        raise InputError(f"{file}: seeds: expected 0 or more, found {min(experiment.seeds)}")
    for row in experiment.rows:
        if unknown := [name for name in row.scales or () if name not in experiment.scales]:
            raise InputError(f"{file}: row {row.label!r} names scale {unknown[0]!r}; {_scales(unknown[0], experiment)}")
        _check_search(row.policy or "", f"row {row.label!r}", experiment, file)
    for name, scale in experiment.scales.items():
        where = f"[scales.{name}]"
        if scale.pretrain is not None and scale.weights is not None:
            raise InputError(f"{file}: {where} has both pretrain and weights: choose one")
        for search in scale.searches:
            _check_search(SEARCH + search, where, experiment, file)
        for label, policy in scale.policies.items():
            if label not in labels:
                raise InputError(f"{file}: {where} names a policy for row {label!r}; {nearest(label, labels)}")
            _check_search(policy, where, experiment, file)
        rows = experiment.rows_at(name)
        if lacking := [row.label for row in rows if row.policy is None and row.label not in scale.policies]:
            raise InputError(
                f"{file}: row {lacking[0]!r} has no policy at scale {name}: name one under policies in {where}, "
                "or list the row's scales"
            )
        here = [row.label for row in rows]
        if experiment.reference not in here:
            raise InputError(
                f"{file}: reference {experiment.reference!r} is no row at scale {name}; "
                f"{nearest(experiment.reference, here)}"
            )
        for source in scale.sources:
            bare = source.removeprefix(_DEMO)
            if bare.startswith(BUT) and len(source_types(source, scale.types)) != len(scale.types) - 1:
                raise InputError(
                    f"{file}: {where}: source {source!r} leaves out no type of the scale; "
                    f"{nearest(bare.removeprefix(BUT), list(scale.types))}"
                )


def _check_search(policy: str, where: str, experiment: Experiment, file: Path) -> None:
    name = policy.removeprefix(SEARCH)
    if policy.startswith(SEARCH) and name not in experiment.searches:
        known = nearest(name, list(experiment.searches)) if experiment.searches else "the file has no [searches.NAME]"
        raise InputError(f"{file}: {where} names the search {name!r}; {known}")


def _scales(name: str, experiment: Experiment) -> str:
    return nearest(name, list(experiment.scales))

"""How a run was made: the command that makes it again, and the versions that it ran under."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from policy_search.config import RunConfig
from policy_search.study.provenance import versions
from policy_search.study.reports.data import RunRecord
from policy_search.study.storage import redacted

# Fields of the configuration in the order of the command's help; the others can be set from Python only.
OPTIONS = (
    "data", "root", "out", "objective", "target", "trials", "steps", "target_steps", "recognise_steps", "seed",
    "per_transform", "storage", "study",
    "parallel", "artifacts", "heartbeat", "validate_on", "final_seeds", "finalists", "probe_steps", "probe_base_steps",
    "weights", "ap50_iterations",
)  # fmt: skip


@dataclass(frozen=True)
class Origin:
    """How a run was made.

    Attributes:
        command: with every option written out, so that it means the same when defaults change.
        notes: what the command cannot say.
        versions: package → version, of the run where best.json says them, else of this report.
    """

    command: str
    notes: tuple[str, ...]
    versions: Mapping[str, str]


def origin(record: RunRecord) -> Origin:
    """The origin of a run, from its config.json and best.json."""
    config = record.config
    notes = ["The command is written out from config.json."]
    python_only = sorted(set(RunConfig.model_fields) - set(OPTIONS))
    changed = [n for n in python_only if getattr(config, n) != RunConfig.model_fields[n].default]
    if changed:
        values = ", ".join(f"{name}={getattr(config, name)}" for name in changed)
        notes.append(f"The run was made from Python with {values}, for which the command has no option.")
    recorded = record.best.provenance.versions if record.best is not None else None
    if recorded is None:
        notes.append("The run has recorded no versions yet: these are of the program that wrote this report.")
    elif record.verdict is None:
        notes.append("These versions are of the earlier end of this run.")
    return Origin(command(config), tuple(notes), recorded or versions())


def command(config: RunConfig) -> str:
    """The command line of a configuration."""
    words = ["policy-search", "run"]
    for name in OPTIONS:
        value = getattr(config, name)
        if value is True:
            words += [f"--{name.replace('_', '-')}"]
        elif name == "storage" and value is not None:
            words += ["--storage", redacted(value)]
        elif value is not None and value is not False and value != ():
            text = ",".join(value) if isinstance(value, tuple) else str(value)
            words += [f"--{name.replace('_', '-')}", text]
    return shlex.join(words)


def origin_lines(found: Origin) -> list[str]:
    """The section of the Markdown report."""
    fence = ["```console", f"$ {found.command}", "```", ""]
    return [*fence, *found.notes, "", *[f"- {package} {number}" for package, number in found.versions.items()]]

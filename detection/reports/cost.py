"""What an experiment cost, where it ran, with which versions, and the commands that make it again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from html import escape

from detection.matrices.record import CellRecord, MatrixRecord
from detection.reports import markup as html
from detection.reports.markup import Cell


def cost_section(records: Sequence[MatrixRecord]) -> str:
    """Seconds, machines, versions and commands of each experiment."""
    note = (
        "Seconds are wall time as measured where a run took place; with several runs at a time they overlap. "
        "A base model or a search that several experiments share is counted in each of them."
    )
    return html.section("Cost, environment and commands", note, *[_of(record) for record in records])


def _of(record: MatrixRecord) -> str:
    lines = [
        [Cell((escape(label),), heading=True), *_seconds([c.seconds for c in record.cells if c.label == label])]
        for label in record.rows
    ]
    for kind, name in (("base", "base models"), ("search", "searches for policies")):
        seconds = [stage.seconds for stage in record.stages if stage.kind == kind]
        if seconds:
            lines.append([Cell((name,), heading=True), *_seconds(seconds)])
    lines.append([Cell(("all",), heading=True), *_seconds([part.seconds for part in (*record.cells, *record.stages)])])
    heads = ["what", "runs", "seconds a run", "seconds"]
    missing = record.planned - len(record.cells)
    places = sorted({part.place for part in (*record.cells, *record.stages)})
    facts = [
        f"{len(record.cells)} of {record.planned} fine-tunes are finished"
        + (f"; missing: {missing}" if missing else ""),
        f"First start {record.started}, last end {record.finished} (UTC)",
        f"{'Machines' if len(places) > 1 else 'Machine'}: {', '.join(places) or 'unknown'}; "
        f"{record.threads} thread{'s' if record.threads > 1 else ''} a run; {_devices(record)}",
        *([f"{record.cpu_seconds:.0f} seconds of CPU time"] if record.cpu_seconds is not None else []),
        "Versions: " + ", ".join(f"{name} {number}" for name, number in sorted(record.versions.items())),
    ]
    again = record.command or f"detect matrix experiments/{record.experiment}.toml --scale {record.scale}"
    return "\n".join(
        [
            html.heading(f"{record.title} ({record.scale})"),
            html.table(f"cost of {record.title}", heads, lines, [len(lines) - 1]),
            html.listing(facts),
            html.text("This one command repeats the experiment, and goes on where results are missing:"),
            html.commands([again]),
            html.folded(
                f"The exact commands of all {len(record.cells)} fine-tunes", html.commands(_commands(record.cells))
            ),
        ]
    )


def _seconds(values: Sequence[float]) -> list[Cell]:
    mean = f"{sum(values) / len(values):.1f}" if values else "–"
    return [Cell((str(len(values)),)), Cell((mean,)), Cell((f"{sum(values):.1f}",))]


def _devices(record: MatrixRecord) -> str:
    """CPU or GPU, from the commands: `--device` is the only way to a GPU."""
    found = set()
    for cell in record.cells:
        words = shlex.split(cell.commands[-1]) if cell.commands else []
        given = [words[at + 1] for at, word in enumerate(words[:-1]) if word == "--device"]
        given += [word.partition("=")[2] for word in words if word.startswith("--device=")]
        found.add(given[-1] if given else "cpu")
    return f"device {', '.join(sorted(found))}" if found else "device unknown"


def _commands(cells: Sequence[CellRecord]) -> list[str]:
    """Under a comment for each run its commands, those of shared base models and searches once."""
    lines: list[str] = []
    shown: set[str] = set()
    for cell in cells:
        lines.append(f"# {cell.label}, from {cell.source}, seed {cell.seed}")
        new = [command for command in cell.commands if command not in shown]
        lines += new
        shown |= set(new)
    return lines

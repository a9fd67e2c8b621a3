"""Keep what a matrix of experiments found as result files: tables, figures, commands, and the results themselves.

    python experiments/record_matrix.py runs/matrix/demo/table2.json [MORE.json …] [--results runs/results.sqlite]

For each record `experiments/results/EXPERIMENT_SCALE.md` and `.json`, and in `experiments/results/records/` the record
itself and a store with these results and what was found in each image, so that tables can be made again without a run:

    detect compare experiments/results/records/table2_demo.json --results experiments/results/records/table2_demo.sqlite

With `--together NAME` the records, of one scale, are read as one experiment, whose rows are then compared with each
other: `experiments/results/NAME_SCALE.md` and `.json`; each record is kept on its own by a run without it.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import shutil
import sqlite3
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from steps import ROOT, commit, environment, write_result

from detection.compare import compare, every_pair
from detection.matrices.record import MatrixRecord, load_matrix, save_matrix
from detection.matrices.runs import learnt_rows, naive_rows, paper_of, runs_of
from detection.statistics.paper import read_paper
from detection.store import Store
from detection.tables.table import render

PAPER = ROOT / "experiments" / "paper_tables.csv"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records", nargs="+", type=Path)
    parser.add_argument("--results", type=Path, default=Path("runs/results.sqlite"))
    parser.add_argument("--together", metavar="NAME", help="compare the rows of all records in one result file")
    options = parser.parse_args()
    store = Store(options.results, create=False)
    loaded = [load_matrix(path) for path in options.records]
    alone = zip(loaded, options.records, strict=True)
    asked = [(together(loaded, options.together), Path())] if options.together else alone
    for record, path in asked:
        name = f"{record.experiment}_{record.scale}"
        pairs = every_pair(learnt_rows(record), naive_rows(record))
        found = [compare(runs, pairs=pairs) for runs in runs_of(record, store)]
        if not found:
            raise SystemExit(f"no run of {name} is finished yet")
        paper = paper_of(record, read_paper(PAPER))
        facts = facts_of(record, list(csv.DictReader(io.StringIO(render(found, "csv", paper)))))
        write_result(name, report(record, facts, render(found, "md", paper)), facts)
        if options.together:
            continue
        records = ROOT / "experiments" / "results" / "records"
        records.mkdir(exist_ok=True)
        save_matrix(shareable(keep_policies(record, path.parent, records)), records / f"{name}.json")
        keep_results(record, store, records / f"{name}.sqlite")


def together(records: list[MatrixRecord], name: str) -> MatrixRecord:
    """Records of the same sources and seeds as one, the first one's rows first."""
    first = records[0]
    for other in records[1:]:
        for key in ("scale", "reference", "sources", "seeds", "data", "threads"):
            if getattr(other, key) != getattr(first, key):
                raise SystemExit(f"{first.experiment} and {other.experiment} differ in {key}: no rows to compare")
    cells = {(c.label, c.source, c.seed): c for record in reversed(records) for c in record.cells}
    rows = tuple(dict.fromkeys(row for record in records for row in record.rows))
    order = [(row, source, seed) for row in rows for source in first.sources for seed in first.seeds]
    return first.model_copy(
        update={
            "experiment": name,
            "title": " and ".join(record.title for record in records),
            "rows": rows,
            "planned": len(order),
            "cells": tuple(cells[key] for key in order if key in cells),
            "stages": tuple({stage.folder: stage for record in records for stage in record.stages}.values()),
            "started": min(record.started for record in records),
            "finished": max(record.finished for record in records),
            "cpu_seconds": None,
            "command": "\n    ".join(record.command for record in records),
        }
    )


def facts_of(record: MatrixRecord, values: list[dict[str, str]]) -> dict[str, Any]:
    """The figures, and where they come from."""
    commands = sorted({command for cell in record.cells for command in cell.commands})
    return {
        **environment(record.threads), "commit": commit(), "command": record.command, "started": record.started,
        "finished": record.finished, "cpu_seconds": record.cpu_seconds, "commands": commands, "values": values,
    }  # fmt: skip


def keep_policies(record: MatrixRecord, folder: Path, records: Path) -> MatrixRecord:
    """The record with its learnt policies beside it: their searches' folders are not kept."""
    cells = []
    for cell in record.cells:
        source = folder / cell.policy_file
        kept = Path("policies") / f"{record.scale}.{cell.policy.partition(':')[2]}.{cell.seed}.json"
        if cell.policy.startswith("search:") and source.is_file():
            (records / kept).parent.mkdir(exist_ok=True)
            shutil.copyfile(source, records / kept)
            cell = cell.model_copy(update={"policy_file": kept.as_posix()})
        cells.append(cell)
    return record.model_copy(update={"cells": tuple(cells)})


def shareable(record: MatrixRecord) -> MatrixRecord:
    """Without the names of the machines."""
    return record.model_copy(
        update={
            "cells": tuple(cell.model_copy(update={"place": ""}) for cell in record.cells),
            "stages": tuple(stage.model_copy(update={"place": ""}) for stage in record.stages),
        }
    )


def report(record: MatrixRecord, facts: dict[str, Any], tables: str) -> str:
    """The result file."""
    fine_tunes = sum(cell.seconds for cell in record.cells)
    steps = sum(stage.seconds for stage in record.stages)
    missing = record.planned - len(record.cells)
    kind = "**SYNTHETIC cells.** " if record.synthetic else f"Real images ({record.data}). "
    lines = [
        f"# {record.title} ({record.scale})",
        "",
        f"{kind}Begun {record.started[:10]}, written {facts['date']} at commit {facts['commit']}; {facts['cores']} "
        f"cores, {record.threads} thread{'s' if record.threads > 1 else ''} a run.",
        "",
        f"    {record.command}",
        "",
        f"{len(record.cells)} of {record.planned} fine-tunes"
        + (f"; **{missing} are missing**, rows without a seed say so." if missing else "."),
        f"Base models and searches took {steps / 60:.0f} minutes, fine-tunes with their tests {fine_tunes / 60:.0f}, "
        "each counted alone.",
        "",
        tables.strip(),
        "",
    ]
    return "\n".join(lines)


def keep_results(record: MatrixRecord, store: Store, path: Path) -> None:
    """A store of the record's results alone, made anew."""
    path.unlink(missing_ok=True)
    own = Store(path)
    for cell in record.cells:
        key = (cell.source, cell.policy_hash, cell.seed, cell.config_hash)
        own.put(store.find(*key), store.images(*key))
    # One file without a log beside it.
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("VACUUM")
    print(f"wrote {path.relative_to(ROOT)}, {path.stat().st_size / 2**20:.1f} MB")


if __name__ == "__main__":
    main()

"""The model that a finished fine-tune left in its folder."""

from __future__ import annotations

import json
from pathlib import Path

from detection.store import Result, RunKey
from policy_search.cells.files import write_json

RESULTS = "results.json"


def write_results(folder: Path, results: list[Result]) -> None:
    """Say in the folder what its model scored; the last file of a run."""
    write_json(folder / RESULTS, [result.model_dump() for result in results])


def finished_model(folder: Path, key: RunKey, name: str) -> Path | None:
    """The weights called `name`, if the last run that used the folder was that of `key` and was finished."""
    try:
        rows = [Result.model_validate(row) for row in json.loads((folder / RESULTS).read_text(encoding="utf-8"))]
        written = (folder / RESULTS).stat().st_mtime_ns
        # Newer weights are of another run, which did not come to its results.
        usable = bool(rows) and all(row.key == key for row in rows) and (folder / name).stat().st_mtime_ns <= written
    except (OSError, ValueError, TypeError):
        return None
    return folder / name if usable else None

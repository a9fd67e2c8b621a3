"""The study's own numbers (experiments/paper_tables.csv), to stand beside ours."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from policy_search.cells.errors import InputError
from policy_search.cells.types import find_cell_type

Paper = Mapping[str, Mapping[str, float]]
"""Row label → cell type → AP50 in %."""


def read_paper(path: str | Path) -> Paper:
    """Column of the file → canonical cell type → AP50 in %.

    Raises:
        InputError: missing, or not such a table.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
        columns = [name for name in lines[0] if name != "cell_type"]
        return {name: {line["cell_type"]: float(line[name]) for line in lines} for name in columns}
    except OSError as error:
        raise InputError(f"cannot read the paper's numbers at {path}: {error.strerror or error}") from None
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} is not a table of the paper's numbers: expected a column cell_type and AP50 in % in the others, "
            f"as in experiments/paper_tables.csv ({error})"
        ) from None


def paper_ap50(paper: Paper, row: str, cell_type: str) -> float | None:
    """AP50 in % of a row on a cell type in any spelling, or None where the paper has none."""
    known = find_cell_type(cell_type)
    return paper.get(row, {}).get(known.name if known else cell_type)


def paper_gain(paper: Paper, row: str, reference: str, cell_type: str) -> float | None:
    """Points of AP50 over the reference, or None."""
    own, other = paper_ap50(paper, row, cell_type), paper_ap50(paper, reference, cell_type)
    return None if own is None or other is None else own - other

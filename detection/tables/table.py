"""Comparisons of rows as text for people, papers and programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from detection.compare import Comparison
from detection.statistics.paper import Paper
from detection.tables.csv import csv_text
from detection.tables.markdown import markdown
from detection.tables.tex import tex
from policy_search.cells.errors import InputError

FORMS: dict[str, Callable[[Sequence[Comparison], Paper], str]] = {"md": markdown, "csv": csv_text, "tex": tex}


def render(found: Sequence[Comparison], form: str, paper: Paper | None = None) -> str:
    """Every comparison as `md`, `csv` or `tex`.

    Args:
        paper: the study's AP50 by row label and cell type, to stand beside ours.

    Raises:
        InputError: unknown format, or nothing to show.
    """
    if form not in FORMS:
        raise InputError(f"unknown format {form!r}: expected one of {', '.join(FORMS)}")
    if not found:
        raise InputError("there is nothing to compare yet: no run of this experiment is finished")
    return FORMS[form](found, paper or {})

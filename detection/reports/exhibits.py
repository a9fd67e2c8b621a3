"""What the page shows of each experiment: its record, its runs from one source, and their comparison."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from detection.compare import Comparison, Runs, compare, every_pair
from detection.matrices.record import MatrixRecord, load_matrix
from detection.matrices.runs import learnt_rows, naive_rows, paper_of, runs_of
from detection.statistics.paper import Paper
from detection.store import Store
from policy_search.cells.errors import InputError


class Exhibit(NamedTuple):
    """One experiment from one source.

    Attributes:
        record: of the whole experiment. base: the folder that its paths are relative to.
        paper: the paper's numbers by row label, or nothing.
    """

    record: MatrixRecord
    base: Path
    runs: Runs
    found: Comparison
    paper: Paper

    @property
    def title(self) -> str:
        """Of the experiment, with its source."""
        return f"{self.record.title}, trained on {self.runs.source}"


def exhibits(matrices: Sequence[Path], store: Store, paper: Paper | None, *, draws: int = 10_000) -> list[Exhibit]:
    """All experiments in the order given, each source of one by itself.

    Args:
        paper: columns of the paper's tables.
        draws: resamples of the bootstrap.

    Raises:
        InputError: a record or the store cannot be used, or no run of an experiment is finished.
    """
    shown = []
    for path in matrices:
        record = load_matrix(path)
        sources = runs_of(record, store)
        if not sources:
            raise InputError(f"no run of {path} is finished yet. Go on with `detect matrix`.")
        theirs = paper_of(record, paper) if paper else {}
        pairs = every_pair(learnt_rows(record), naive_rows(record))
        shown += [
            Exhibit(record, path.parent, runs, compare(runs, pairs=pairs, draws=draws), theirs) for runs in sources
        ]
    return shown

"""A record of a matrix and the store of results joined: what each row found in each test image."""

from __future__ import annotations

from collections.abc import Mapping

from detection.matches import ImageMatches
from detection.matrices.record import CellRecord, MatrixRecord
from detection.statistics.paper import Paper
from detection.statistics.resamples import Runs
from detection.store import Store
from policy_search.augment import BASELINES
from policy_search.cells.errors import InputError
from policy_search.cells.types import find_cell_type

PAPERS_SOURCE = "A172"


def runs_of(record: MatrixRecord, store: Store) -> list[Runs]:
    """One for each source that has a finished cell, in the record's order.

    Raises:
        InputError: the store lacks a cell that the record calls finished, or its images.
    """
    return [_of_source(record, store, source) for source in record.sources
            if any(cell.source == source for cell in record.cells)]  # fmt: skip


def naive_rows(record: MatrixRecord) -> tuple[str, ...]:
    """Rows whose policy is one of the paper's naive strategies, other than no augmentation."""
    policies = {cell.label: cell.policy for cell in record.cells}
    return tuple(row for row in record.rows if policies.get(row) in BASELINES and policies[row] != "none")


def learnt_rows(record: MatrixRecord) -> tuple[str, ...]:
    """Rows whose policy is not a naive strategy: searched here or elsewhere."""
    policies = {cell.label: cell.policy for cell in record.cells}
    return tuple(row for row in record.rows if row in policies and policies[row] not in BASELINES)


def paper_of(record: MatrixRecord, columns: Paper) -> dict[str, Mapping[str, float]]:
    """The paper's numbers by row label, of those rows that name one of its columns.

    None where another type was trained on: the paper's model had seen A172.

    Raises:
        InputError: a column that the paper's tables do not have.
    """
    names = {cell.label: cell.paper for cell in record.cells if cell.paper}
    for label, name in names.items():
        if name not in columns:
            raise InputError(f"row {label}: the paper's tables have no column {name!r}: {', '.join(columns)}")
    trained_on = [find_cell_type(source.rpartition("/")[2]) for source in record.sources]
    if any(kind is None or kind.name != PAPERS_SOURCE for kind in trained_on):
        return {}
    return {label: columns[name] for label, name in names.items()}


def _of_source(record: MatrixRecord, store: Store, source: str) -> Runs:
    images: dict[tuple[str, int], Mapping[str, list[ImageMatches]]] = {}
    seen: set[str] = set()
    synthetic = record.synthetic
    for cell in record.cells:
        if cell.source != source:
            continue
        results = store.find(cell.source, cell.policy_hash, cell.seed, cell.config_hash)
        found = store.images(cell.source, cell.policy_hash, cell.seed, cell.config_hash)
        types = {result.cell_type for result in results}
        if not types or types != set(found):
            raise InputError(_lacking(store, cell, sorted(types - set(found))))
        images[cell.label, cell.seed] = found
        seen |= {result.cell_type for result in results if result.seen}
        synthetic |= any(result.synthetic for result in results)
    return Runs(source, synthetic, record.reference, record.rows, frozenset(seen), record.seeds, images)


def _lacking(store: Store, cell: CellRecord, types: list[str]) -> str:
    what = f"no images of {', '.join(types)}" if types else "no results"
    return (
        f"{store.path} has {what} for {cell.label} from {cell.source} with seed {cell.seed}, which the record calls "
        "finished. Name the store that this matrix wrote with --results, or run `detect matrix` again."
    )

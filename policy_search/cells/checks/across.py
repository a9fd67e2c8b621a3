"""Checks between images: the same one twice, splits that share wells, images with far fewer cells than their type."""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations
from statistics import median
from typing import NamedTuple

from policy_search.cells.checks.findings import Finding, amount, some
from policy_search.cells.dataset import ImageRecord
from policy_search.cells.types import CELL_TYPES, find_cell_type

FEW_CELLS = 10  # LIVECell issue 21: images with 1–9 annotated cells are almost always unfinished
FULL_FRAME = 520 * 704  # px, of these images; a smaller one needs in proportion fewer
FEW_OF_TYPE = 0.05  # share of the type's median; cultures grow twentyfold from seeding to confluence
TYPE_IMAGES = 8  # a median of fewer says little
NEAR = 0.75  # likeness of two spellings
SPLITS = ("train", "val", "test")  # the labelled ones


class Seen(NamedTuple):
    """What is kept of an image once it was looked at.

    Attributes:
        record: it.
        pixels: digest of its pixels; None if it could not be read.
        cells: annotated ones; None if it is unlabelled or they could not be read.
    """

    record: ImageRecord
    pixels: bytes | None
    cells: int | None


def across(seen: Sequence[Seen]) -> Iterator[Finding]:
    """All checks between images."""
    yield from _same_pixels(seen)
    yield from _shared_wells(seen)
    yield from _few_cells(seen)
    yield from _spelt_almost(seen)


def _same_pixels(seen: Sequence[Seen]) -> Iterator[Finding]:
    for group in _by_pixels(seen):
        splits = list(dict.fromkeys(one.record.split for one in group))
        ids = list(dict.fromkeys(one.record.id for one in group))
        if len(splits) > 1:
            where = [f"{one.record.id} ({one.record.split})" for one in group[1:]]
            text = f"the same pixels as {some(where)}"
            yield Finding("image-in-two-splits", ids[0], " and ".join(splits), text, len(group))
        elif len(ids) > 1:
            yield Finding("image-repeated", ids[0], splits[0], f"the same pixels as {some(ids[1:])}", len(ids))


def _by_pixels(seen: Sequence[Seen]) -> list[list[Seen]]:
    groups: dict[bytes, list[Seen]] = defaultdict(list)
    for one in seen:
        if one.pixels is not None:
            groups[one.pixels].append(one)
    return [group for group in groups.values() if len(group) > 1]


def _shared_wells(seen: Sequence[Seen]) -> Iterator[Finding]:
    """By type and pair of splits. The same image in both is told by `_same_pixels`, and does not count here."""
    twice = {one.record for group in _by_pixels(seen) for one in group if len({o.record.split for o in group}) > 1}
    wells: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for one in seen:
        if one.record not in twice and not _well_is_name(one.record):
            wells[one.record.cell_type][one.record.split].add(one.record.well)
    for cell_type, by_split in wells.items():
        for first, second in combinations([s for s in SPLITS if s in by_split], 2):
            shared = by_split[first] & by_split[second]
            if shared:
                names = sorted(well.rpartition("/")[2] for well in shared)
                text = f"{len(shared)} of {len(by_split[second])} wells of {second} are in {first} too ({some(names)})"
                yield Finding("wells-shared", cell_type, f"{first} and {second}", text, len(shared))


def _well_is_name(record: ImageRecord) -> bool:
    """A name that tells no well stands for one; then equal names in two splits say nothing."""
    return record.well.rpartition("/")[2] == record.id.rpartition("/")[2]


def _few_cells(seen: Sequence[Seen]) -> Iterator[Finding]:
    counts: dict[str, list[int]] = defaultdict(list)
    for one in seen:
        if one.cells is not None:
            counts[one.record.cell_type].append(one.cells)
    usual = {name: median(found) for name, found in counts.items() if len(found) >= TYPE_IMAGES}
    for one in seen:
        if one.cells is None:
            continue
        record, typical = one.record, usual.get(one.record.cell_type, 0)
        frame = min(1.0, record.height * record.width / FULL_FRAME)
        if one.cells == 0 or one.cells < FEW_CELLS * frame:
            text = f"only {amount(one.cells, 'annotated cell')}" if one.cells else "no annotated cell"
            yield Finding("cells-few", record.id, record.split, text)
        elif one.cells < FEW_OF_TYPE * typical:
            text = f"{one.cells} annotated cells; images of {record.cell_type} have {typical:g} (median)"
            yield Finding("cells-below-type", record.id, record.split, text)


def _spelt_almost(seen: Sequence[Seen]) -> Iterator[Finding]:
    counts: dict[str, int] = defaultdict(int)
    for one in seen:
        counts[one.record.cell_type] += 1
    for name, count in counts.items():
        near = near_type(name)
        if near is not None:
            text = f"{name} is not one of LIVECell's types. Did you mean {near}?"
            yield Finding("type-near-miss", name, "", text, count)


def near_type(name: str) -> str | None:
    """The type of LIVECell that an unknown name is a misspelling of, or None.

    Cell lines are told apart by their numbers (Huh-7 and Huh-7.5, MCF-7 and MCF-10A): a name with other digits is
    another line, unless they are only in another order or left out.
    """
    if find_cell_type(name) is not None:
        return None
    spelt = _plain(name)
    best, likeness = None, NEAR
    for known in CELL_TYPES:
        for other in {_plain(text) for text in (known.name, known.folder, *known.aliases)}:
            found = difflib.SequenceMatcher(None, spelt, other).ratio()
            if found >= likeness and _digits(spelt) in ([], _digits(other)):
                best, likeness = known.name, found
    return best


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


def _digits(name: str) -> list[str]:
    return sorted(re.findall(r"\d", name))

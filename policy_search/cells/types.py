"""The eight LIVECell cell types and every spelling under which they are met."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from policy_search.cells.errors import DataError


@dataclass(frozen=True)
class CellType:
    """One cell line.

    Attributes:
        name: the canonical name in this project, as LIVECell's file names without punctuation.
        folder: LIVECell's image folder and file-name prefix.
        aliases: other spellings in papers, tables and annotation folders.
        description: what a person sees under phase contrast.
    """

    name: str
    folder: str
    aliases: tuple[str, ...]
    description: str


CELL_TYPES: tuple[CellType, ...] = (
    CellType("A172", "A172", ("A-172",), "glioblastoma: large, spread, irregular outline"),
    CellType("BT474", "BT474", ("BT-474",), "breast cancer: epithelial islands, cells touch"),
    CellType("BV2", "BV2", ("BV-2",), "microglia: very small, round, dense"),
    CellType("HUH7", "Huh7", ("Huh-7", "Huh7"), "liver cancer: large, flat, polygonal"),
    CellType("MCF7", "MCF7", ("MCF-7",), "breast cancer: small, in dense clumps"),
    CellType("SHSY5Y", "SHSY5Y", ("SH-SY5Y", "SH-SHY5Y"), "neuroblastoma: thin bodies with long processes"),
    CellType("SKBR3", "SkBr3", ("SK-BR-3", "SkBr-3"), "breast cancer: round, bright, well separated"),
    CellType("SKOV3", "SKOV3", ("SK-OV-3", "SKOV-3"), "ovarian cancer: large, spread, convex"),
)


def _key(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


_BY_KEY = {_key(spelling): t for t in CELL_TYPES for spelling in (t.name, t.folder, *t.aliases)}


def find_cell_type(name: str) -> CellType | None:
    """The cell type spelt `name` in any of its forms (case and punctuation do not count), or None."""
    return _BY_KEY.get(_key(name))


def cell_type(name: str) -> CellType:
    """The cell type spelt `name` in any of its forms.

    Raises:
        DataError: no such type; the message names the nearest one.
    """
    found = find_cell_type(name)
    if found is not None:
        return found
    known = ", ".join(t.name for t in CELL_TYPES)
    near = difflib.get_close_matches(_key(name), _BY_KEY, n=1, cutoff=0.5)
    hint = f" Did you mean {_BY_KEY[near[0]].name}?" if near else ""
    raise DataError(f"unknown cell type {name!r}: expected one of {known}, or 'all'.{hint}")

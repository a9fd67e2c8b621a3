"""A policy as a Markdown table that a person reads to its end. Pure."""

from __future__ import annotations

from policy_search.augment import PolicyDocument
from policy_search.augment.describe import Row, describe, summarise

MOST_ROWS = 25
_FIXED = "\N{NO-BREAK SPACE}"  # the dashboard breaks lines in narrow columns


def policy_table(document: PolicyDocument) -> list[str]:
    """The policy as a Markdown table of at most `MOST_ROWS` rows; what is summed up or left out is said below it."""
    every = describe(document.transform)
    rows = every if len(every) <= MOST_ROWS else summarise(every)
    kept = sorted(sorted(rows, key=lambda row: -row.share * row.gate)[:MOST_ROWS], key=rows.index)
    lines = [f"| step | how{_FIXED}often | operation | settings |", "|---|---:|---|---|"]
    lines += [f"| {_place(row.path)} | {_percent(row)} | {row.name} | {cell(row.settings) or '–'} |" for row in kept]
    remarks = []
    if len(rows) < len(every):
        remarks.append(f"Summed up from {len(every)} branches: ranges span all of them.")
    if len(kept) < len(rows):
        remarks.append(f"{len(rows) - len(kept)} rarer rows are left out.")
    return [*lines, "", " ".join(["How often: share of images that it changes.", *remarks])]


def cell(text: str) -> str:
    """A text that stays in its cell."""
    return text.replace("|", "\\|").replace("\n", " ")


def _percent(row: Row) -> str:
    value = row.share * row.gate
    return f"<1{_FIXED}%" if 0 < value < 0.005 else f"{100 * value:.0f}{_FIXED}%"


def _place(path: str) -> str:
    """`one of 3/8, step 2` with line breaks only after the commas."""
    return ", ".join(part.replace(" ", _FIXED) for part in cell(path).split(", "))

"""Pieces of a page that needs nothing but itself: escaped texts, tables that scroll, pictures inside, the style."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

# Light or dark as the reader's system says; paper is always light.
STYLE = """
:root { color-scheme: light dark; --ground: #fff; --ink: #1b1b1b; --soft: #595959; --line: #d9d9d9; --tint: #f1f5f9;
  --mark: #0072b2; --warn: #8a4b00; --warn-tint: #fdf3e1; }
@media (prefers-color-scheme: dark) { :root { --ground: #16181b; --ink: #e8e8e8; --soft: #a9adb3; --line: #3a3e44;
  --tint: #22272e; --mark: #56b4e9; --warn: #f0b866; --warn-tint: #33291a; } }
@media print { :root { color-scheme: light; --ground: #fff; --ink: #000; --soft: #444; --line: #bbb; --tint: #f4f4f4;
  --mark: #0072b2; --warn: #8a4b00; --warn-tint: #fff; } .scroll { overflow: visible !important; }
  h2, h3, h4 { break-after: avoid; } figure, tr { break-inside: avoid; } table { font-size: .7rem !important; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.4rem 0 .5rem; padding-top: .6rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.1rem; margin: 1.6rem 0 .3rem; overflow-wrap: anywhere; }
h4 { font-size: .98rem; margin: 1.2rem 0 .3rem; overflow-wrap: anywhere; }
p { margin: .5rem 0; max-width: 52rem; overflow-wrap: anywhere; }
.verdict { background: var(--tint); border-left: 4px solid var(--mark); padding: .6rem .9rem; max-width: none; }
.warning { background: var(--warn-tint); border-left: 4px solid var(--warn); padding: .6rem .9rem; max-width: none;
  color: var(--warn); font-weight: 600; }
.note, small, .soft { color: var(--soft); }
.note { font-size: .92rem; }
.missing { color: var(--warn); }
.scroll { overflow-x: auto; margin: .6rem 0; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
thead th { border-bottom: 2px solid var(--soft); vertical-align: bottom; }
tbody th { min-width: 8.5rem; }
th.n, td.n { text-align: right; white-space: nowrap; }
tr.sum th, tr.sum td { background: var(--tint); }
td small, th small { font-size: .8rem; font-weight: 400; }
figure { margin: 0; }
figcaption { font-size: .82rem; line-height: 1.35; margin: .2rem 0 .6rem; overflow-wrap: anywhere; }
img { max-width: 100%; height: auto; display: block; background: #fff; }
.wide { min-width: 44rem; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); gap: .6rem 1rem; }
.grid img { width: 100%; max-width: 36rem; }
.key { display: inline-block; width: 1.6rem; height: .55rem; margin: 0 .35rem 0 .1rem; border: 1px solid #777; }
pre { background: var(--tint); padding: .6rem; font-size: .82rem; white-space: pre-wrap; overflow-wrap: anywhere; }
summary { cursor: pointer; }
ul { padding-left: 1.2rem; margin: .4rem 0; }
"""


class Cell(NamedTuple):
    """A cell of a table: lines of markup below each other, the first in the usual size, the others small."""

    lines: tuple[str, ...]
    heading: bool = False


def page(title: str, body: Iterable[str]) -> str:
    """A whole page of markup."""
    head = (
        f'<meta charset="utf-8">\n<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>"
    )
    content = "\n".join(body)
    return f'<!DOCTYPE html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{content}\n</body>\n</html>\n'


def section(heading: str, how_to_read: str, *parts: str) -> str:
    """A section: its heading, one sentence of plain text that says how to read it, and markup."""
    return "\n".join([f"<section><h2>{escape(heading)}</h2>", text(how_to_read, "note"), *parts, "</section>"])


def text(words: str, kind: str = "") -> str:
    """A paragraph of plain text."""
    return f"<p{_kind(kind)}>{escape(words)}</p>"


def heading(words: str, level: int = 3) -> str:
    """A heading from plain text; level 2 is that of a section."""
    return f"<h{level}>{escape(words)}</h{level}>"


def span(words: str, kind: str) -> str:
    """Plain text in the style `kind`."""
    return f"<span{_kind(kind)}>{escape(words)}</span>"


def listing(items: Sequence[str]) -> str:
    """A list of plain texts; nothing where there is none."""
    return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>" if items else ""


def folded(summary: str, content: str) -> str:
    """Markup that a click unfolds."""
    return f"<details><summary>{escape(summary)}</summary>\n{content}\n</details>"


def commands(lines: Iterable[str]) -> str:
    """Shell commands, one a line."""
    return "<pre>" + escape("\n".join(lines)) + "</pre>"


def table(label: str, heads: Sequence[str], rows: Sequence[Sequence[Cell]], sums: Sequence[int] = ()) -> str:
    """A table that scrolls in its own box where the window is narrow; the first column is text, the others numbers.

    Args:
        label: what it shows, for who cannot see it.
        heads: titles of the columns as plain text, line breaks allowed.
        sums: numbers of the rows that stand out.
    """
    if any(len(row) != len(heads) for row in rows):
        raise ValueError(f"table {label!r}: a row has another number of cells than the {len(heads)} columns")
    titles = [escape(head).replace("\n", "<br>") for head in heads]
    first = "".join(f'<th scope="col"{_number(at)}>{title}</th>' for at, title in enumerate(titles))
    lines = [
        f"<tr{_kind('sum' if number in sums else '')}>"
        + "".join(_cell(cell, at) for at, cell in enumerate(row))
        + "</tr>"
        for number, row in enumerate(rows)
    ]
    content = "\n".join([f"<thead><tr>{first}</tr></thead>", "<tbody>", *lines, "</tbody>"])
    return scrolling(label, f"<table>\n{content}\n</table>")


def scrolling(label: str, content: str) -> str:
    """A box of its own for content wider than the window; the keyboard reaches it."""
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(label)}">{content}</div>'


def picture(data: bytes, alternative: str, caption: str = "", *, wide: bool = False) -> str:
    """A PNG or JPEG inside the page with its caption; `wide` ones scroll in a narrow window."""
    form = "png" if data.startswith(b"\x89PNG") else "jpeg"
    source = f"data:image/{form};base64,{base64.b64encode(data).decode('ascii')}"
    image = f'<img{_kind("wide" if wide else "")} alt="{escape(alternative)}" src="{source}">'
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    shown = scrolling(alternative, image) if wide else image
    return f"<figure>{shown}{below}</figure>"


def _cell(cell: Cell, column: int) -> str:
    name = "th" if cell.heading else "td"
    scope = ' scope="row"' if cell.heading else ""
    small = "".join(f"<br><small>{line}</small>" for line in cell.lines[1:])
    return f"<{name}{scope}{_number(column)}>{cell.lines[0]}{small}</{name}>"


def _number(column: int) -> str:
    return ' class="n"' if column else ""


def _kind(kind: str) -> str:
    return f' class="{kind}"' if kind else ""

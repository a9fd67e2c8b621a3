"""Pieces of an HTML page that needs nothing but itself: tables that scroll, pictures in the page, the style."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from typing import Literal

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 70rem; padding: 1rem; background: #fff; color: #1b1b1b;
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .5rem; padding-top: .6rem; border-top: 1px solid #ddd; }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
p { margin: .5rem 0; max-width: 46rem; }
.verdict { background: #f2f6fa; border-left: 4px solid #0072b2; padding: .6rem .9rem; max-width: none; }
.open { background: #fdf5e6; border-left-color: #b26b00; }
.badge { display: inline-block; border: 1px solid #b26b00; color: #7a4a00; border-radius: 4px; padding: 0 .45rem;
  font-size: .85rem; margin-right: .4rem; }
.note { color: #555; font-size: .92rem; }
.scroll { overflow-x: auto; margin: .6rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; text-align: left; vertical-align: top; border-bottom: 1px solid #e6e6e6; }
th { border-bottom: 2px solid #999; vertical-align: bottom; }
td.n, th.n { text-align: right; white-space: nowrap; }
td.w { min-width: 18rem; overflow-wrap: anywhere; }
tr.mark td { background: #f2f6fa; font-weight: 600; }
td.k { white-space: nowrap; }
td.r { min-width: 6rem; max-width: 16rem; overflow-wrap: anywhere; }
img { width: 100%; max-width: 46rem; height: auto; display: block; }
.scroll img { min-width: 36rem; }
.scroll.sheet img { max-width: none; min-width: 52rem; }
pre { background: #f5f5f5; padding: .7rem; overflow-x: auto; font-size: .88rem; white-space: pre-wrap;
  overflow-wrap: anywhere; }
ul { padding-left: 1.2rem; margin: .4rem 0; }
"""


def page(title: str, body: Sequence[str]) -> str:
    """A whole page."""
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}</style>",
            "</head>",
            "<body>",
            *body,
            "</body>",
            "</html>",
            "",
        ]
    )


def section(heading: str, *parts: str) -> str:
    """A section with its heading; parts are markup."""
    return "\n".join([f"<section><h2>{escape(heading)}</h2>", *parts, "</section>"])


def text(words: str, kind: str = "") -> str:
    """A paragraph of plain text."""
    attribute = f' class="{kind}"' if kind else ""
    return f"<p{attribute}>{escape(words)}</p>"


def listing(items: Sequence[str]) -> str:
    """A list of plain texts; empty where there is none."""
    return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>" if items else ""


def table(
    label: str, heads: Sequence[str], rows: Sequence[Sequence[str]], align: str, marked: Sequence[int] = ()
) -> str:
    """A table that scrolls sideways where the window is narrow.

    Args:
        label: what it shows, for who cannot see it.
        heads: titles of the columns.
        rows: plain texts.
        align: a letter a column: l text, k text in one line, n number, r and w long text that wraps, w wider.
        marked: rows that stand out.
    """
    if any(len(row) != len(heads) for row in rows) or len(align) != len(heads):
        raise ValueError(f"table {label!r}: {len(heads)} columns, but a row or the alignment has another number")
    kinds = [
        {"l": "", "k": ' class="k"', "n": ' class="n"', "r": ' class="r"', "w": ' class="w"'}[letter]
        for letter in align
    ]
    head = "".join(f"<th{kind}>{escape(cell)}</th>" for cell, kind in zip(heads, kinds, strict=True))
    lines = [
        ('<tr class="mark">' if index in marked else "<tr>")
        + "".join(f"<td{kind}>{escape(cell)}</td>" for cell, kind in zip(row, kinds, strict=True))
        + "</tr>"
        for index, row in enumerate(rows)
    ]
    return "\n".join(
        [
            f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(label)}"><table>',
            f"<thead><tr>{head}</tr></thead>",
            "<tbody>",
            *lines,
            "</tbody></table></div>",
        ]
    )


def picture(png: bytes, alternative: str, kind: Literal["", "wide", "sheet"] = "") -> str:
    """A PNG inside the page; `wide` ones keep a readable width and scroll, a `sheet` also fills a wide window."""
    data = base64.b64encode(png).decode("ascii")
    image = f'<img alt="{escape(alternative)}" src="data:image/png;base64,{data}">'
    if not kind:
        return image
    name = "scroll sheet" if kind == "sheet" else "scroll"
    return f'<div class="{name}" role="region" tabindex="0" aria-label="{escape(alternative)}">{image}</div>'

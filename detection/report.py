"""The report of experiments: one HTML page with tables, figures and pictures inside, written in one step."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from detection.reports import markup as html
from detection.reports.cost import cost_section
from detection.reports.exhibits import Exhibit, exhibits
from detection.reports.folders import config_of, licences
from detection.reports.gallery import left_out, prediction_section, preview_section
from detection.reports.table import comparison_tables, gain_map
from detection.reports.words import verdict
from detection.statistics.paper import read_paper
from detection.store import Store
from detection.testing_on import to_test_on
from policy_search.cells import CellDataset
from policy_search.cells.errors import InputError
from policy_search.cells.files import write_text
from policy_search.cells.morphology import TypeMorphology, measure
from policy_search.cells.morphology_figure import figure_bytes
from policy_search.cells.morphology_tables import find_source


def write_report(
    matrices: Sequence[Path], results: Path, out: Path, *, root: Path | None = None, paper: Path | None = None,
    pictures: bool = True,
) -> None:  # fmt: skip
    """Write the page on one or more experiments.

    Args:
        matrices: records that `detect matrix` wrote.
        results: the store that it wrote to.
        out: page to write.
        root: LIVECell's folder, if it has moved since the runs.
        paper: the paper's tables as CSV, to stand beside ours.
        pictures: show images of cells.

    Raises:
        InputError: a record, the store or the paper's tables cannot be used; `out` does not end in .html or cannot be
            written. Images that cannot be read any more are named on the page instead.
    """
    if out.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--out {out}: expected a file name that ends in .html")
    shown = exhibits(matrices, Store(results, create=False), read_paper(paper) if paper else None)
    write_text(out, report_page(shown, root, pictures=pictures))


def report_page(shown: Sequence[Exhibit], root: Path | None, *, pictures: bool) -> str:
    """The page as text; the same for the same experiments."""
    records = list({id(exhibit.record): exhibit.record for exhibit in shown}.values())
    title = "Augmentation policies on unseen cell types: " + "; ".join(record.title for record in records)
    parts = [_head(title, shown, root), _tables(shown), _gains(shown), _morphology(shown, root)]
    if pictures:
        parts += [preview_section(shown, root), prediction_section(shown, root)]
    else:
        parts += [left_out("What the policies do"), left_out("Predictions beside ground truth")]
    return html.page(title, [*parts, cost_section(records)])


def _head(title: str, shown: Sequence[Exhibit], root: Path | None) -> str:
    synthetic = [exhibit.runs.synthetic for exhibit in shown]
    parts = [f"<h1>{escape(title)}</h1>"]
    if any(synthetic):
        which = "" if all(synthetic) else " in the parts that say SYNTHETIC"
        parts.append(
            html.text(f"SYNTHETIC cells, drawn by this program: no number{which} is of real cells.", "warning")
        )
    facts = [_about(exhibit, root) for exhibit in shown]
    parts.append(html.listing(list(dict.fromkeys(facts))))
    for exhibit in shown:
        parts.append(html.heading(f"{exhibit.title}: what the numbers say"))
        parts.append(html.text(" ".join(verdict(exhibit.found)), "verdict"))
    return "\n".join(parts)


def _about(exhibit: Exhibit, root: Path | None) -> str:
    """The data of one experiment and its licence."""
    found, record = exhibit.found, exhibit.record
    seeds = f"seed{'s' if len(found.seeds) > 1 else ''} {', '.join(map(str, found.seeds))}"
    images = sum(units.images for units in found.units.values())
    tested = f"tested on {images} image{'s' if images > 1 else ''} of {', '.join(found.types)}"
    where = f"{record.title}: trained on {exhibit.runs.source}, {seeds}, {tested}"
    if exhibit.runs.synthetic:
        return f"{where}. SYNTHETIC: the demo culture that this program draws."
    try:
        named = licences([_test_images(exhibit, root)])
    except InputError as error:
        return f"{where}. Real images ({record.data}); their licence could not be read: {error}."
    licence = f"under {', '.join(named)}" if named else "whose files name no licence"
    return f"{where}. Real images ({record.data}) {licence}."


def _tables(shown: Sequence[Exhibit]) -> str:
    note = (
        "Down the cell types, across the policies: mask AP50 in %, then gains over the reference in points with their "
        "interval; “seen” is a type the models were trained on."
    )
    if any(exhibit.paper for exhibit in shown):
        note += " Grey: paper, LIVECell test, published A172 model."
    parts = []
    for exhibit in shown:
        kind = " (SYNTHETIC)" if exhibit.runs.synthetic else ""
        parts += [html.heading(exhibit.title + kind), comparison_tables(exhibit.found, exhibit.paper)]
    return html.section("Tables", note, *parts)


def _gains(shown: Sequence[Exhibit]) -> str:
    note = (
        "Each cell is a policy's gain over the reference in points of AP50: blue is better, red is worse, a dot marks "
        "gains told from zero after Holm's correction; point at a cell for its interval."
    )
    parts = []
    for exhibit in shown:
        kind = " (SYNTHETIC)" if exhibit.runs.synthetic else ""
        parts += [html.heading(exhibit.title + kind), gain_map(exhibit.found)]
    return html.section("Gains at a glance", note, *parts)


def _morphology(shown: Sequence[Exhibit], root: Path | None) -> str:
    """The paper's Figure 6, once for each set of test images."""
    note = (
        "How large and how convex the labelled cells of each type are in the test images; the dashed line is the "
        "median of the type that the models were trained on."
    )
    parts: dict[tuple[str, ...], str] = {}
    for exhibit in shown:
        try:
            dataset = _test_images(exhibit, root)
            key = (*exhibit.found.seen, "|", *(record.id for record in dataset))
            if key not in parts:
                parts[key] = _figure(exhibit, dataset)
        except InputError as error:
            parts[exhibit.title,] = html.text(f"{exhibit.title}: no figure, {error}", "missing")
    return html.section("Size and convexity of the cells", note, *parts.values())


def _figure(exhibit: Exhibit, dataset: CellDataset) -> str:
    measured = measure([dataset])
    source = _source(measured, exhibit)
    caption = f"Test images of {exhibit.title}" + (" (SYNTHETIC)" if exhibit.runs.synthetic else "")
    return html.picture(figure_bytes(measured, source=source), f"{caption}: size and convexity", caption, wide=True)


def _source(measured: Sequence[TypeMorphology], exhibit: Exhibit) -> TypeMorphology | None:
    """The type that the models were trained on, if it is one and has labelled test images."""
    own = [one for one in measured if one.cell_type in exhibit.found.seen and len(one)]
    return find_source(measured, own[0].label) if len(own) == 1 else None


def _test_images(exhibit: Exhibit, root: Path | None) -> CellDataset:
    """What the experiment was tested on, as its first run from this source says."""
    cell = next(cell for cell in exhibit.record.cells if cell.source == exhibit.runs.source)
    config = config_of(cell, exhibit.base)
    return to_test_on(config.data, config.evaluate, root or config.root)

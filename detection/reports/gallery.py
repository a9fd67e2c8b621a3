"""The picture sections of the page: style previews, and predictions beside ground truth, within a size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detection.matrices.record import CellRecord
from detection.reports import markup as html
from detection.reports.exhibits import Exhibit
from detection.reports.folders import config_of, record_named
from detection.reports.images import compressed
from detection.reports.predictions import FOUND, LABELLED, SCORE, SIDE, Chosen, Kept, extremes, pair
from detection.reports.previews import DRAWS, Preview, previews
from detection.statistics.comparison import file_stem
from detection.testing_on import to_test_on
from policy_search.cells import CellDataset
from policy_search.cells.errors import InputError

# Bytes of JPEG in one section; base64 adds a third. Both sections leave room for tables and figures below 3 MB.
PREVIEW_LIMIT, PREDICTION_LIMIT = 700_000, 1_100_000


class Shown(NamedTuple):
    """One picture (H, W, 3) uint8 with its caption, or the reason why there is none; `group` is its heading."""

    group: str
    caption: str
    pixels: NDArray[np.uint8] | None


def preview_section(exhibits: Sequence[Exhibit], root: Path | None) -> str:
    """Every policy once for each source, however many experiments have it."""
    shown: list[Shown] = []
    done: set[tuple[str, str]] = set()
    for exhibit in exhibits:
        source = exhibit.runs.source
        for preview in previews(exhibit.record, exhibit.base, source, root):
            if (source, preview.policy_hash) not in done:
                done.add((source, preview.policy_hash))
                shown.append(_of_policy(preview, exhibit))
    note = (
        f"Left one training image, beside it {DRAWS} draws of the policy in that row; outlines are labelled cells, and "
        "a cell keeps its colour. Contrast is raised for the eye, the same for the whole row."
    )
    return html.section("What the policies do", note, _laid_out(shown, PREVIEW_LIMIT, wide=True))


def prediction_section(exhibits: Sequence[Exhibit], root: Path | None) -> str:
    """For each source and type the best and the worst image of the reference row and of the best row."""
    shown: list[Shown] = []
    for source in dict.fromkeys(exhibit.runs.source for exhibit in exhibits):
        shown += _of_source([exhibit for exhibit in exhibits if exhibit.runs.source == source], root)
    note = (
        "Left the labelled cells, right those the model found. Of each type: the images on which a row has its best "
        f"and its worst AP50, for the reference row and for the row with the highest mean gain. Shown is the part of "
        f"{SIDE} × {SIDE} pixels with most labelled cells, and found cells with a score of at least {SCORE:g}; AP50 "
        "counts all."
    )
    keys = "".join(
        f'<span class="key" style="background:rgb{colour}"></span>{words} '
        for colour, words in ((LABELLED, "labelled (left)"), (FOUND, "found by the model (right)"))
    )
    return html.section("Predictions beside ground truth", note, f"<p>{keys}</p>", _laid_out(shown, PREDICTION_LIMIT))


def left_out(heading: str) -> str:
    """In place of a section of pictures."""
    words = "Left out with --no-pictures: the images may be under a licence that forbids handing them on."
    return html.section(heading, words)


def _of_policy(preview: Preview, exhibit: Exhibit) -> Shown:
    kind = " (synthetic cells)" if exhibit.runs.synthetic else ""
    return Shown(f"{preview.label}, on {exhibit.runs.source}{kind}", preview.words, preview.pixels)


def _of_source(exhibits: Sequence[Exhibit], root: Path | None) -> list[Shown]:
    first = exhibits[0]
    wanted = [(first, first.found.reference, "reference")]
    best = _best(exhibits)
    if best is not None:
        wanted.append((*best, "highest mean gain"))
    runs = [(exhibit, cell, role) for exhibit, row, role in wanted if (cell := _first_cell(exhibit, row)) is not None]
    shown = []
    data: dict[Path, CellDataset] = {}
    for name in first.found.types:
        seen = "seen in training" if name in first.found.seen else "unseen"
        kind = ", synthetic" if first.runs.synthetic else ""
        group = f"{name} ({seen}{kind}), trained on {first.runs.source}"
        for exhibit, cell, role in runs:
            images = exhibit.runs.images.get((cell.label, cell.seed), {}).get(name, ())
            for chosen in extremes(images):
                shown.append(_prediction(group, exhibit, cell, role, name, chosen, len(images), data, root))
    return shown


def _prediction(
    group: str, exhibit: Exhibit, cell: CellRecord, role: str, name: str, chosen: Chosen, of: int,
    data: dict[Path, CellDataset], root: Path | None,
) -> Shown:  # fmt: skip
    """`data` keeps each run's test images, so that they are looked for once."""
    which = "its only image" if chosen.kind == "only" else f"its {chosen.kind} of {of} images"
    words = f"{cell.label} ({role}), seed {cell.seed}, {which}: AP50 {100 * chosen.ap50:.1f} %"
    folder = exhibit.base / cell.folder
    try:
        if folder not in data:
            config = config_of(cell, exhibit.base)
            data[folder] = to_test_on(config.data, config.evaluate, root or config.root)
        labelled, found = Kept(folder / "test", file_stem(name)).cells(chosen.image)
        image = data[folder].image(record_named(data[folder], name, chosen.image))
        both = pair(image, labelled, found)
    except InputError as error:
        return Shown(group, f"{words}. No picture: {error}", None)
    return Shown(group, f"{words}, {both.labelled} cells labelled, {both.found} found. {chosen.image}", both.pixels)


def _best(exhibits: Sequence[Exhibit]) -> tuple[Exhibit, str] | None:
    """The row with the highest mean gain; the first of equals."""
    gains = [
        (contrast.gain.value, exhibit, row)
        for exhibit in exhibits
        for row, contrast in exhibit.found.contrasts.items()
        if contrast.gain is not None
    ]
    if not gains:
        return None
    _, exhibit, row = max(gains, key=lambda found: found[0])
    return exhibit, row


def _first_cell(exhibit: Exhibit, row: str) -> CellRecord | None:
    own = [c for c in exhibit.record.cells if (c.label, c.source) == (row, exhibit.runs.source)]
    return own[0] if own else None


def _laid_out(shown: Sequence[Shown], limit: int, *, wide: bool = False) -> str:
    files = iter(compressed([one.pixels for one in shown if one.pixels is not None], limit))
    parts: dict[str, list[str]] = {}
    for one in shown:
        own = parts.setdefault(one.group, [])
        if one.pixels is None:
            own.append(html.text(one.caption, "missing"))
        else:
            own.append(html.picture(next(files), f"{one.group}: {one.caption}", one.caption, wide=wide))
    return "\n".join(
        html.heading(group) + ("".join(own) if wide else f'<div class="grid">{"".join(own)}</div>')
        for group, own in parts.items()
    )

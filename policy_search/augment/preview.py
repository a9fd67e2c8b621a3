"""Contact sheets: what a policy does to images and their instances, for a person to look at.

Phase contrast uses a few grey levels around the middle (LIVECell: standard deviation 6 to 17 of 255), so tiles are
shown with more contrast than they have. One gain serves a whole row, so that a change of contrast stays visible; a
shift of brightness is shown at half its size, and its full size stands in the caption.
"""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from policy_search.augment.apply import Augmenter, Donor
from policy_search.augment.documents import PolicyDocument
from policy_search.cells.dataset import CellDataset, ImageRecord
from policy_search.cells.errors import InputError
from policy_search.cells.files import replacing
from policy_search.cells.instances import InstanceMap

Image = NDArray[np.uint8]
DISPLAY_STD = 38.0
MAX_TILE = 360
# Distinct hues in a fixed order, so that an instance keeps its colour from column to column.
_PALETTE = np.array(
    [[230, 75, 53], [77, 187, 213], [0, 160, 135], [60, 84, 136], [243, 155, 127], [145, 209, 194], [126, 97, 72]],
    np.uint8,
)


@dataclass(frozen=True)
class Tile:
    """One picture of the sheet: (H, W, 3) uint8 and its caption."""

    pixels: Image
    caption: str


def for_display(image: Image, gain: float, base: float) -> Image:
    """Contrast raised by `gain` about the image's own mean; a mean off `base` is shown at half that distance."""
    values = image.astype(np.float32)
    mean = float(values.mean())
    shown: Image = np.clip(base + (mean - base) / 2 + gain * (values - mean), 0, 255).astype(np.uint8)
    return shown


def draw_outlines(image: Image, instances: InstanceMap) -> Image:
    """The image as RGB with each instance's inner border in its colour. (H, W) or (H, W, 3) in, (H, W, 3) out."""
    canvas = np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image.copy()
    for instance in instances:
        x0, y0, x1, y1 = instance.box
        padded = np.pad(instance.mask, 1)
        core = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        window, border = canvas[y0:y1, x0:x1], instance.mask & ~core
        window[border] = (0.35 * window[border] + 0.65 * _PALETTE[instance.id % len(_PALETTE)]).astype(np.uint8)
    return canvas


def donor_from(dataset: CellDataset, record: ImageRecord) -> Donor:
    """A donor for copy-paste: another random image of the dataset; the image itself if it is the only one."""
    others = [r for r in dataset.records if r.id != record.id] or [record]

    def draw(generator: np.random.Generator) -> tuple[Image, InstanceMap]:
        chosen = others[int(generator.integers(len(others)))]
        return dataset.image(chosen), dataset.instances(chosen)

    return draw


def preview_tiles(
    document: PolicyDocument, dataset: CellDataset, *, images: int, draws: int, seed: int
) -> list[list[Tile]]:
    """Rows of tiles: per image the original, then `draws` applications of the policy with their instance counts."""
    augment = Augmenter(document)
    rows = []
    step = max(1, len(dataset) // images)
    for record in dataset.records[::step][:images]:
        image, instances = dataset.image(record), dataset.instances(record)
        base = float(image.mean())
        gain = min(6.0, max(1.0, DISPLAY_STD / max(1.0, float(image.std()))))
        window = _centre(record.height, record.width)

        def tile(
            pixels: Image,
            cells: InstanceMap,
            words: str,
            *,
            gain: float = gain,
            base: float = base,
            window: Any = window,
        ) -> Tile:
            outlined = draw_outlines(for_display(pixels, gain, base), cells)
            return Tile(outlined[window], f"{words}: {len(cells)} cells, mean grey {pixels.mean():.0f}")

        row = [tile(image, instances, f"{record.cell_type}, original")]
        for draw in range(1, draws + 1):
            donor = donor_from(dataset, record)
            row.append(
                tile(*augment(image, instances, seed=seed, image_id=record.id, draw=draw, donor=donor), f"draw {draw}")
            )
        rows.append(row)
    return rows


def _centre(height: int, width: int) -> tuple[slice, slice]:
    """The middle of the frame, at most MAX_TILE pixels a side: outlines must stay wider than a hair."""
    h, w = min(height, MAX_TILE), min(width, MAX_TILE)
    return slice((height - h) // 2, (height + h) // 2), slice((width - w) // 2, (width + w) // 2)


def save_sheet(rows: Sequence[Sequence[Tile]], title: str, path: str | Path, *, tile_inches: float = 2.6) -> None:
    """Write the sheet as PNG (or whatever the suffix says) in one step.

    Raises:
        InputError: of a kind that Matplotlib cannot write, or not writable.
    """
    kind = Path(path).suffix.lower().removeprefix(".") or "png"
    height, width = rows[0][0].pixels.shape[:2]
    columns = max(len(row) for row in rows)
    figure = Figure(
        figsize=(columns * tile_inches, len(rows) * (tile_inches * height / width + 0.25) + 0.45), layout="constrained"
    )
    kinds = FigureCanvasAgg(figure).get_supported_filetypes()
    if kind not in kinds:
        raise InputError(f"cannot write {path}: expected a picture, {', '.join(f'.{k}' for k in sorted(kinds))}")
    axes: Any = figure.subplots(len(rows), columns, squeeze=False)
    for row, line in zip(axes, rows, strict=True):
        for axis in row:
            axis.axis("off")
        for axis, tile in zip(row, line, strict=False):
            axis.imshow(tile.pixels, interpolation="nearest")
            axis.set_title(tile.caption, fontsize=8, parse_math=False)
    figure.suptitle(textwrap.fill(title, int(13 * columns * tile_inches)), fontsize=9, parse_math=False)
    with replacing(path) as scratch, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a name in a script that the font lacks shows as boxes
        figure.savefig(scratch, dpi=130, format=kind)


def save_preview(
    document: PolicyDocument,
    dataset: CellDataset,
    path: str | Path,
    *,
    images: int = 3,
    draws: int = 4,
    seed: int = 0,
) -> None:
    """The contact sheet of one policy on a dataset."""
    kind = " (synthetic cells)" if dataset.synthetic else ""
    title = (
        f"{document.name} on {dataset.name}{kind}, policy {document.content_hash}, seed {seed}. "
        "Contrast raised for display; counts are of the whole image."
    )
    save_sheet(preview_tiles(document, dataset, images=images, draws=draws, seed=seed), title, path)

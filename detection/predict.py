"""Cells in any pictures: an overlay, a label image and a row of counts for each."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tifffile
from detectron2.modeling import GeneralizedRCNN
from numpy.typing import NDArray
from PIL import Image

from detection.config import PredictConfig
from detection.find import find_cells
from detection.livecell import HEIGHT, WIDTH
from detection.model import build_model
from detection.overlay import Counts, counts, overlay, visible
from detection.pictures import Named, named, pictures
from detection.statistics.comparison import Detected
from detection.tiles import Merged, find_in_tiles, tile_for
from detection.weights import weights_to_test
from policy_search.cells.errors import InputError
from policy_search.cells.files import replacing, require_writable_folder, write_json
from policy_search.cells.images import read_image
from policy_search.cells.planes import Plane

HEADER = ("file", "cells", "mean_area_px", "median_area_px", "foreground_fraction", "score_threshold", "name")


class Prediction(NamedTuple):
    """One picture: its file, the name of its results, its numbers."""

    path: Path
    name: str
    counts: Counts


def predict_image(model: GeneralizedRCNN, image: NDArray[np.uint8], tile: int | None = None) -> Merged:
    """Cells of one (H, W) or (H, W, 3) uint8 image, best first.

    Args:
        tile: side of the tiles in pixels; 0 takes the image in one piece; None decides by its size.
    """
    size = tile_for(*image.shape[:2]) if tile is None else tile

    def find(part: NDArray[np.uint8]) -> Detected:
        with proposals_by_area(model, part.shape[0] * part.shape[1]):
            return find_cells(model, part)

    if not size or max(image.shape[:2]) <= size:
        return Merged(*find(image), 0)
    return find_in_tiles(find, image, size)


@contextmanager
def proposals_by_area(model: GeneralizedRCNN, pixels: int) -> Iterator[None]:
    """Within, the limits on proposals are those of the configuration for a picture of LIVECell's size, and in
    proportion for any other number of pixels.

    They are numbers an image. Without this a tile would be given as many regions as the whole picture, and count cells
    that the picture in one piece leaves out.
    """
    network = model.proposal_generator
    before = network.pre_nms_topk, network.post_nms_topk
    share = pixels / (HEIGHT * WIDTH)
    network.pre_nms_topk, network.post_nms_topk = (
        {**limits, False: max(round(limits[False] * share), 1)} for limits in before
    )
    try:
        yield
    finally:
        network.pre_nms_topk, network.post_nms_topk = before


def run_prediction(config: PredictConfig, report: Callable[[str], None] = lambda _: None) -> list[Prediction]:
    """The command `detect predict`: writes overlays/NAME.png, labels/NAME.tif and counts.csv under `config.out`.

    Raises:
        InputError: weights or folder cannot be used (nothing is written then), or some pictures cannot: the others are
            done, and the message names each that is not.
    """
    checkpoint = weights_to_test(config.weights, config.preset, config.allow)
    if checkpoint.report:
        report(checkpoint.report)
    paths, bad = pictures(config.images)
    if not paths:
        raise InputError("; ".join(bad))
    plane = Plane(config.page, config.channel)
    todo = named(paths, plane.suffix())
    out = require_writable_folder(config.out)
    _check_nothing_is_lost(out, todo)
    # The network itself leaves out what is below the threshold: no time goes into masks that nobody will see.
    network = checkpoint.config.model_copy(update={"score_threshold": config.score})
    model = build_model(network)
    model.load_state_dict(checkpoint.state)
    model.to(config.device)
    write_json(out / "config.json", config.model_dump(mode="json"))
    done: list[Prediction] = []
    for path, name in todo:
        try:
            image = read_image(path, plane)
        except InputError as error:
            bad.append(str(error).rstrip("."))
            report(f"{path}: left out, it cannot be read")
            continue
        found = predict_image(model, image, config.tile)
        labels, cells = visible(found.cells, *image.shape[:2])
        _write(out, name, labels, overlay(image, cells))
        done.append(Prediction(path, name, counts(labels, cells)))
        # After each picture: an interruption loses none of the rows before.
        _write_counts(out / "counts.csv", done, config.score)
        report(_sentence(done[-1], found, network.detections, image.shape[0] * image.shape[1]))
    if bad:
        others = f"; the other {len(done)} are in {out}" if done else ""
        raise InputError(f"{len(bad)} of the inputs cannot be used: {'; '.join(bad)}{others}")
    return done


def _sentence(made: Prediction, found: Merged, limit: int, pixels: int) -> str:
    share = f"{100 * made.counts.foreground:.1f} % of {pixels / 1e6:.1f} megapixels"
    text = f"{made.path}: {made.counts.cells} cells, {share}"
    if not found.cells:
        text += "; nothing reaches the score, a lower --score may show more"
    if found.cut:
        text += f"; {found.cut} of them end at the edge of a tile: choose a larger --tile"
    if len(found.cells) == limit:
        text += f"; the network gives no more than {limit} at once: choose a smaller --tile"
    return text


def _check_nothing_is_lost(out: Path, todo: Sequence[Named]) -> None:
    """Neither a picture nor the counts of other pictures may be overwritten."""
    targets = {_overlay(out, name).resolve() for _, name in todo} | {_labels(out, name).resolve() for _, name in todo}
    for path, _ in todo:
        if path.resolve() in targets:
            raise InputError(f"{path} would be overwritten by its own result: choose another folder with --out")
    try:
        with (out / "counts.csv").open(newline="", encoding="utf-8") as file:
            before = {(Path(row["file"]).resolve(), row["name"]) for row in csv.DictReader(file)}
    except FileNotFoundError:
        return
    except (KeyError, csv.Error, UnicodeDecodeError):
        raise InputError(f"{out / 'counts.csv'} is not of this command: choose another folder with --out") from None
    others = before - {(path.resolve(), name) for path, name in todo}
    if others:
        raise InputError(
            f"{out} holds the results of other pictures, such as {min(others)[0].name}: choose another "
            "folder with --out"
        )


def _overlay(out: Path, name: str) -> Path:
    return out / "overlays" / f"{name}.png"


def _labels(out: Path, name: str) -> Path:
    return out / "labels" / f"{name}.tif"


def _write(out: Path, name: str, labels: NDArray[np.uint16 | np.uint32], shown: NDArray[np.uint8]) -> None:
    with replacing(_labels(out, name)) as scratch:
        tifffile.imwrite(scratch, labels, compression="zlib", photometric="minisblack")
    with replacing(_overlay(out, name)) as scratch:
        Image.fromarray(shown).save(scratch, format="PNG")


def _write_counts(path: Path, done: Sequence[Prediction], score: float) -> None:
    with replacing(path) as scratch, scratch.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        for made in done:
            own = made.counts
            areas = ["" if value is None else f"{value:.1f}" for value in (own.mean_area, own.median_area)]
            writer.writerow([made.path, own.cells, *areas, f"{own.foreground:.4f}", score, made.name])

"""Write a COCO file of LIVECell's form and size, made up: for measuring how annotation files are read.

    python scripts/livecell_like.py OUT.json [--images 3253] [--instances 1000000] [--seed 0] [--mapping]

Names, frames, keys, their order and the two forms of `annotations` are LIVECell's; the cells are scattered wobbly
ellipses whose number, size and vertices follow those of the annotated images in livecell-mini, type by type. One image
in memory at a time; the same arguments give the same bytes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray

from policy_search.cells.files import replacing

HEIGHT, WIDTH = 520, 704
FULL_IMAGES, FULL_INSTANCES = 3253, 1_000_000  # LIVECell's training file, in round numbers
FEWEST_VERTICES = 5  # met in LIVECell
HEAD = {
    "info": {"year": "2021", "version": "1.0", "description": "made up, in LIVECell's form"},
    "licenses": [{"id": 1, "name": "none: no cell in here was ever alive"}],
    "categories": [{"supercategory": "cell", "id": 1, "name": "cell"}],
}


class Look(NamedTuple):
    """Cells of one type: their number an image, mean and deviation of area (px²) and of vertices."""

    folder: str
    cells: int
    area: tuple[float, float]
    vertices: tuple[float, float]


# Measured on livecell-mini. It has no annotated BV2: as MCF7 with fewer vertices.
LOOKS = (
    Look("A172", 155, (1137, 743), (20, 8)),
    Look("BT474", 177, (510, 279), (26, 10)),
    Look("BV2", 640, (220, 120), (18, 5)),
    Look("Huh7", 60, (1350, 1350), (39, 18)),
    Look("MCF7", 730, (271, 145), (25, 8)),
    Look("SHSY5Y", 357, (366, 234), (22, 12)),
    Look("SkBr3", 228, (314, 189), (25, 6)),
    Look("SKOV3", 212, (1275, 832), (36, 16)),
)
# Coordinates have two decimals; looking their text up is ten times faster than writing floats.
_TEXT = [repr(number / 100) for number in range(max(HEIGHT, WIDTH) * 100 + 1)]


def plan(images: int, instances: int, rng: np.random.Generator) -> list[tuple[Look, int]]:
    """Type and number of cells of each image: the types take turns, the numbers add up to `instances`."""
    looks = [LOOKS[index % len(LOOKS)] for index in range(images)]
    weights = np.array([look.cells for look in looks]) * rng.lognormal(0, 0.4, images)
    ends = np.round(np.cumsum(weights) / weights.sum() * instances).astype(int)
    return list(zip(looks, np.diff(ends, prepend=0).tolist(), strict=True))


def file_name(look: Look, turn: int) -> str:
    """LIVECell's pattern; `turn` counts the images of a type. Crops, times, locations, then wells go up."""
    rest, crop = divmod(turn, 4)
    rest, time = divmod(rest, 20)
    well, location = divmod(rest, 2)
    days, hours = divmod(4 * time, 24)
    place = f"{'ABCDEFGH'[well % 8]}{well // 8 + 1}_{location + 1}"
    return f"{look.folder}_Phase_{place}_{days:02d}d{hours:02d}h00m_{crop + 1}.tif"


def rings(look: Look, cells: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Per cell a ring (V, 2) int64 of x and y in hundredths of a pixel, inside the frame."""
    mean, deviation = look.vertices
    drawn = rng.gamma((mean / deviation) ** 2, deviation**2 / mean, cells)
    counts = np.maximum(FEWEST_VERTICES, drawn.round()).astype(int)
    mean, deviation = look.area
    radius = np.sqrt(rng.gamma((mean / deviation) ** 2, deviation**2 / mean, cells).clip(30) / np.pi)
    owner = np.repeat(np.arange(cells), counts)
    place = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    angle = 2 * np.pi * (place + rng.uniform(-0.3, 0.3, len(owner))) / counts[owner]
    wobble = 1 + 0.25 * np.cos(2 * angle + rng.uniform(0, 2 * np.pi, cells)[owner]) + rng.normal(0, 0.06, len(owner))
    centre = rng.uniform((0, 0), (WIDTH, HEIGHT), (cells, 2))
    away = np.stack([np.cos(angle), np.sin(angle)], 1) * (radius[owner] * wobble)[:, None]
    points = np.round((centre[owner] + away).clip((0, 0), (WIDTH, HEIGHT)) * 100).astype(np.int64)
    return np.split(points, np.cumsum(counts)[:-1])


def annotation(number: int, image: int, ring: NDArray[np.int64]) -> str:
    """The JSON of one annotation, its keys in LIVECell's order."""
    points = ring / 100
    (x0, y0), (x1, y1) = points.min(0).tolist(), points.max(0).tolist()
    x, y = points.T
    area = abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2
    flat = ", ".join([_TEXT[value] for value in ring.ravel().tolist()])
    return (
        f'{{"id": {number}, "image_id": {image}, "category_id": 1, "segmentation": [[{flat}]], '
        f'"area": {area!r}, "bbox": {[x0, y0, x1 - x0, y1 - y0]}, "iscrowd": 0}}'
    )


def _entries(planned: list[tuple[Look, int]]) -> Iterator[tuple[int, dict[str, object]]]:
    """Image ids and entries. As in LIVECell, an image and its annotations share one count."""
    number, turns = 1, dict.fromkeys(LOOKS, 0)
    for look, cells in planned:
        name = file_name(look, turns[look])
        turns[look] += 1
        original = name.replace(".tif", ".png")
        entry = {"id": number, "width": WIDTH, "height": HEIGHT, "file_name": name, "original_filename": original}
        yield number, {**entry, "url": f"https://example.org/api/images/{number}/original"}
        number += 1 + cells


def write(
    path: str | Path,
    images: int = FULL_IMAGES,
    instances: int = FULL_INSTANCES,
    seed: int = 0,
    *,
    mapping: bool = False,
) -> None:
    """Write the file in one step.

    Args:
        path: of the file.
        images: number of images.
        instances: annotations of all images together.
        seed: of everything that is drawn.
        mapping: `annotations` as a mapping from their ids, which LIVECell has too.

    Raises:
        InputError: the folder cannot be written.
    """
    planned = plan(images, instances, np.random.default_rng(seed))
    with replacing(path) as scratch, scratch.open("w", encoding="utf-8") as file:
        file.write(json.dumps(HEAD)[:-1] + ', "images": [')
        file.write(", ".join(json.dumps(entry) for _, entry in _entries(planned)))
        file.write(f'], "annotations": {"{" if mapping else "["}')
        _write_annotations(file, planned, seed, mapping)
        file.write(f"{'}' if mapping else ']'}}}")


def _write_annotations(file: TextIO, planned: list[tuple[Look, int]], seed: int, mapping: bool) -> None:
    first = True
    for (image, _), (look, cells) in zip(_entries(planned), planned, strict=True):
        if not cells:
            continue
        rng = np.random.default_rng([seed, image])
        parts = [
            (f'"{number}": ' if mapping else "") + annotation(number, image, ring)
            for number, ring in enumerate(rings(look, cells, rng), start=image + 1)
        ]
        file.write(("" if first else ", ") + ", ".join(parts))
        first = False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=int, default=FULL_IMAGES)
    parser.add_argument("--instances", type=int, default=FULL_INSTANCES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mapping", action="store_true", help="annotations as a mapping from their ids")
    options = parser.parse_args()
    if options.images < 1 or options.instances < 0:
        parser.error("expected at least one image and no negative number of instances")
    write(options.out, options.images, options.instances, options.seed, mapping=options.mapping)


if __name__ == "__main__":
    main()

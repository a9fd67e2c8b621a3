"""A small before/after sheet of a policy, made in milliseconds: what every trial of a study can afford.

The conventions are those of `augment.preview` (contrast raised for display, one gain for a row, outlines in the
instance's colour, counts and mean grey in the caption); the drawing is not matplotlib's.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pictures
from PIL import ImageDraw, ImageFont

from policy_search.augment import Augmenter, PolicyDocument
from policy_search.augment.apply import sample_seed
from policy_search.augment.preview import DISPLAY_STD, for_display
from policy_search.cells import InstanceMap
from policy_search.study.probe import ProbeSample
from policy_search.study.taken import taken_branches

Image = NDArray[np.uint8]
WINDOW = 256  # pixels a side that the policy is applied to: the middle of larger images
TILE = 184  # pixels a side that are shown, not rescaled, so that outlines stay sharp
GAP, CAPTION, TITLE = 6, 16, 20
DRAWS = 3
IMAGES = 2
GREYS = 240  # levels in the palette; the rest are the outlines' colours
_COLOURS = np.array(
    [[230, 75, 53], [77, 187, 213], [0, 160, 135], [94, 125, 200], [243, 155, 127], [145, 209, 194], [176, 137, 92]],
    np.uint8,
)
_WHITE, _INK = GREYS - 1, 0


@dataclass(frozen=True)
class Source:
    """A window of a sample, ready to be augmented."""

    id: str
    image: Image
    instances: InstanceMap


def sources(samples: Sequence[ProbeSample]) -> tuple[Source, ...]:
    """Middle windows of up to `IMAGES` samples spread over the sequence, and one more as donor for copy-paste."""
    count = min(IMAGES + 1, len(samples))
    places = np.linspace(0, len(samples) - 1, count).round().astype(int)
    return tuple(_window(samples[place]) for place in dict.fromkeys(places.tolist()))


def sheet_png(document: PolicyDocument, windows: Sequence[Source], *, seed: int) -> bytes:
    """The sheet as a palette PNG: a row per image, the original and then `DRAWS` applications.

    Args:
        document: the policy.
        windows: from `sources`; at least one. The last one is only pasted from, unless there are no more than `IMAGES`.
        seed: same seed, same policy, same windows: the same bytes.

    Raises:
        PolicyError: the policy cannot be applied to such images.
    """
    rows = [_row(document, source, _others(windows, source), seed) for source in windows[:IMAGES]]
    columns = 1 + DRAWS
    canvas = np.full((TITLE + len(rows) * (TILE + CAPTION + GAP), columns * (TILE + GAP) + GAP), _WHITE, np.uint8)
    captions = []
    for i, row in enumerate(rows):
        for j, (pixels, caption) in enumerate(row):
            y, x = TITLE + i * (TILE + CAPTION + GAP) + CAPTION, GAP + j * (TILE + GAP)
            height, width = pixels.shape
            canvas[y : y + height, x : x + width] = pixels
            captions.append(((x, y - CAPTION + 2), caption))
    picture = Pictures.fromarray(canvas)
    picture.putpalette(_palette())
    pen = ImageDraw.Draw(picture)
    pen.fontmode = "1"  # a palette has no half-tones to smooth letters with
    font = ImageFont.load_default(11)
    title = f"{document.name}: original and {DRAWS} draws. Contrast raised; cells counted in the middle {WINDOW} px."
    for place, caption in [((GAP, 3), title), *captions]:
        pen.text(place, caption, fill=_INK, font=font)
    out = io.BytesIO()
    picture.save(out, "PNG", compress_level=3)  # 6 takes twice as long and saves 3 %
    return out.getvalue()


def border(instances: InstanceMap) -> NDArray[np.uint16]:
    """(H, W) uint16: the id of the instance whose inner border a pixel is, else 0; of several the last layer's.

    A pixel is on the border when one of its four neighbours, or the frame, is not of the instance.
    """
    out = np.zeros(instances.shape, np.uint16)
    for layer in instances.layers:
        padded = np.pad(layer, 1)
        core = (padded[:-2, 1:-1] == layer) & (padded[2:, 1:-1] == layer)
        core &= (padded[1:-1, :-2] == layer) & (padded[1:-1, 2:] == layer)
        np.copyto(out, layer, where=(layer != 0) & ~core)
    return out


def _row(document: PolicyDocument, source: Source, donors: Sequence[Source], seed: int) -> list[tuple[Image, str]]:
    """Tiles of palette indices with their captions."""
    base = float(source.image.mean())
    gain = min(6.0, max(1.0, DISPLAY_STD / max(1.0, float(source.image.std()))))

    def donor(generator: np.random.Generator) -> tuple[Image, InstanceMap]:
        chosen = donors[int(generator.integers(len(donors)))]
        return chosen.image, chosen.instances

    def tile(image: Image, instances: InstanceMap, words: str) -> tuple[Image, str]:
        grey = for_display(image, gain, base)
        indices = (grey.astype(np.uint16) * (GREYS - 1) // 255).astype(np.uint8)
        lines = border(instances)
        np.copyto(indices, (GREYS + lines % len(_COLOURS)).astype(np.uint8), where=lines != 0)
        window = tuple(_middle(length, TILE) for length in indices.shape)
        return indices[window], f"{words}: {len(instances)} cells, mean {image.mean():.0f}"

    row = [tile(source.image, source.instances, "original")]
    for draw in range(1, DRAWS + 1):
        rng = np.random.default_rng(sample_seed(seed, source.id, draw))
        augment = Augmenter(taken_branches(document, rng))
        result = augment(source.image, source.instances, seed=seed, image_id=source.id, draw=draw, donor=donor)
        row.append(tile(*result, f"draw {draw}"))
    return row


def _others(windows: Sequence[Source], source: Source) -> list[Source]:
    return [other for other in windows if other is not source] or [source]


def _window(sample: ProbeSample) -> Source:
    rows, columns = (_middle(length, WINDOW) for length in sample.image.shape)
    image = np.ascontiguousarray(sample.image[rows, columns])
    return Source(sample.id, image, sample.instances.map_layers(lambda layer: layer[rows, columns]).drop_specks(1))


def _middle(length: int, most: int) -> slice:
    kept = min(length, most)
    return slice((length - kept) // 2, (length - kept) // 2 + kept)


def _palette() -> list[int]:
    greys = np.repeat(np.linspace(0, 255, GREYS).round().astype(np.uint8)[:, None], 3, axis=1)
    return [int(v) for v in np.concatenate([greys, _COLOURS]).ravel()]

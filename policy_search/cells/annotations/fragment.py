"""Annotations of one image as compact bytes, and back to exactly the values they were.

Coordinates of polygons with up to two decimals, as LIVECell's, are int32 hundredths: k / 100 is the double nearest to
that fraction, which is the one that parsing its decimals gives. Whatever else an entry holds is JSON; keys stand once.
"""

from __future__ import annotations

import json
import struct
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policy_search.cells.annotations.entries import Entry

SHAPE = "segmentation"
_HEAD = struct.Struct("<Q")  # bytes of coordinates; they come first, then JSON
_INT32 = np.iinfo(np.int32)


class _Texts(dict[int, str]):
    """Hundredths as JSON writes them: looking a text up is ten times faster than writing a float."""

    def __missing__(self, number: int) -> str:
        text = float.__repr__(number / 100)
        if 0 <= number < 1 << 18:  # coordinates in frames of up to 2,600 pixels
            self[number] = text
        return text


_TEXTS = _Texts()


def dumps(value: Any) -> bytes:
    """JSON from which `json.loads` gives the same value: surrogates stay as they are, paired or lone."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


def pack(annotations: list[Entry]) -> tuple[bytes, str]:
    """Bytes of the annotations, and their segmentations as one JSON list, which `annotations_key` digests."""
    hundredths = [_hundredths(shapes) for shapes in _batches(annotations)]
    exact = list(chain.from_iterable(found for found, _ in hundredths))
    numbers = np.concatenate([values for _, values in hundredths]) if hundredths else np.zeros(0, np.int64)
    coordinates = numbers.astype("<i4").tobytes()
    forms: dict[tuple[str, ...], int] = {}
    form_of, rows, texts = [], [], []
    lengths: list[list[int] | None] = []  # of the rings; None for what is no polygon of hundredths
    remaining = numbers.tolist()
    start = 0
    for entry, is_exact in zip(annotations, exact, strict=True):
        keys = tuple(entry)
        form_of.append(forms.setdefault(keys, len(forms)))
        shape = entry[SHAPE]
        if is_exact:
            sizes = [len(ring) for ring in shape]
            rings = []
            for size in sizes:
                rings.append(", ".join(map(_TEXTS.__getitem__, remaining[start : start + size])))
                start += size
            texts.append("[[" + "], [".join(rings) + "]]")
            lengths.append(sizes)
            rows.append([None if key == SHAPE else value for key, value in entry.items()])
        else:
            texts.append(json.dumps(shape, default=str))
            lengths.append(None)
            rows.append(list(entry.values()))
    described = dumps([list(forms), form_of, rows, lengths])
    return _HEAD.pack(len(coordinates)) + coordinates + described, ", ".join(texts)


def unpack(data: bytes) -> list[Entry]:
    """The annotations of `pack`, keys in their order."""
    (size,) = _HEAD.unpack_from(data)
    begin = _HEAD.size
    values = (np.frombuffer(data, "<i4", size // 4, begin) / 100).tolist()
    forms, form_of, rows, lengths = json.loads(data[begin + size :])
    places = [keys.index(SHAPE) for keys in forms]
    annotations: list[Entry] = []
    start = 0
    for form, row, sizes in zip(form_of, rows, lengths, strict=True):
        if sizes is not None:
            rings = []
            for count in sizes:
                rings.append(values[start : start + count])
                start += count
            row[places[form]] = rings
        annotations.append(dict(zip(forms[form], row, strict=True)))
    return annotations


def _batches(annotations: list[Entry], most: int = 4096) -> list[list[Any]]:
    """The segmentations in portions: numpy works on many at once, but not on a whole crowd of outlines."""
    shapes = [entry[SHAPE] for entry in annotations]
    return [shapes[start : start + most] for start in range(0, len(shapes), most)]


def _hundredths(shapes: list[Any]) -> tuple[list[bool], NDArray[np.int64]]:
    """Which of the segmentations are polygons of whole hundredths, and the numbers of those, one after another."""
    polygons = [_is_polygon(shape) for shape in shapes]
    flat = [
        list(chain.from_iterable(shape)) if polygon else [] for shape, polygon in zip(shapes, polygons, strict=True)
    ]
    sizes = np.array([len(numbers) for numbers in flat], np.int64)
    values = np.fromiter(chain.from_iterable(flat), np.float64, int(sizes.sum()))
    with np.errstate(invalid="ignore", over="ignore"):  # NaN and infinity are no hundredths
        scaled = np.rint(values * 100)
        good = (scaled / 100 == values) & (scaled >= _INT32.min) & (scaled <= _INT32.max)
    good &= (values != 0) | ~np.signbit(values)  # -0.0 would come back as 0.0
    bad = np.concatenate([[0], np.cumsum(~good)])
    ends = np.cumsum(sizes)
    exact = np.array(polygons, bool) & (bad[ends] == bad[ends - sizes])
    return exact.tolist(), scaled[np.repeat(exact, sizes)].astype(np.int64)


def _is_polygon(shape: Any) -> bool:
    """Rings of floats. An integer among them would come back as a float; no ring at all needs no packing."""
    return (
        type(shape) is list
        and len(shape) > 0
        and all(type(ring) is list and len(ring) > 0 and set(map(type, ring)) == {float} for ring in shape)
    )

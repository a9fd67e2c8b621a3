"""Annotations of one image as compact bytes, and back to exactly the values they were.

Coordinates of polygons with up to two decimals, as LIVECell's, are int32 hundredths: k / 100 is the double nearest to
that fraction, which is the one that parsing its decimals gives. Whatever else an entry holds is JSON; keys stand once.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from functools import cache
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policy_search.cells.annotations.entries import Entry

SHAPE = "segmentation"
_HEAD = struct.Struct("<Q")  # bytes of coordinates; they come first, then JSON
_INT32 = np.iinfo(np.int32)


def dumps(value: Any) -> bytes:
    """JSON from which `json.loads` gives the same value: surrogates stay as they are, paired or lone."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


def pack(annotations: list[Entry]) -> tuple[bytes, bytes]:
    """Bytes of the annotations, and the text of their segmentations, as `json.dumps` writes a list of them, without
    its brackets: what `annotations_key` digests."""
    shapes = [entry[SHAPE] for entry in annotations]
    exact, numbers = _hundredths(shapes)
    # Per annotation the lengths of its rings; None for what is no polygon of hundredths.
    lengths = [[len(ring) for ring in shape] if good else None for shape, good in zip(shapes, exact, strict=True)]
    forms: dict[tuple[str, ...], int] = {}
    form_of, rows = [], []
    for entry, good in zip(annotations, exact, strict=True):
        keys = tuple(entry)
        form_of.append(forms.setdefault(keys, len(forms)))
        row = list(entry.values())
        if good:
            row[keys.index(SHAPE)] = None
        rows.append(row)
    coordinates = numbers.astype("<i4").tobytes()
    described = dumps([list(forms), form_of, rows, lengths])
    text = _text(numbers, lengths) if all(exact) else None
    if text is None:
        text = json.dumps(shapes, default=str)[1:-1].encode()
    return _HEAD.pack(len(coordinates)) + coordinates + described, text


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


def _text(numbers: NDArray[np.int64], lengths: Sequence[list[int] | None]) -> bytes | None:
    """The polygons as JSON, put together from a table of texts: twelve times faster than writing floats.

    None where a number is not in the table.
    """
    if len(numbers) == 0 or int(numbers.min()) < 0 or int(numbers.max()) >= _IN_TABLE:
        return None
    sizes = [sizes for sizes in lengths if sizes is not None]
    firsts = np.cumsum([0, *chain.from_iterable(sizes)])[:-1]
    before = np.zeros(len(numbers), np.int64)
    before[firsts] = 1
    before[firsts[np.cumsum([0, *map(len, sizes)])[:-1]]] = 2
    table = _table()
    rows = np.concatenate([_BEFORE[before], table[numbers]], axis=1)
    # The first row begins with the end of an annotation that is not there.
    return rows.tobytes().translate(None, b"\0")[len(b"]], ") :] + b"]]"


_IN_TABLE = 1 << 18  # hundredths: frames of up to 2,621 pixels
# (3, 6) uint8: what stands before a number that begins nothing, a ring, an annotation; padded with zeros.
_BEFORE = np.array([b", ", b"], [", b"]], [["], "S6").view(np.uint8).reshape(3, 6)


@cache
def _table() -> NDArray[np.uint8]:
    """(numbers, 7) uint8: hundredths as JSON writes them, padded with zeros."""
    texts = np.array([float.__repr__(number / 100) for number in range(_IN_TABLE)], "S7")
    return texts.view(np.uint8).reshape(_IN_TABLE, 7)

"""The pixels of COCO run-length codes, of many cells at once and without a frame for each.

A COCO RLE lists the lengths of runs in column-major order, background first. Compressed, a length is written as signed
difference to the one before the last, five bits a character, lowest first: character 48 + 5 bits + 32 if more follow.
pycocotools decodes into a frame for each cell, reads past the end of a cut text, and leaves what a short code does not
cover as it finds it in memory. Here the numbers of all codes are read in one go, and a code that does not fill its
frame is an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policy_search.cells.errors import DataError

Rle = dict[str, Any]
Numbers = NDArray[np.int64]
MAX_CHARACTERS = 7  # of one number: pycocotools' own are 32 bits wide
_PIXELS_AT_ONCE = 1 << 21  # bounds memory where many cells are as large as the frame


def pixels_of(rles: Sequence[Rle], height: int, width: int) -> Iterator[Numbers]:
    """For each code the pixels of its cell on a (height, width) frame: (P,) int64 positions row · width + column.

    In column-major order; P is 0 for a code without a pixel.

    Raises:
        DataError: a code is for another frame, or its counts are damaged or do not fill the frame.
    """
    lengths, owner = run_lengths(rles, height, width)
    if len(lengths) == 0:
        yield from (np.zeros(0, np.int64) for _ in rles)
        return
    first = np.searchsorted(owner, np.arange(len(rles)))
    position = np.arange(len(lengths)) - first[owner]
    ends = np.cumsum(lengths)
    ends -= (ends - lengths)[np.minimum(first, len(lengths) - 1)][owner]
    cell = position % 2 == 1
    starts, ends, owner = (ends - lengths)[cell], ends[cell], owner[cell]
    starts, ends, owner = _within_columns(starts, ends, owner, height)
    run = ends - starts
    column = starts // height
    corner = (starts - column * height) * width + column  # the run's first pixel in the row-major frame
    bounds = np.searchsorted(owner, np.arange(len(rles) + 1))
    total = np.concatenate([[0], np.cumsum(run)])
    for low, high in _portions(total[bounds]):
        part = slice(bounds[low], bounds[high])
        offset = total[part] - total[bounds[low]]
        count = int(total[bounds[high]] - total[bounds[low]])
        pixels = np.repeat(corner[part] - offset * width, run[part]) + np.arange(0, count * width, width)
        cuts = (total[bounds[low : high + 1]] - total[bounds[low]]).tolist()
        for index in range(high - low):
            yield pixels[cuts[index] : cuts[index + 1]]


def run_lengths(rles: Sequence[Rle], height: int, width: int) -> tuple[Numbers, Numbers]:
    """Lengths of all runs of all codes, one after the other, and the index of each run's code; both (R,) int64.

    A code without any count is taken as one without a pixel.

    Raises:
        DataError: see `pixels_of`.
    """
    for index, rle in enumerate(rles):
        if list(rle["size"]) != [height, width]:
            raise DataError(f"RLE {index} is for a {rle['size']} frame, expected [{height}, {width}]")
    texts = [_text(rle["counts"], index) for index, rle in enumerate(rles)]
    sizes = np.array([len(text) for text in texts], np.int64)
    numbers, owner = _numbers(np.frombuffer(b"".join(texts), np.uint8), np.repeat(np.arange(len(texts)), sizes))
    lengths = _undo_differences(numbers, owner)
    covered = np.zeros(len(rles), np.int64)
    np.add.at(covered, owner, lengths)
    wrong = np.zeros(len(rles), bool)
    wrong[owner[(lengths < 0) | (lengths > height * width)]] = True
    wrong |= (covered != height * width) & (sizes > 0)
    if wrong.any():
        index = int(np.flatnonzero(wrong)[0])
        raise _damaged(index, f"its runs cover {covered[index]} of {height * width} pixels or go backwards")
    return lengths, owner


def _text(counts: Any, index: int) -> bytes:
    if isinstance(counts, str):
        counts = counts.encode("utf-8", "surrogatepass")
    if not isinstance(counts, bytes):
        raise _damaged(index, f"expected a text, found {type(counts).__name__}")
    return counts


def _numbers(characters: NDArray[np.uint8], owner: Numbers) -> tuple[Numbers, Numbers]:
    """The signed numbers that the characters spell, and the code that each of them stands in."""
    bits = characters.astype(np.int64) - 48
    foreign = (bits < 0) | (bits > 63)
    if foreign.any():
        raise _damaged(int(owner[np.flatnonzero(foreign)[0]]), "it holds characters that no count is written with")
    is_last = bits < 32
    ends = np.flatnonzero(is_last)
    cut = np.flatnonzero(~is_last & np.append(owner[1:] != owner[:-1], True)[: len(owner)])
    if len(cut):
        raise _damaged(int(owner[cut[0]]), "it ends in the middle of a number")
    if len(ends) == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    starts = np.concatenate([[0], ends[:-1] + 1])
    digits = ends - starts + 1
    if digits.max() > MAX_CHARACTERS:
        raise _damaged(int(owner[ends[np.argmax(digits > MAX_CHARACTERS)]]), "it holds a number of too many digits")
    place = np.arange(len(bits)) - np.repeat(starts, digits)
    values = np.add.reduceat((bits & 31) << (5 * place), starts)
    negative = (bits[ends] & 16) != 0
    values[negative] -= np.int64(1) << (5 * digits[negative])
    return values, owner[ends]


def _undo_differences(numbers: Numbers, owner: Numbers) -> Numbers:
    """Run lengths from differences: from its fourth on, a number was written less the one before the last.

    So all that stand at even places from the third on are one running sum, and all at odd places another.
    """
    if len(numbers) == 0:
        return numbers
    is_first = np.append(True, owner[1:] != owner[:-1])
    first = np.flatnonzero(is_first)
    place = np.arange(len(numbers)) - np.repeat(first, np.diff(np.append(first, len(numbers))))
    lengths = numbers.copy()
    for rest in (0, 1):
        chain = np.flatnonzero((place % 2 == rest) & (place > 0))
        sums = np.cumsum(numbers[chain])
        begins = np.flatnonzero(place[chain] == (2 if rest == 0 else 1))
        before = np.repeat((sums - numbers[chain])[begins], np.diff(np.append(begins, len(chain))))
        lengths[chain] = sums - before
    return lengths


def _within_columns(starts: Numbers, ends: Numbers, owner: Numbers, height: int) -> tuple[Numbers, Numbers, Numbers]:
    """The same runs, cut where they pass from one column to the next."""
    column = starts // height
    pieces = (ends - 1) // height - column + 1
    if len(pieces) == 0 or pieces.max() == 1:
        return starts, ends, owner
    nth = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    border = (np.repeat(column, pieces) + nth) * height
    return (
        np.maximum(np.repeat(starts, pieces), border),
        np.minimum(np.repeat(ends, pieces), border + height),
        np.repeat(owner, pieces),
    )


def _portions(bounds: Numbers) -> Iterator[tuple[int, int]]:
    """Ranges of codes whose pixels together stay within bounds (a code that is larger stands alone)."""
    low, count = 0, len(bounds) - 1
    while low < count:
        high = int(np.searchsorted(bounds, bounds[low] + _PIXELS_AT_ONCE, side="right")) - 1
        high = min(max(high, low + 1), count)
        yield low, high
        low = high


def _damaged(index: int, what: str) -> DataError:
    return DataError(f"the run-length code of annotation {index + 1} is damaged: {what}. Write its counts again.")

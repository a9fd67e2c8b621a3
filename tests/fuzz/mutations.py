"""Damaged files: JSON changed with its structure in mind, and bytes changed without.

Every choice is drawn by hypothesis, so that a failing example is shrunk and can be replayed.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hypothesis import strategies as st

Draw = Callable[[st.SearchStrategy[Any]], Any]


def nested(depth: int) -> Any:
    """Lists in lists."""
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


# What programs write by mistake, and what people write on purpose.
ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 0.5, -0.0, 1.5, 1e-9, 89.9999999, 255, 256, 1000, 65_536, -(10**6), 10**6,
    2**31, 2**32, -(2**63), 2**64, 10**30, 10**400, 1e300, -1e300, float("nan"), float("inf"), float("-inf"),
    "", "x", "0", "1", "NaN", "é", "細胞", "\ud800", "\x00", "\x1b[31m", "[/b]", "[red]", "$\\frac$", "../../x",
    "/etc/passwd", ".", "a" * 300, "Lambda", "FDA", "builtins.eval", "CopyPaste", "SomeOf",
    [], {}, [[]], [{}], [None], [0, 0], [1, 2, 3], [1e300, 1e300], [10**6, 10**6], [2**31, 2**31], [5, 1], [0.1] * 7,
    {"x": 1}, {"size": [1, 1], "counts": "0"}, nested(40), nested(150),
)  # fmt: skip


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container below a value with each of its keys, without recursion: the files are nested on purpose."""
    waiting = [value]
    while waiting:
        found = waiting.pop()
        keys = list(found) if isinstance(found, dict) else range(len(found)) if isinstance(found, list) else ()
        for key in keys:
            yield found, key
            waiting.append(found[key])


def _replace(draw: Draw, container: Any, key: Any, at: list[tuple[Any, Any]]) -> None:
    container[key] = copy.deepcopy(draw(st.sampled_from(ODD)))


def _remove(draw: Draw, container: Any, key: Any, at: list[tuple[Any, Any]]) -> None:
    del container[key]


def _scale(draw: Draw, container: Any, key: Any, at: list[tuple[Any, Any]]) -> None:
    if isinstance(container[key], (int, float)):
        container[key] = container[key] * draw(st.sampled_from([-1, 0, 0.5, 1.5, 10, 1000, 10**6, 10**12]))
    else:
        container[key] = [copy.deepcopy(container[key])]


def _transplant(draw: Draw, container: Any, key: Any, at: list[tuple[Any, Any]]) -> None:
    """What stands in another place; a copy, or a file could hold itself."""
    other, where = at[draw(st.integers(0, len(at) - 1))]
    container[key] = copy.deepcopy(other[where])


def _add(draw: Draw, container: Any, key: Any, at: list[tuple[Any, Any]]) -> None:
    value = copy.deepcopy(draw(st.sampled_from(ODD)))
    if isinstance(container, dict):
        other, where = at[draw(st.integers(0, len(at) - 1))]
        container[where if isinstance(where, str) and isinstance(other, dict) else "extra"] = value
    else:
        container.insert(key, value)


def _repeat(draw: Draw, container: Any, key: Any, at: list[tuple[Any, Any]]) -> None:
    if isinstance(container, list):
        container[key:key] = [copy.deepcopy(container[key]) for _ in range(draw(st.sampled_from([1, 2, 50])))]
    else:
        container[key] = copy.deepcopy(list(container.values()))


CHANGES = (_replace, _replace, _replace, _remove, _scale, _scale, _transplant, _add, _repeat)


@st.composite
def json_values(draw: Draw, corpus: Sequence[Any]) -> Any:
    """One of the values with up to four changes."""
    value = copy.deepcopy(draw(st.sampled_from(corpus)))
    for _ in range(draw(st.integers(1, 4))):
        at = list(places(value))
        if not at:
            break
        container, key = at[draw(st.integers(0, len(at) - 1))]
        draw(st.sampled_from(CHANGES))(draw, container, key, at)
    return value


@st.composite
def json_files(draw: Draw, corpus: Sequence[Any]) -> bytes:
    """The bytes of a changed value; now and then themselves damaged."""
    value = draw(json_values(corpus))
    data = json.dumps(value, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    kind = draw(st.sampled_from(["plain"] * 8 + ["bytes", "bom", "utf-16", "key twice", "deep", "tail"]))
    if kind == "bytes":
        return draw(damaged_bytes([data]))
    if kind == "bom":
        return b"\xef\xbb\xbf" + data
    if kind == "utf-16":
        return data.decode("utf-8", "surrogatepass").encode("utf-16", "surrogatepass")
    if kind == "key twice":
        key = draw(st.sampled_from(list(value))) if isinstance(value, dict) and value else "a"
        return b"{" + json.dumps(str(key)).encode() + b": 1, " + data[1:]
    if kind == "deep":
        opening, closing = draw(st.sampled_from([(b"[", b"]"), (b'{"a":', b"}")]))
        depth = draw(st.sampled_from([50, 900, 10_000]))
        return data[:-1] + b', "deep": ' + opening * depth + b"1" + closing * depth + b"}"
    return data + draw(st.sampled_from([b"}", b"\x00", b"\xff"])) if kind == "tail" else data


# Of sizes and offsets: as large as can be, none, the largest signed one, 60,000 in either order of bytes.
WORDS = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\0\0\xea`", b"`\xea\0\0")


@st.composite
def damaged_bytes(draw: Draw, corpus: Sequence[bytes], begin: int = 0) -> bytes:
    """One of the files cut off, with bytes changed, removed or put in; with a preference for its first bytes.

    Args:
        draw: given by hypothesis.
        corpus: the files.
        begin: changes lie from here on.
    """
    data = bytearray(draw(st.sampled_from(corpus)))
    for _ in range(draw(st.integers(1, 6))):
        end = len(data) if draw(st.booleans()) else min(len(data), begin + 300)
        if end <= begin:
            break
        at = draw(st.integers(begin, end - 1))
        kind = draw(st.sampled_from(["bit", "byte", "word", "remove", "insert", "cut"]))
        if kind == "bit":
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "byte":
            data[at] = draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]))
        elif kind == "word":
            data[at : at + 4] = draw(st.sampled_from(WORDS))
        elif kind == "remove":
            del data[at : at + draw(st.integers(1, 20))]
        elif kind == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=8))
        else:
            del data[at:]
    return bytes(data)

"""A COCO file piece by piece, parsed by the standard library's own JSON scanner: the values are those of `json.loads`.

Measured on 545 MB: ijson is as fast and refuses what `json` takes (NaN, integers beyond 64 bits); msgspec is twice as
fast, but wants the whole file in memory.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterator
from json.decoder import WHITESPACE  # type: ignore[attr-defined]
from pathlib import Path
from typing import Any

from policy_search.cells.annotations.entries import ANNOTATIONS, IMAGES, not_coco, not_entries, not_json, repeated_key

CHUNK = 1 << 22  # bytes
# A value cut off at the end of the window fails this close to it (the longest literal is `-Infinity`), or in a text.
_NEAR = 16
_decode = json.JSONDecoder().raw_decode


def pieces(read: Callable[[int], bytes], path: Path) -> Iterator[tuple[str, Any]]:
    """Key and entry for each member of `images` and `annotations`; key and value for every other key of the file.

    Args:
        read: gives up to so many of the file's next bytes, none at its end.
        path: of the file, for messages.

    Raises:
        DataError: not JSON, of another form, or a key stands twice; the message names the file.
    """
    text = _Window(read, path)
    first = text.symbol()
    if first != "{":
        # Not looked at any further: a file of results is a list, and as large.
        raise not_coco(path) if first and first in '["' else not_json(path, "Expecting value: character 0")
    text.skip()
    seen: set[str] = set()
    for key in text.keys():  # noqa: SIM118 (no mapping)
        if key in seen:
            raise repeated_key(path, key)
        seen.add(key)
        if key in (IMAGES, ANNOTATIONS):
            for entry in text.entries(key):
                yield key, entry
        else:
            yield key, text.value()
    text.finish()
    if IMAGES not in seen:
        raise not_coco(path)


class _Window:
    """The part of the file that is being parsed. Positions in `text`; what lies before `at` is done with."""

    def __init__(self, read: Callable[[int], bytes], path: Path) -> None:
        self.path, self._read = path, read
        first = read(CHUNK)
        # As json.loads: UTF-8, -16 or -32 by the first bytes, lone surrogates pass.
        self._decoder = codecs.getincrementaldecoder(json.detect_encoding(first))("surrogatepass")
        self.text, self.at, self.before, self.ended = "", 0, 0, False
        self._append(first)

    def _append(self, data: bytes) -> None:
        self.ended = not data
        try:
            self.text = self.text[self.at :] + self._decoder.decode(data, final=self.ended)
        except UnicodeDecodeError as error:
            raise not_json(self.path, str(error)) from error
        self.before, self.at = self.before + self.at, 0

    def grow(self) -> None:
        """Read on. At least as much as is there, so that a long value is not begun over and over."""
        self._append(self._read(max(CHUNK, len(self.text) - self.at)))

    def wrong(self, reason: str, at: int) -> Exception:
        """The error for what stands at a position."""
        return not_json(self.path, f"{reason}: character {self.before + at}")

    def symbol(self) -> str:
        """The next character that is no white space; empty at the end of the file."""
        while True:
            self.at = WHITESPACE.match(self.text, self.at).end()
            if self.at < len(self.text):
                return self.text[self.at]
            if self.ended:
                return ""
            self.grow()

    def skip(self) -> None:
        """Past the symbol."""
        self.at += 1

    def value(self) -> Any:
        """The next value."""
        self.symbol()
        while True:
            try:
                value, end = _decode(self.text, self.at)
            except json.JSONDecodeError as error:
                cut = error.pos >= len(self.text) - _NEAR or error.msg.startswith("Unterminated string")
                if self.ended or not cut:
                    raise self.wrong(error.msg, error.pos) from error
            except (ValueError, RecursionError) as error:  # endless numbers, brackets without end
                raise self.wrong(str(error), self.at) from error
            else:
                # 12 near the end may be the beginning of 12.5e+3.
                if self.ended or end <= len(self.text) - _NEAR or not isinstance(value, int | float):
                    self.at = end
                    return value
            self.grow()

    def separator(self, closing: str) -> bool:
        """Past a comma (True) or the closing bracket (False)."""
        found = self.symbol()
        if not found or found not in f",{closing}":
            raise self.wrong("Expecting ',' delimiter", self.at)
        self.skip()
        return found == ","

    def keys(self) -> Iterator[str]:
        """The keys of the object whose bracket was passed; the caller takes each value before the next key."""
        if self.symbol() == "}":
            self.skip()
            return
        more = True
        while more:
            if self.symbol() != '"':
                raise self.wrong("Expecting property name enclosed in double quotes", self.at)
            key: str = self.value()
            if self.symbol() != ":":
                raise self.wrong("Expecting ':' delimiter", self.at)
            self.skip()
            yield key
            more = self.separator("}")

    def entries(self, key: str) -> Iterator[dict[str, Any]]:
        """The members of the list or mapping that comes next."""
        kind = self.symbol()
        if kind == "[":
            self.skip()
            if self.symbol() == "]":
                self.skip()
                return
            yield self._entry(key)
            while self.separator("]"):
                yield self._entry(key)
        elif kind == "{":
            self.skip()
            # Hashes instead of texts: a tenth of the memory. Two texts of one hash are met in one of 10¹² large files.
            seen: set[int] = set()
            for count, name in enumerate(self.keys(), start=1):
                seen.add(hash(name))
                if len(seen) < count:
                    raise repeated_key(self.path, name)
                yield self._entry(key)
        else:
            raise not_entries(self.path, key, self.value())

    def _entry(self, key: str) -> dict[str, Any]:
        entry = self.value()
        if not isinstance(entry, dict):
            raise not_entries(self.path, key, [])  # "found list": the values of a mapping are taken as one
        return entry

    def finish(self) -> None:
        """Nothing but white space may follow."""
        if self.symbol():
            raise self.wrong("Extra data", self.at)

"""What an image entry of a COCO file has to say: an id, a name, a size that fits into memory, and sound texts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from policy_search.cells.errors import DataError

MAX_PIXELS = 1 << 28  # of a frame: each layer of labels takes twice as many bytes
MAX_NAME = 4096  # characters; no file system knows longer ones
_NEEDED = {"id", "file_name", "height", "width"}


def check_image(entry: dict[str, Any], path: Path) -> None:
    """One entry under `images`.

    Args:
        entry: of the file.
        path: of the file, for messages.

    Raises:
        DataError: a key is missing, or its value is not what it has to be.
    """
    missing = _NEEDED - entry.keys()
    if missing:
        raise DataError(f"{path}: an image entry lacks {', '.join(sorted(missing))}: {str(entry)[:120]}")
    if not _is_whole(entry["id"]) and not isinstance(entry["id"], str):
        raise _wrong(path, entry, "id", "a whole number or text")
    for key in ("height", "width"):
        if not _is_whole(entry[key]) or entry[key] < 1:
            raise _wrong(path, entry, key, "a whole number of pixels, 1 or more")
    if max(entry["height"], entry["width"]) > MAX_PIXELS or entry["height"] * entry["width"] > MAX_PIXELS:
        size = "×".join(ascii(entry[key])[:20] for key in ("width", "height"))
        raise DataError(
            f"{path}: image {ascii(entry['file_name'])[:80]} is said to be {size}, expected up to {MAX_PIXELS >> 20} "
            "million pixels. Mend its entry, or cut it into tiles."
        )
    name = entry["file_name"]
    if not isinstance(name, str) or not name or len(name) > MAX_NAME or not _is_text(name):
        raise _wrong(path, entry, "file_name", "the name of a file")
    for key in ("cell_type", "well"):
        value = entry.get(key)
        if value is not None and not _is_whole(value) and not (isinstance(value, str) and _is_text(value)):
            raise _wrong(path, entry, key, "text")
    position = entry.get("position", 0)
    if not _is_whole(position):
        raise _wrong(path, entry, "position", "a whole number")


def _is_whole(value: Any) -> bool:
    """Also 520.0, as some tools write, and no larger than what arithmetic with fractions can take."""
    if isinstance(value, float):
        return math.isfinite(value) and value.is_integer()
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text(value: str) -> bool:
    """Whether it can be encoded, printed and be part of a path: no half of a surrogate pair, no control character."""
    return value.isprintable() or not any(c < " " or c == "\x7f" or "\ud800" <= c <= "\udfff" for c in value)


def _wrong(path: Path, entry: dict[str, Any], key: str, wanted: str) -> DataError:
    # ascii: a terminal cannot show what may stand there.
    return DataError(f"{path}: {key} of an image should be {wanted}, found {ascii(entry[key])[:80]}: "
                     f"{ascii(entry)[:120]}")  # fmt: skip

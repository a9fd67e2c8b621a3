"""The JSON of a policy file: read within bounds, then its size, texts and numbers checked before its meaning is."""

from __future__ import annotations

import json
import math
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

from policy_search.cells.errors import PolicyError

MAX_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 100  # of lists and objects; 32 transforms deep are 64
_SHOWN = 80  # characters of a key or text of the file that an error repeats


def read_policy_json(file: Path, remedy: str) -> tuple[Any, bytes]:
    """The parsed content of a policy file, and its bytes.

    Args:
        file: to read.
        remedy: the last sentence of every error but the one for a missing file.

    Raises:
        FileNotFoundError: not there.
        PolicyError: cannot be read, too large, not JSON, or a key stands twice.
    """
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)  # not by the size that is said: a device says 0
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise PolicyError(f"cannot read policy file {file}: {reason}. {remedy}") from None
    if len(data) > MAX_BYTES:
        raise PolicyError(f"{file} is larger than {MAX_BYTES >> 20} MiB: this is not a policy file")
    try:
        return json.loads(data, object_pairs_hook=_object), data
    except _RepeatedKeyError as error:
        raise PolicyError(f"policy file {file}: key {error.args[0]} stands twice in one object. {remedy}") from None
    except (ValueError, RecursionError) as error:
        raise PolicyError(f"policy file {file} is damaged: not JSON ({error}). {remedy}") from None


class _RepeatedKeyError(Exception):
    """`json` alone would let the last one win."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _RepeatedKeyError(shown(Counter(key for key, _ in pairs).most_common(1)[0][0]))
    return found


def check_plain(value: Any, key: str, source: str, depth: int = 0) -> None:
    """Refuse what neither a terminal nor a file nor a transform can take, anywhere in a parsed file.

    Raises:
        PolicyError: nested too deeply, not finite or beyond 64 bits, or a text with control characters or halves of
            surrogate pairs.
    """
    if depth > MAX_DEPTH:
        raise PolicyError(f"{source}: nested more than {MAX_DEPTH} deep: this is not a policy file")
    if isinstance(value, float) and not math.isfinite(value):
        raise PolicyError(f"{source}: key {key}: {value} is not a finite number. Give a finite one.")
    if isinstance(value, int) and value.bit_length() > 63:
        raise PolicyError(f"{source}: key {key}: a number of {value.bit_length()} bits. Give one of up to 63.")
    if isinstance(value, str):
        _check_text(value, key, source)
    elif isinstance(value, dict):
        for name, inner in value.items():
            _check_text(name, key, source)
            check_plain(inner, f"{key}.{name[:_SHOWN]}" if key else name[:_SHOWN], source, depth + 1)
    elif isinstance(value, (list, tuple)):
        for index, inner in enumerate(value):
            check_plain(inner, f"{key}[{index}]", source, depth + 1)


def _check_text(text: str, key: str, source: str) -> None:
    if text.isprintable():
        return
    bad = next((c for c in text if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\r\t"), None)
    if bad is not None:
        place = f"key {key}: " if key else ""
        raise PolicyError(f"{source}: {place}a text with the character U+{ord(bad):04X}, which stands for nothing a "
                          "person can read. Remove it.")  # fmt: skip


def shown(value: Any) -> str:
    """A value of the file as an error repeats it: quoted, and cut where it is long."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def readable(name: str) -> str:
    """A file's name as a text: it may hold what no text may, bytes that are no UTF-8 or escape sequences."""
    return "".join(c if c.isprintable() else "_" for c in name)

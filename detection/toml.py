"""Configurations as TOML text, which people read and `tomllib` reads back."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel


def table(name: str, values: BaseModel) -> str:
    """A TOML table of a flat configuration, one `key = value` a line, in the order of its fields.

    TOML has no null: a value that is None stands in a comment.
    """
    lines = [f"[{name}]"]
    for key, value in values.model_dump(mode="json").items():
        lines.append(f"# {key}: none" if value is None else f"{key} = {_value(value)}")
    return "\n".join(lines)


def _value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_value(item) for item in value)}]"
    if isinstance(value, bool | int | str):
        return json.dumps(value, ensure_ascii=False)  # TOML's basic strings are JSON's
    if isinstance(value, float):
        return repr(value)  # 0.0001 and 1e-05 are TOML, too
    raise TypeError(f"no TOML for {type(value).__name__}")

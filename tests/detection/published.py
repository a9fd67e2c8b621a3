"""Published models as tests need them: LIVECell's list of weights, and timm's names beside ours."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

KEYS = Path(__file__).parent / "data" / "livecell_a172_keys.jsonl.gz"


def livecell_entries() -> list[dict[str, Any]]:
    """`name`, `shape`, `dtype` and `kind` of every entry of LIVECell's A172 model."""
    with gzip.open(KEYS, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]

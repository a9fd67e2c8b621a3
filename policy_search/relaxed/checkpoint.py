"""The state of a search as one file: written in one step, read without running code, refused where it does not fit."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from policy_search.cells.errors import InputError
from policy_search.cells.files import replacing
from policy_search.relaxed.search import Search, SearchSettings
from policy_search.relaxed.target import TargetSearch, TargetSettings

SCHEMA = 2
_REMEDY = "Choose another --out, or delete the folder to start over."


def save_checkpoint(path: Path, search: Search | TargetSearch, *, seed: int, fingerprint: str) -> None:
    """Replace the file by the search's state; whatever happens, the file is the old one or the new one.

    Args:
        path: of the file.
        search: between two steps.
        seed: that the search was made with.
        fingerprint: of its data.

    Raises:
        InputError: the disk is full, or the folder cannot be written; the old file is kept.
    """
    content = {
        "schema": SCHEMA,
        "seed": seed,
        "fingerprint": fingerprint,
        "settings": search.settings.model_dump(mode="json"),
        "state": search.state_dict(),
    }
    # Through memory: torch's own writer turns a full disk into an error that does not say so.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    try:
        with replacing(path, durable=True) as scratch:
            scratch.write_bytes(buffer.getbuffer())
    except OSError as error:
        kept = "the state before is kept" if path.exists() else "there is none before it"
        raise InputError(
            f"cannot write {path} at step {search.done}: {error.strerror or error}; {kept}. "
            "Make room there and repeat the command to go on."
        ) from error


def load_checkpoint(path: Path, search: Search | TargetSearch, *, seed: int, fingerprint: str) -> None:
    """Put a search back to where `save_checkpoint` was called.

    Args:
        path: of the file.
        search: freshly made with the same data, settings and seed.
        seed, fingerprint: as for `save_checkpoint`.

    Raises:
        InputError: the file is damaged or of another version, or of other settings, another seed or other data.
    """
    content = _read(path, search.device)
    if content.get("schema") != SCHEMA:
        raise InputError(f"{path} has schema {content.get('schema')!r}, this version reads {SCHEMA}. {_REMEDY}")
    differs = _difference(content, search.settings, seed, fingerprint)
    if differs:
        raise InputError(f"{path} is of another search ({differs}). {_REMEDY}")
    try:
        search.load_state_dict(content["state"])
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        text = " ".join(str(error).split())[:200]
        raise InputError(f"{path} was written by another version of this program ({text}). {_REMEDY}") from error


def _read(path: Path, device: torch.device) -> dict[str, Any]:
    try:
        # torch.load does not compare the checksums that its files carry.
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
        if broken is not None:
            raise InputError(f"{path} is damaged: the checksum of its part {broken} is wrong. {_REMEDY}")
        content = torch.load(path, map_location=device, weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        if isinstance(error, InputError):
            raise
        text = " ".join(str(error).split())[:100]
        raise InputError(f"{path} is damaged or not a checkpoint ({text}). {_REMEDY}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is not a checkpoint: expected a mapping, found {type(content).__name__}. {_REMEDY}")
    return content


def _difference(
    content: dict[str, Any], settings: SearchSettings | TargetSettings, seed: int, fingerprint: str
) -> str | None:
    """What the file and the search do not have in common, the first of it; None where they agree."""
    if content.get("seed") != seed:
        return f"seed was {content.get('seed')!r}, now {seed}"
    if content.get("fingerprint") != fingerprint:
        return "the data has changed"
    found, wanted = content.get("settings") or {}, settings.model_dump(mode="json")
    for name in sorted({*found, *wanted}):
        if found.get(name) != wanted.get(name):
            return f"{name} was {found.get(name)!r}, now {wanted.get(name)!r}"
    return None

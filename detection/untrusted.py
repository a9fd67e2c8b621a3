"""Weights files of unknown origin, read without running anything in them."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from policy_search.cells.errors import InputError

# Beside tensors, published files hold numpy numbers and arrays (scores, learning rates, older weights). These rebuild
# them and can do nothing else; numpy moved its own, so each has the old name, too.
_REBUILD = (np._core.multiarray.scalar, np._core.multiarray._reconstruct)
_SAFE: list[Any] = [np.ndarray, np.dtype]
_SAFE += [(function, f"{module}.{function.__name__}") for function in _REBUILD
          for module in ("numpy.core.multiarray", "numpy._core.multiarray")]  # fmt: skip
_SAFE += [type(np.dtype(code)) for code in "?bBhHiIlLqQefd"]

# The structure beside the tensors; that of the published models is below 1 MB.
_MAX_STRUCTURE = 64 << 20


def read_untrusted(path: str | Path) -> Any:
    """What is in a file of `torch.save`: tensors (CPU, mapped from the file where it can be), numbers, text, and
    containers of them.

    Raises:
        InputError: no such file; a download that went wrong; a file that needs code to run; anything else.
    """
    source = Path(path)
    if not source.is_file():
        raise InputError(f"no weights at {source}")
    with source.open("rb") as file:
        head = file.read(256)
    zipped = head.startswith(b"PK\x03\x04")
    if zipped:
        _check_archive(source)
    elif fault := _fault(head):
        raise InputError(f"{source} {fault}")
    try:
        with torch.serialization.safe_globals(_SAFE), warnings.catch_warnings():
            # Of protocols it may not know everything of; where that matters it raises.
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            return torch.load(source, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        if "GLOBAL" in str(error):
            raise InputError(
                f"{source} is not a weights file: it holds more than tensors and numbers, and to read it would run its "
                "author's code, which is never done: take a plain state dict, or fetch it again if it was cut off."
            ) from error
        raise InputError(_damaged(source, error)) from error
    except Exception as error:  # a hostile or broken file may fail anywhere in torch or numpy
        raise InputError(_damaged(source, error)) from error


def _fault(head: bytes) -> str | None:
    if not head:
        return "is empty: download it again."
    if head.lstrip()[:1] == b"<":
        return "is a web page, not weights: the download went wrong, fetch it again."
    if head.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not weights: fetch the file itself (git lfs pull)."
    if head[8:10] == b'{"':
        return "is a safetensors file: load it with safetensors and torch.save its tensors, then name that file."
    # Pickles, as torch wrote before 1.6, begin with their protocol.
    return None if head[:1] == b"\x80" else "is not a weights file: expected one written by torch.save."


def _check_archive(source: Path) -> None:
    """torch stores tensors as they are; anything compressed could unfold without bound."""
    try:
        with zipfile.ZipFile(source) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise InputError(f"{source} is cut off or damaged: download it again") from error
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or (
        sum(entry.file_size for entry in entries) > source.stat().st_size
    ):
        raise InputError(f"{source} is compressed, which torch.save never does: it is not unpacked")
    if any(entry.file_size > _MAX_STRUCTURE for entry in entries if entry.filename.endswith(".pkl")):
        raise InputError(f"{source} has a table of contents above {_MAX_STRUCTURE >> 20} MB: it is not read")


def _damaged(source: Path, error: Exception) -> str:
    return f"{source} is not a weights file of torch.save, or it is damaged ({type(error).__name__}): fetch it again"

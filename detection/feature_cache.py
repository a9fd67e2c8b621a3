"""Tensors on disk under a key: checked when read, bounded in bytes, shared by several processes."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from policy_search.cells.errors import InputError
from policy_search.cells.files import replacing, require_writable_folder

Tensors = dict[str, torch.Tensor]
SUFFIX = ".features"
MAGIC = b"features 1\n"
_DIGEST = hashlib.sha256().digest_size
_ALIGNED = 64
_DTYPES = {str(dtype): dtype for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64)}
# Seconds: file systems stamp files by a coarser clock than the processor's.
_CLOCK = 1
# Seconds after which a file that somebody began to write is taken for abandoned.
_ABANDONED = 3600


class CacheStats(NamedTuple):
    """Look-ups that were answered and that were not, results that were not kept, and bytes on disk now."""

    hits: int
    misses: int
    refused: int
    bytes: int


class FeatureCache:
    """A folder of tensors. Several processes may use one folder; nothing but its `*.features` files is touched.

    When a new entry would not fit, the least recently used ones of earlier runs go first. Entries that were used since
    this run began stay and the new one is not kept: every epoch visits all images equally often, so throwing one out
    for another gains nothing, and in the worst case everything is thrown out just before it is needed.

    Args:
        folder: made when it is missing.
        limit_bytes: what the files may take together.
        say: called with a sentence about a damaged file, a full disk or a full cache.

    Raises:
        InputError: the limit is not positive, or the folder cannot be written.
    """

    def __init__(self, folder: str | Path, limit_bytes: int, say: Callable[[str], None] = lambda _: None) -> None:
        if limit_bytes < 1:
            raise InputError(f"the feature cache needs a limit of at least one byte, got {limit_bytes}")
        self.folder = require_writable_folder(folder, "--cache")
        self.limit_bytes, self._say = limit_bytes, say
        self._since = time.time() - _CLOCK
        self._hits = self._misses = self._refused = 0
        self._full_said = self._broken = False

    def stats(self) -> CacheStats:
        """What has happened since this object was made."""
        return CacheStats(self._hits, self._misses, self._refused, sum(size for _, size, _ in self._entries()))

    def load(self, key: str) -> Tensors | None:
        """What was stored under `key`, on the CPU, bit by bit; None if it is not there or damaged."""
        path = self._path(key)
        try:
            with path.open("rb") as file:
                content = bytearray(os.fstat(file.fileno()).st_size)
                file.readinto(content)
            os.utime(path)
        except FileNotFoundError:  # never stored, or thrown out by another process
            content = None
        except OSError as error:
            self._say(f"features in {path} cannot be read ({error.strerror or error}) and are computed again")
            content = None
        found = None
        if content is not None:
            found = _decode(content, key)
            if found is None:
                self._say(f"features in {path} are damaged and are computed again")
                path.unlink(missing_ok=True)
        self._hits += found is not None
        self._misses += found is None
        return found

    def store(self, key: str, tensors: Tensors) -> None:
        """Keep `tensors` if there is room. A disk that is full or broken ends storing, not the run."""
        if self._broken:
            self._refused += 1
            return
        content = _encode(tensors, key)
        try:
            if not self._make_room(len(content)):
                self._refuse_full()
                return
            with replacing(self._path(key)) as scratch:
                scratch.write_bytes(content)
            # Another process may have filled the same room meanwhile: who is over the limit takes back its own.
            if not self._make_room(0):
                self._path(key).unlink(missing_ok=True)
                self._refuse_full()
        except (OSError, InputError) as error:
            self._refused += 1
            self._broken = True
            self._say(f"the feature cache keeps nothing more, training goes on without: {error}")

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{SUFFIX}"

    def _refuse_full(self) -> None:
        self._refused += 1
        if not self._full_said:
            self._full_said = True
            self._say(f"the feature cache in {self.folder} has reached its limit of {self.limit_bytes} bytes")

    def _entries(self) -> list[tuple[float, int, Path]]:
        """(last use, bytes, path) of every file, half-written ones too, least recently used first."""
        found = []
        for entry in os.scandir(self.folder):
            if not entry.name.endswith(SUFFIX):
                continue
            try:
                status = entry.stat()
                if entry.name.startswith(".") and time.time() - status.st_mtime > _ABANDONED:
                    os.unlink(entry.path)
                    continue
            except FileNotFoundError:
                continue
            found.append((status.st_mtime, status.st_size, Path(entry.path)))
        return sorted(found)

    def _make_room(self, wanted: int) -> bool:
        """Throw out old entries until `wanted` more bytes fit; False if they cannot, and then nothing is thrown out."""
        entries = self._entries()
        excess = sum(size for _, size, _ in entries) + wanted - self.limit_bytes
        old = [(size, path) for used, size, path in entries if used < self._since and not path.name.startswith(".")]
        if sum(size for size, _ in old) < excess:
            return False
        for size, path in old:
            if excess <= 0:
                break
            path.unlink(missing_ok=True)
            excess -= size
        return True


def _encode(tensors: Tensors, key: str) -> bytearray:
    """Magic, a line of JSON, the tensors in memory order, and a digest over all of it."""
    described: list[dict[str, Any]] = []
    parts = []
    for name, tensor in tensors.items():
        last = is_channels_last(tensor)
        ordered = tensor.detach().cpu().permute(0, 2, 3, 1) if last else tensor.detach().cpu()
        described.append({"name": name, "shape": list(ordered.shape), "dtype": str(tensor.dtype), "last": last})
        parts.append(ordered.contiguous().reshape(-1).view(torch.uint8).numpy())
    head = MAGIC + json.dumps({"key": key, "tensors": described}).encode()
    head += b" " * (-(len(head) + 1) % _ALIGNED) + b"\n"
    content = bytearray(head)
    for part in parts:
        content += part.data
    content += hashlib.sha256(content).digest()
    return content


def _decode(content: bytearray, key: str) -> Tensors | None:
    """The tensors of `_encode`, or None if a single bit is not as it was written under that key."""
    body = memoryview(content)[:-_DIGEST]
    if not content.startswith(MAGIC) or hashlib.sha256(body).digest() != content[-_DIGEST:]:
        return None
    start = content.index(b"\n", len(MAGIC)) + 1
    head = json.loads(content[len(MAGIC) : start])
    if head["key"] != key:
        return None
    tensors = {}
    for entry in head["tensors"]:
        dtype, count = _DTYPES[entry["dtype"]], math.prod(entry["shape"])
        values = torch.frombuffer(content, dtype=dtype, count=count, offset=start).reshape(entry["shape"])
        tensors[entry["name"]] = values.permute(0, 3, 1, 2) if entry["last"] else values
        start += count * dtype.itemsize
    return tensors


def is_channels_last(tensor: torch.Tensor) -> bool:
    """Whether channels are next to each other in memory, and not merely because there is one of something."""
    return (
        tensor.ndim == 4
        and tensor.is_contiguous(memory_format=torch.channels_last)
        and not tensor.is_contiguous(memory_format=torch.contiguous_format)
    )

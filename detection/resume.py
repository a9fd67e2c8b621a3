"""The state of an unfinished training on disk: written in one step, checked when read, refused when it is another's.

With weights, optimiser, gradient scaler and the number of the iteration a training goes on exactly as if it had never
stopped: random numbers are made anew for every iteration from (seed, iteration, rank) and need no memory.
"""

from __future__ import annotations

import json
import pickle
import time
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from policy_search.cells.errors import InputError
from policy_search.cells.files import clear_scratch, replacing

NAME = "state.pth"
FORMAT = 1
Identity = dict[str, Any]


class Standing(NamedTuple):
    """How far a training is.

    Attributes:
        iteration: iterations done.
        best_ap50, best_iteration: of the best validation so far; None and 0 before the first.
        stale: validations since then.
        stopped: no further iteration is wanted, because validation has not improved for long enough.
    """

    iteration: int = 0
    best_ap50: float | None = None
    best_iteration: int = 0
    stale: int = 0
    stopped: bool = False


class StateFile:
    """The state of one training in its folder.

    Args:
        folder: of the run.
        identity: everything that the course of the training depends on, JSON-able and flat. A state with another
            identity belongs to another training.
        every: seconds between two writings.
    """

    def __init__(self, folder: str | Path, identity: Identity, every: float) -> None:
        self.path = Path(folder) / NAME
        self.identity: Identity = json.loads(json.dumps(identity, allow_nan=False))  # as it will be read back
        self.every = every
        self._written = time.monotonic()

    def check(self) -> int:
        """Iterations done by the state on disk, 0 if there is none.

        Raises:
            InputError: it is damaged, or of another training.
        """
        return int(self._read(mmap=True)["standing"]["iteration"]) if self.path.is_file() else 0

    def forget(self) -> None:
        """Remove the state on disk if it is this training's; another's or a damaged one stays."""
        try:
            self.check()
        except InputError:
            return
        self.remove()

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler) -> Standing:
        """Put the state on disk into all three; without one they stay as they are.

        Raises:
            InputError: see `check`.
        """
        if not self.path.is_file():
            return Standing()
        content = self._read()
        model.load_state_dict(content["model"])
        optimizer.load_state_dict(content["optimizer"])
        scaler.load_state_dict(content["scaler"])
        return Standing(**content["standing"])

    def due(self) -> bool:
        """Whether it is time for the next writing."""
        return time.monotonic() - self._written >= self.every

    def save(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, standing: Standing
    ) -> None:
        """Replace the state on disk. A kill or a power cut leaves the old one or the new one, whole."""
        content = {
            "format": FORMAT,
            "identity": json.dumps(self.identity, allow_nan=False),
            "standing": standing._asdict(),
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scaler": scaler.state_dict(),
        }
        clear_scratch(self.path)
        with replacing(self.path, durable=True) as scratch:
            torch.save(content, scratch)
        self._written = time.monotonic()

    def remove(self) -> None:
        """The training is over, or to start anew."""
        self.path.unlink(missing_ok=True)
        clear_scratch(self.path)

    def _read(self, *, mmap: bool = False) -> dict[str, Any]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                damaged = archive.testzip()  # torch reads past a flipped bit
            if damaged is not None:
                raise zipfile.BadZipFile(damaged)
            content: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True, mmap=mmap)
            if content["format"] != FORMAT:
                raise KeyError("format")
            before = json.loads(content["identity"])
            Standing(**content["standing"])
        except (OSError, RuntimeError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile,
                pickle.UnpicklingError, NotImplementedError) as error:  # fmt: skip
            raise InputError(
                f"{self.path}, the state of an unfinished training, is damaged ({type(error).__name__}): start anew "
                "with --force, or choose another folder with --out"
            ) from error
        differences = different(before, self.identity)
        if differences:
            raise InputError(
                f"{self.path} is the state of another training: {'; '.join(differences)}. Repeat its command to finish "
                "it, start anew with --force, or choose another folder with --out"
            )
        return content


def different(before: Identity, now: Identity) -> list[str]:
    """What differs between two identities, one phrase each."""

    def shown(identity: Identity, name: str) -> str:
        return json.dumps(identity[name]) if name in identity else "unset"

    return [
        f"{name} was {shown(before, name)} and is {shown(now, name)}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]

"""One training in several processes, seen from inside one of them: its number, its share, and what all agree on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from detectron2.utils import comm
from torch import nn

from detection.dataset import Crops, Drawn


class Share(Sequence[Drawn]):
    """The crops of one rank from iteration `start` on: consecutive parts of every batch, in the order of the ranks.

    Args:
        crops: of all ranks, `batch` an iteration.
        batch: a multiple of `size`.
    """

    def __init__(self, crops: Crops, batch: int, *, start: int = 0, rank: int = 0, size: int = 1) -> None:
        if batch % size:
            raise ValueError(f"a batch of {batch} cannot be shared by {size} processes")
        self.crops = crops
        own = batch // size
        self._positions = [
            position
            for first in range(start * batch, len(crops), batch)
            for position in range(first + rank * own, min(first + (rank + 1) * own, len(crops)))
        ]

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, index: int) -> Drawn:  # type: ignore[override]
        return self.crops[self._positions[index]]


def rank() -> int:
    """0 in the process that writes, and where there is only one."""
    return comm.get_rank()


def size() -> int:
    """Processes that train together."""
    return comm.get_world_size()


def shared(model: nn.Module) -> nn.Module:
    """`model` such that each backward pass gives the mean of all ranks' gradients.

    Running statistics of batch normalisation are those of rank 0, which it hands to the others before each iteration.
    """
    if size() == 1:
        return model
    device = next(model.parameters()).device
    return nn.parallel.DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)


def mean(values: dict[str, float], device: torch.device) -> dict[str, float]:
    """Each value as its mean over the ranks. Every rank must call this with the same names."""
    if size() == 1:
        return values
    # float64 keeps what a single process would show.
    tensor = torch.tensor(list(values.values()), dtype=torch.float64, device=device)
    dist.all_reduce(tensor)
    return dict(zip(values, (tensor / size()).tolist(), strict=True))


def same_buffers(model: nn.Module) -> None:
    """Give every rank the buffers of rank 0: after the last iteration they differ."""
    if size() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)


def from_first(value: Any) -> Any:
    """Rank 0's value in every rank; the others wait for it however long it takes."""
    if size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, 0)
    return box[0]

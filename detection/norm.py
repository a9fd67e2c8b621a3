"""Which module normalises: batch statistics over all processes where that is possible, else over the own one."""

from __future__ import annotations

from collections.abc import Callable

from torch import distributed, nn

from detection.network import Norm


def norm_of(name: Norm | None) -> Callable[[int], nn.Module] | str:
    """What detectron2's constructors take as `norm`; "" is none.

    `SyncBN` needs several CUDA processes: torch's module refuses gloo, and with one process there is nothing to
    share. Both kinds of batch normalisation have the same state, so weights pass freely between them.
    """
    if name is None:
        return ""
    if name == "GN":
        return "GN"
    return nn.SyncBatchNorm if name == "SyncBN" and _several_cuda_processes() else nn.BatchNorm2d


def _several_cuda_processes() -> bool:
    if not (distributed.is_available() and distributed.is_initialized()):
        return False
    return distributed.get_world_size() > 1 and "nccl" in distributed.get_backend()

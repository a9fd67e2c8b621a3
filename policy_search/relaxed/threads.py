"""One thread for PyTorch, so that a run repeats on any number of cores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums differ in the last bits with the number of threads, and training amplifies that: one thread makes a run
    repeat on any number of cores. The networks are too small to gain from more (and lose much on a busy machine)."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)

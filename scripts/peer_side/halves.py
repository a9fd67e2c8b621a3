"""A loader for the peer's configuration that gives its search a target; runs in the peer's Python 3.8.

The peer's training step augments the first half of a batch and shows the second half to its critic as real. Both come
from one data set in random order. This loader takes the data set's first half as the source and its second half as the
target, and puts them in those places. `data.dataloader._target_: halves.Halves` names it.
"""

import torch
from torch.utils.data import DataLoader, Sampler


class InHalves(Sampler):
    """Indices in which every `batch` consecutive ones are source in the first half and target in the second."""

    def __init__(self, count, batch):
        self.each, self.half = count // 2, batch // 2

    def __iter__(self):
        source = torch.randperm(self.each).tolist()
        target = (torch.randperm(self.each) + self.each).tolist()
        for start in range(0, self.each - self.half + 1, self.half):
            yield from source[start : start + self.half]
            yield from target[start : start + self.half]

    def __len__(self):
        return self.each // self.half * 2 * self.half


class Halves(DataLoader):
    """A DataLoader in that order, whatever `shuffle` says."""

    def __init__(self, dataset, batch_size, shuffle=False, **options):
        super().__init__(dataset, batch_size=batch_size, sampler=InHalves(len(dataset), batch_size), **options)

"""What the data is: cell types, datasets, instances. numpy only; never torch, optuna or albumentations."""

from policy_search.cells.dataset import CellDataset, ImageRecord, Sample
from policy_search.cells.errors import DataError
from policy_search.cells.instances import Instance, InstanceMap
from policy_search.cells.sources import resolve
from policy_search.cells.types import CELL_TYPES, CellType, cell_type

__all__ = [
    "CELL_TYPES",
    "CellDataset",
    "CellType",
    "DataError",
    "ImageRecord",
    "Instance",
    "InstanceMap",
    "Sample",
    "cell_type",
    "resolve",
]

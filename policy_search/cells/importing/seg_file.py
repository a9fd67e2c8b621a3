"""Cellpose's `X_seg.npy`: a pickled dictionary, read without running what a pickle may ask to be run."""

from __future__ import annotations

import pathlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policy_search.cells.errors import DataError

# All that numpy's own pickles of arrays, dtypes and scalars name, under the module paths of numpy 1 and 2.
_NUMPY = {"_reconstruct", "scalar", "_frombuffer", "ndarray", "dtype"}
_NUMPY_MODULES = {
    "numpy", "numpy.core.multiarray", "numpy._core.multiarray", "numpy.core.numeric", "numpy._core.numeric",
}  # fmt: skip
# The paths of other systems cannot be made here; their text can.
_PATHS = {
    "PosixPath": pathlib.PurePosixPath, "PurePosixPath": pathlib.PurePosixPath,
    "WindowsPath": pathlib.PureWindowsPath, "PureWindowsPath": pathlib.PureWindowsPath,
}  # fmt: skip


class _PlainUnpickler(pickle.Unpickler):
    """Knows numpy arrays, paths and Python's plain types; everything else is refused before it is looked up."""

    def find_class(self, module: str, name: str) -> Any:
        if module in _NUMPY_MODULES and name in _NUMPY:
            return super().find_class(module, name)
        if module in ("pathlib", "pathlib._local") and name in _PATHS:
            return _PATHS[name]
        if (module, name) == ("_codecs", "encode"):  # how protocol 2 writes bytes
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def read_seg_masks(path: Path) -> NDArray[Any]:
    """`masks` of a `_seg.npy` file: (H, W) or (Z, H, W), one value per cell, 0 background.

    Raises:
        DataError: missing, damaged, without masks, or its pickle asks for more than arrays and plain types.
    """
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            _, _, dtype = read(file)
            content = _PlainUnpickler(file).load() if dtype.hasobject else None
    except FileNotFoundError:
        raise DataError(f"label file is missing: {path}") from None
    except Exception as error:  # a damaged pickle raises anything
        raise DataError(
            f"label file cannot be read: {path} ({error}). Only arrays and plain values are taken from cellpose's "
            "files; save the masks as TIFF or PNG instead."
        ) from error
    values = content.item() if isinstance(content, np.ndarray) and content.shape == () else None
    masks = values.get("masks") if isinstance(values, dict) else None
    if not isinstance(masks, np.ndarray):
        raise DataError(f"label file {path} holds no masks: expected cellpose's dictionary with the key 'masks'")
    return masks

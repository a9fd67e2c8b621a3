"""What must hold of `data import` for every label image and every COCO file: all cells are written, or counted, or a
sentence and nothing written; and the label images to damage."""

from __future__ import annotations

import io
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from policy_search.cells.errors import InputError
from policy_search.cells.sources import resolve
from policy_search.cli import app
from tests.fuzz.annotations import write_pictures
from tests.fuzz.pictures import tiff
from tests.fuzz.sentences import check_sentence

LABELS = np.zeros((20, 24), np.uint16)
for _number in range(6):
    _y, _x = 10 * (_number // 3) + 1, 8 * (_number % 3) + 1
    LABELS[_y : _y + 7, _x : _x + 6] = 100 * _number + 1


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _seg(masks: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, {"masks": masks, "outlines": masks, "filename": "x.png"}, allow_pickle=True)  # type: ignore[arg-type]
    return buffer.getvalue()


# By the endings that tell what belongs to the image cells.png.
CORPUS: dict[str, bytes] = {
    "cells_masks.tif": tiff(LABELS),
    "cells_masks.png": _png(LABELS),
    "cells_labels.tif": tiff(LABELS.astype(np.float32)),
    "cells_label.tif": tiff(LABELS.astype(np.uint32), compression="zlib"),
    "cells_seg.npy": _seg(LABELS),
    "cells_mask.tif": tiff(LABELS.astype(np.float64)),
}


def check_labels(path: Path) -> int | None:
    """Import a folder with one image and these labels. The cells written, None where it is refused."""
    folder = path.parent / "labelled"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    Image.fromarray(LABELS.astype(np.uint8)).save(folder / "cells.png")
    shutil.copy(path, folder)
    return _imported(folder)


def check_coco(path: Path) -> int | None:
    """Import a folder with the images of `annotations` and this COCO file."""
    folder = path.parent / "foreign"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    write_pictures(folder)
    shutil.copy(path, folder)
    return _imported(folder)


def _imported(folder: Path) -> int | None:
    out = folder.parent / "imported.json"
    out.unlink(missing_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ran = CliRunner().invoke(app, ["data", "import", str(folder), "--out", str(out)])
    if isinstance(ran.exception, InputError):
        check_sentence(ran.exception)
        assert not out.exists()
        return None
    assert ran.exception is None, ran.exception
    came, went, lost = (_cells(ran.stdout, word) for word in ("in:", "out:", "left out:"))
    assert came == went + lost, ran.stdout
    dataset = resolve(str(out), "train")
    found = sum(len(dataset.instances(record)) for record in dataset)
    assert found == went
    return found


def _cells(text: str, word: str) -> int:
    match = re.search(rf"^{word} .*?([\d,]+) cells?", text, re.MULTILINE)
    return int(match[1].replace(",", "")) if match else 0

"""Label images of every kind are read as they were written, or refused with a sentence."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from policy_search.cells.errors import DataError
from policy_search.cells.importing.label_file import read_labels
from policy_search.cells.importing.pairing import pair
from policy_search.cells.planes import Plane

LABELS = np.zeros((24, 32), np.int64)
LABELS[2:6, 3:9], LABELS[6:9, 3:9], LABELS[12:20, 20:30] = 1, 2, 200


@pytest.mark.parametrize("kind", ["uint8", "uint16", "uint32", "int32", "float32", "int64", "float64"])
@pytest.mark.parametrize("how", [{}, {"compression": "zlib"}])
def test_tiff_of_any_width(tmp_path, kind, how):
    labels = LABELS * (1 if kind == "uint8" else 300 if "16" in kind else 70_001)
    tifffile.imwrite(tmp_path / "a.tif", labels.astype(kind), **how)
    assert np.array_equal(read_labels(tmp_path / "a.tif"), labels)


def test_png_and_lzw(tmp_path):
    Image.fromarray(LABELS.astype(np.uint8)).save(tmp_path / "grey.png")
    Image.fromarray((LABELS * 300).astype(np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray((LABELS * 300).astype(np.uint16)).save(tmp_path / "lzw.tif", compression="tiff_lzw")
    palette = Image.fromarray(LABELS.astype(np.uint8), mode="P")
    palette.putpalette(np.random.default_rng(0).integers(0, 255, 768).tolist())
    palette.save(tmp_path / "palette.png")
    Image.fromarray(np.stack([LABELS.astype(np.uint8)] * 3, -1)).save(tmp_path / "equal.png")
    for name, factor in (("grey.png", 1), ("deep.png", 300), ("lzw.tif", 300), ("palette.png", 1), ("equal.png", 1)):
        assert np.array_equal(read_labels(tmp_path / name), LABELS * factor), name


def test_the_plane_counts_where_labels_have_planes(tmp_path):
    tifffile.imwrite(tmp_path / "one.tif", LABELS.astype(np.uint16))
    tifffile.imwrite(tmp_path / "two.tif", np.stack([LABELS, LABELS.T.reshape(24, 32)]).astype(np.uint16))
    plane = Plane(page=2, channel=3)
    assert np.array_equal(read_labels(tmp_path / "one.tif", plane), LABELS)
    assert np.array_equal(read_labels(tmp_path / "two.tif", plane), LABELS.T.reshape(24, 32))
    with pytest.raises(DataError, match="--page"):
        read_labels(tmp_path / "two.tif")


def test_what_is_no_label_image(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, (LABELS - 1).astype(np.int16))
    with pytest.raises(DataError, match=r"negative values \(-1\)"):
        read_labels(path)
    tifffile.imwrite(path, (LABELS + 0.5).astype(np.float32))
    with pytest.raises(DataError, match="fractions"):
        read_labels(path)
    colour = np.stack([LABELS, LABELS.T.reshape(24, 32), LABELS], -1).astype(np.uint8)
    Image.fromarray(colour).save(tmp_path / "colour.png")
    with pytest.raises(DataError, match="one value per pixel"):
        read_labels(tmp_path / "colour.png")
    (tmp_path / "cut.tif").write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match="is damaged"):
        read_labels(tmp_path / "cut.tif")


def test_cellpose_seg_files(tmp_path):
    content = {
        "filename": tmp_path / "a.tif", "masks": LABELS.astype(np.uint16), "outlines": LABELS * 0,
        "flows": [np.zeros((2, 3)), [np.float32(1)]], "ismanual": np.zeros(3, bool), "diameter": np.float64(30.0),
    }  # fmt: skip
    np.save(tmp_path / "a_seg.npy", content, allow_pickle=True)
    assert np.array_equal(read_labels(tmp_path / "a_seg.npy"), LABELS)
    np.save(tmp_path / "z_seg.npy", {"masks": np.stack([LABELS, LABELS * 2])}, allow_pickle=True)
    assert np.array_equal(read_labels(tmp_path / "z_seg.npy", Plane(page=2)), LABELS * 2)
    np.save(tmp_path / "none_seg.npy", {"outlines": LABELS}, allow_pickle=True)
    with pytest.raises(DataError, match="holds no masks"):
        read_labels(tmp_path / "none_seg.npy")


class Runs:
    """Makes a file when unpickled by a reader that trusts it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_seg_file_runs_nothing(tmp_path, protocol):
    header = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '|O', 'fortran_order': False, 'shape': (), }".ljust(117) + b"\n"
    path = tmp_path / "a_seg.npy"
    path.write_bytes(header + pickle.dumps(np.array({"masks": LABELS}, dtype=object), protocol=protocol))
    assert np.array_equal(read_labels(path), LABELS)
    trap = {"masks": LABELS, "x": Runs(tmp_path / "made")}
    path.write_bytes(header + pickle.dumps(np.array(trap, dtype=object), protocol=protocol))
    with pytest.raises(DataError, match=r"asks for (posix|nt)"):
        read_labels(path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("x.tif", "x_cp_masks.png"), ("x.tif", "x_masks.tif"), ("x.tif", "x_seg.npy"), ("x_img.tif", "x_masks.tif"),
        ("x_img.png", "x_label.png"), ("images/x.jpg", "masks/x.png"), ("a/images/x.tif", "a/labels/x.tif"),
        ("images/a/x.tif", "labels/a/x.tif"), ("a/x.tif", "a/masks/x_mask.tif"), ("x.tif", "masks/x.png"),
        ("images/x.tif", "images/x_seg.npy"), ("01/t003.tif", "01_GT/SEG/man_seg003.tif"), ("ä b.tif", "ä b_masks.tif"),
    ],
)  # fmt: skip
def test_names_that_belong_together(image, label):
    found = pair([image, label, "other/x.tif", "x.txt"])
    assert found.labels == {image: (label,), "other/x.tif": ()}
    assert found.without_image == ()


def test_names_that_do_not():
    found = pair(
        ["a.tif", "b_masks.tif", "a_flows.tif", "c.tif", "c_seg.npy", "c_cp_masks.png", "01_GT/TRA/man_track0.tif"]
    )
    assert {name: set(labels) for name, labels in found.labels.items()} == {
        "a.tif": set(), "c.tif": {"c_seg.npy", "c_cp_masks.png"},
    }  # fmt: skip
    assert found.without_image == ("b_masks.tif",)
    assert set(found.by_products) == {"a_flows.tif", "01_GT/TRA/man_track0.tif"}


def test_patterns_settle_what_names_do_not():
    names = ["raw/1.tif", "raw/2.tif", "seg/1_id.png", "seg/2_id.png", "seg/2_old.png"]
    found = pair(names, "raw/*.tif", "seg/*_id.png")
    assert found.labels == {"raw/1.tif": ("seg/1_id.png",), "raw/2.tif": ("seg/2_id.png",)}
    found = pair(["c.tif", "c_seg.npy", "c_cp_masks.png"], None, "*_seg.npy")
    assert found.labels == {"c.tif": ("c_seg.npy",)}
    with pytest.raises(ValueError, match="as many wildcards"):
        pair(names, "raw/*.tif", "**/*_id.png")
    with pytest.raises(ValueError, match=r"--labels no\*"):
        pair(names, None, "no*")

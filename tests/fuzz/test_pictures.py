"""Damaged image files: each gives 8-bit pixels or a sentence, in silence; undamaged ones give their picture."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from policy_search.cells.errors import DataError
from policy_search.cells.images import read_image
from tests.fuzz.pictures import COLOUR, CORPUS, GREY, check_picture
from tests.fuzz.targets import FIXED, TARGETS, run

REFUSED = {"nan.tif", "double.tif", "planes.tif", "pages.tif"}
# Compression with losses, few colours, another gamut: their own tolerance, or none.
MEAN_ERROR = {
    "grey.jpg": 20, "colour.jpg": 50, "jpeg.tif": 10, "cmyk.jpg": 50, "palette.png": 20, "palette.bmp": 20,
    "palette.gif": 20, "lab.tif": 3, "bits.png": 130, "group4.tif": 130,
}  # fmt: skip


@pytest.mark.parametrize("name", CORPUS)
def test_the_corpus_itself_is_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(CORPUS[name])
    pixels = check_picture(tmp_path / name)
    if name in REFUSED:
        assert pixels is None
        return
    wanted = (GREY if pixels.ndim == 2 else COLOUR).astype(float)
    deep = any(word in name for word in ("deep", "signed", "float", "wide", "narrow"))
    if deep:
        low, high = np.percentile(wanted, [0.1, 99.9])
        wanted = np.clip((wanted - low) / (high - low), 0, 1) * 255
    assert np.abs(pixels - wanted).mean() <= MEAN_ERROR.get(name, 0.51 if deep else 0)


def test_a_damaged_image_is_an_image_or_an_error(tmp_path: Path) -> None:
    run(TARGETS["pictures"], tmp_path, settings(FIXED, max_examples=400))


@pytest.mark.parametrize("name", ["grey.png", "deep_colour.tif", "lzw.tif"])
def test_an_image_cut_off_anywhere_is_an_image_or_an_error(tmp_path: Path, name: str) -> None:
    for size in range(0, len(CORPUS[name]), 3):
        (tmp_path / name).write_bytes(CORPUS[name][:size])
        check_picture(tmp_path / name)


def test_a_header_that_claims_gigabytes_is_refused_before_they_are_taken(tmp_path: Path) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    (tmp_path / "bomb.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )
    with pytest.raises(DataError, match=r"bomb\.png is too large to be worked on whole.*cut into tiles"):
        read_image(tmp_path / "bomb.png")

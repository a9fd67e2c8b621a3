"""Run-length codes against pycocotools: the same pixels for every sound code, an error for every damaged one."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from policy_search.cells import DataError, Instance, InstanceMap
from policy_search.cells.rle import pixels_of

HEIGHT, WIDTH = 37, 23


def code(mask: np.ndarray) -> dict:
    return coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))


def reference_layers(rles: list, height: int, width: int) -> np.ndarray:
    """First fit over the full-frame masks of pycocotools."""
    layers: list[np.ndarray] = []
    for number, rle in enumerate(rles, start=1):
        mask = coco_mask.decode(rle).astype(bool)
        if not mask.any():
            continue
        layer = next((each for each in layers if not each[mask].any()), None)
        if layer is None:
            layer = np.zeros((height, width), np.uint16)
            layers.append(layer)
        layer[mask] = number
    return np.stack(layers) if layers else np.zeros((0, height, width), np.uint16)


def random_masks(rng: np.random.Generator, count: int, height: int, width: int) -> list[np.ndarray]:
    """Specks, boxes, stripes over column borders, noise of any density, full and empty frames, single pixels."""
    masks = []
    for _ in range(count):
        mask = np.zeros((height, width), bool)
        kind = rng.integers(7)
        y, x = rng.integers(height), rng.integers(width)
        if kind == 0:
            mask[y, x] = True
        elif kind == 1:
            mask[y : y + rng.integers(1, 9), x : x + rng.integers(1, 9)] = True
        elif kind == 2:
            flat = mask.ravel(order="F")
            start = rng.integers(flat.size)
            flat[start : start + rng.integers(1, 3 * height)] = True
            mask = flat.reshape((height, width), order="F")
        elif kind == 3:
            mask = rng.random((height, width)) < rng.random()
        elif kind == 4:
            mask[:] = True
        elif kind == 5:
            mask[:, x] = True
        masks.append(mask)
    return masks


@pytest.mark.parametrize(("height", "width", "count"), [(37, 23, 1500), (1, 19, 300), (19, 1, 300), (64, 64, 500)])
def test_layers_are_those_of_full_frame_masks_bit_for_bit(height, width, count):
    rng = np.random.default_rng(height)
    masks = random_masks(rng, count, height, width)
    for group in range(0, count, 50):
        rles = [code(mask) for mask in masks[group : group + 50]]
        found = InstanceMap.from_rles(rles, height, width).layers
        np.testing.assert_array_equal(found, reference_layers(rles, height, width))
        assert found.dtype == np.uint16
        assert found.flags.c_contiguous


def test_pixels_are_those_of_each_mask_on_its_own():
    masks = random_masks(np.random.default_rng(5), 200, HEIGHT, WIDTH)
    for mask, pixels in zip(masks, pixels_of([code(m) for m in masks], HEIGHT, WIDTH), strict=True):
        assert np.array_equal(np.sort(pixels), np.flatnonzero(mask))


def test_cells_that_fill_large_frames_come_in_portions(monkeypatch):
    monkeypatch.setattr("policy_search.cells.rle._PIXELS_AT_ONCE", 100)
    rng = np.random.default_rng(8)
    masks = [np.pad(rng.random((h, h)) < 0.7, ((0, 30 - h), (30 - h, 0))) for h in (3, 30, 4, 9, 12, 30, 30, 1)]
    for mask, pixels in zip(masks, pixels_of([code(m) for m in masks], 30, 30), strict=True):
        assert np.array_equal(np.sort(pixels), np.flatnonzero(mask))


def test_runs_without_length_and_texts_as_str():
    # 5 background, 0 cell, 3 background, 4 cell, 0 background, 2 cell, 6 background: allowed, never written by tools
    rle = coco_mask.frPyObjects({"size": [4, 5], "counts": [5, 0, 3, 4, 0, 2, 6]}, 4, 5)
    for counts in (rle["counts"], rle["counts"].decode()):
        (pixels,) = pixels_of([{"size": [4, 5], "counts": counts}], 4, 5)
        expected = np.zeros(20, bool)
        expected[8:14] = True
        np.testing.assert_array_equal(np.sort(pixels), np.flatnonzero(expected.reshape((4, 5), order="F")))


def test_no_code_no_count_and_no_frame():
    assert InstanceMap.from_rles([], 3, 4).layers.shape == (0, 3, 4)
    assert InstanceMap.from_rles([], 0, 0).layers.shape == (0, 0, 0)
    assert InstanceMap.from_rles([], 10**6, 10**6).layers.shape == (0, 10**6, 10**6), "no cell, no memory"
    empty, full = np.zeros((3, 4), bool), np.ones((3, 4), bool)
    rles = [{"size": [3, 4], "counts": b""}, code(empty), code(full), {"size": [3, 4], "counts": ""}]
    assert InstanceMap.from_rles(rles, 3, 4).ids.tolist() == [3]


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (b"0", "cover 0 of 12 pixels"),  # pycocotools: whatever lies in memory
        (b"53", "cover 8 of 12 pixels"),
        (b"=", "cover 13 of 12 pixels"),
        (b"h0", "cover"),
        (b"X", "middle of a number"),  # pycocotools reads on past the end
        (b"5X", "middle of a number"),
        (b"PPPPPPPPPP0", "too many digits"),
        (b"5\xff3", "characters"),
        (b"5\x003", "characters"),
        ("5é3", "characters"),
        ("5\ud8003", "characters"),
        (b"5O", "go backwards"),
        (b"55N555", "go backwards"),
        ([5, 3, 4], "expected a text, found list"),
        (None, "expected a text, found NoneType"),
    ],
)
def test_damaged_counts_are_an_error_that_names_the_annotation(counts, message):
    sound = code(np.eye(3, 4, dtype=bool))
    with pytest.raises(DataError, match=f"annotation 2 is damaged.*({message})"):
        InstanceMap.from_rles([sound, {"size": [3, 4], "counts": counts}, sound], 3, 4)


@pytest.mark.parametrize("seed", range(4))
def test_garbage_never_gets_past_the_frame(seed):
    """What is accepted fills its frame to the pixel, as pycocotools reads it too; all else is a DataError."""
    rng = np.random.default_rng(seed)
    sound = code(rng.random((9, 8)) < 0.4)["counts"]
    accepted = 0
    for _ in range(1500):
        text = bytearray(sound)
        for _ in range(rng.integers(1, 3)):
            text[rng.integers(len(text))] = rng.integers(40, 120)
        text = bytes(text[: rng.integers(1, len(text) + 1)]) if rng.random() < 0.3 else bytes(text)
        rle = {"size": [9, 8], "counts": text}
        try:
            (pixels,) = pixels_of([rle], 9, 8)
        except DataError:
            continue
        accepted += 1
        assert np.array_equal(np.sort(pixels), np.flatnonzero(coco_mask.decode(rle)))
    assert accepted < 1500


def test_more_cells_than_ids_are_an_error(monkeypatch):
    monkeypatch.setattr("policy_search.cells.first_fit.MAX_ID", 3)
    dot = code(Instance(1, 0, 0, np.ones((1, 1), bool)).mask)
    with pytest.raises(DataError, match="got 4"):
        InstanceMap.from_rles([dot] * 5, 1, 1)

"""What is typed becomes files, each once and with a name of its own; and kinds of picture that users have."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from detection.pictures import named, pictures
from policy_search.cells.errors import InputError
from policy_search.cells.images import read_image

GREY = np.add.outer(np.arange(20), 3 * np.arange(30)).astype(np.uint8)


def put(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(GREY).save(path)
    return path


def test_files_folders_and_patterns_each_once(tmp_path):
    a, b, c = put(tmp_path / "x/b.png"), put(tmp_path / "x/a.TIF"), put(tmp_path / "x/deep/c.jpg")
    (tmp_path / "x/notes.txt").write_text("no image")
    (tmp_path / "x/._b.png").write_bytes(b"junk")
    (tmp_path / "empty").mkdir()
    found, bad = pictures([str(a), str(tmp_path / "x"), str(tmp_path / "x/../x/b.png"), str(tmp_path / "**/*.jpg")])
    assert (found, bad) == ([a, b, c], [])
    found, bad = pictures([str(tmp_path / "nope.tif"), str(tmp_path / "empty"), str(tmp_path / "q*.tif"), str(c)])
    assert found == [c]
    assert [
        word in text for word, text in zip(("does not exist", "holds no image", "no image matches"), bad, strict=True)
    ]
    assert len(bad) == 3


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tmp_path):
    assert pictures([str(put(tmp_path / "well[1].png"))]) == ([tmp_path / "well[1].png"], [])


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["p/a.tif", "p/b.tif"], ["a", "b"]),
        (["p1/a.tif", "p2/a.tif", "p2/b.tif"], ["p1_a", "p2_a", "b"]),
        (["p/a.tif", "p/a.png"], ["a_tif", "a_png"]),
        (["p/A.tif", "q/a.tif"], ["p_A", "q_a"]),
        (["x/p/a.tif", "y/p/a.tif"], ["x_p_a", "y_p_a"]),
        (["p/a.tif", "a.tif", "p_a.tif"], None),
        (["p/q_a.tif", "p/q/a.tif", "r/q/a.tif", "p_q_a.png"], None),
    ],
)
def test_names_differ_and_are_as_short_as_they_can_be(tmp_path, files, names):
    found = [n.name for n in named([tmp_path / f for f in files])]
    if names:
        assert found == names
    assert len({n.lower() for n in found}) == len(files)
    assert not any(set(n) & set("/\\") for n in found)


@pytest.mark.parametrize(
    "kind", ["L.png", "L.jpg", "RGB.png", "16.png", "16.tif", "RGB16.tif", "RGB16.png", "float.tif", "RGBA.png"]
)
def test_kinds_of_pictures(tmp_path, kind):
    path = tmp_path / kind
    deep = GREY.astype(np.uint16) * 40 + 1000
    match kind.split("."):
        case ["L", _]:
            Image.fromarray(GREY).save(path, quality=95)
        case ["RGB", _]:
            Image.fromarray(np.stack([GREY, GREY // 2, GREY // 3], -1)).save(path)
        case ["RGBA", _]:
            Image.fromarray(np.stack([GREY, GREY, GREY, GREY], -1), "RGBA").save(path)
        case ["16", "png"]:
            Image.fromarray(deep).save(path)
        case ["RGB16", "png"]:
            cv2.imwrite(str(path), np.stack([deep // 3, deep // 2, deep], -1))
        case ["RGB16", _]:
            tifffile.imwrite(path, np.stack([deep, deep // 2, deep // 3], -1), photometric="rgb")
        case ["float", _]:
            tifffile.imwrite(path, deep.astype(np.float32))
        case _:
            tifffile.imwrite(path, deep)
    read = read_image(path)
    assert read.dtype == np.uint8
    assert read.shape == ((20, 30, 3) if kind.startswith("RGB") and "A" not in kind else (20, 30))
    first = read if read.ndim == 2 else read[..., 0]
    assert np.corrcoef(first.ravel(), GREY.ravel())[0, 1] > 0.99  # neither saturated nor wrapped around
    assert len(np.unique(first)) > 60
    if read.ndim == 3:
        assert first.mean() > read[..., 1].mean() > read[..., 2].mean()  # red, green, blue


def test_what_is_no_single_picture_is_said_so(tmp_path):
    tifffile.imwrite(tmp_path / "stack.tif", np.stack([GREY, GREY, GREY]), photometric="minisblack")
    with pytest.raises(InputError, match=r"stack.tif holds more than one picture \(3 pages\)"):
        read_image(tmp_path / "stack.tif")
    frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    for name in ("film.gif", "film.png", "film.webp"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        with pytest.raises(InputError, match=rf"{name} holds 2 pictures: save the one"):
            read_image(tmp_path / name)
    frames[0].save(tmp_path / "camera.jpg", format="MPO", save_all=True, append_images=frames[1:])
    assert np.abs(read_image(tmp_path / "camera.jpg").astype(int) - GREY).mean() < 5  # the smaller copy is none
    for name in ("text.png", "text.tif"):
        (tmp_path / name).write_text("this is no picture")
        with pytest.raises(InputError, match=name):
            read_image(tmp_path / name)
    whole = put(tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cut.png"):
        read_image(tmp_path / "cut.png")

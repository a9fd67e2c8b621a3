"""Policy files made to harm: each is refused with a sentence before anything is built of it, or does no harm."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import albumentations as A
import numpy as np
import pytest
from typer.testing import CliRunner

from policy_search.augment import Augmenter, PolicyDocument, PolicyError, load_policy
from policy_search.augment.limits import check_limits
from policy_search.augment.preview import Tile, save_sheet
from policy_search.cells.errors import InputError
from policy_search.cells.instances import InstanceMap
from policy_search.cli import app

FLIP = {"__class_fullname__": "HorizontalFlip", "p": 1.0}


def policy(*transforms: dict[str, Any], **more: Any) -> dict[str, Any]:
    compose = {"__class_fullname__": "Compose", "p": 1.0, "transforms": list(transforms), **more}
    return {"__version__": "2.0.8", "transform": compose}


def leaf(name: str, **arguments: Any) -> dict[str, Any]:
    return policy({"__class_fullname__": name, "p": 1.0, **arguments})


def container(name: str, *children: dict[str, Any], **arguments: Any) -> dict[str, Any]:
    return {"__class_fullname__": name, "p": 1.0, "transforms": list(children), **arguments}


def nested(depth: int, **arguments: Any) -> dict[str, Any]:
    node = FLIP
    for _ in range(depth):
        node = container("SomeOf", node, **arguments)
    return policy(node)


REFUSED = {
    "a million holes": (leaf("CoarseDropout", num_holes_range=[1, 10**6]), "num_holes_range: expected numbers"),
    "a blur without end": (leaf("Defocus", radius=[10**4, 10**4]), "radius: expected numbers from -100 to 100"),
    "a plasma of all memory": (leaf("PlasmaShadow", plasma_size=10**5), "plasma_size: expected numbers"),
    "a mirror walked through": (leaf("Affine", scale=[1e-8, 1e-8], border_mode=4), "scale: expected numbers from 0.01"),
    "a shift of 10⁹ images": (leaf("Affine", translate_percent=[10**9] * 2, border_mode=4), "translate_percent"),
    "100 to the power of 30": (nested(30, n=100, replace=True), "transforms are applied to one image"),
    "too many transforms": (policy(*[FLIP] * 30_000), "30001 transforms, expected up to 20000"),
    "transforms in transforms": (nested(40, n=1, replace=False), "nested more than 32 deep"),
    "lists in lists": (leaf("Affine", rotate=json.loads("[" * 300 + "]" * 300)), "nested more than 100 deep"),
    "a number of 400 digits": (leaf("Affine", rotate=10**400), "a number of 1329 bits"),
    "a class that others derive from": (leaf("ImageOnlyTransform"), "cannot stand in a policy file"),
    "a class that is no transform": (leaf("BboxParams", format="coco"), "unknown transform 'BboxParams'"),
    "a class of Python": (leaf("builtins.eval"), "unknown transform 'builtins.eval'"),
    "a class by a path of another": (leaf("albumentations.os.system"), "unknown transform"),
    "a replay": (policy(container("ReplayCompose", FLIP)), "cannot stand in a policy file"),
    "images of the disk": (leaf("FDA", reference_images=["/etc/passwd"]), "Albumentations"),
    "channels that are not written": (policy(container("SelectiveChannelTransform", FLIP)), "cannot stand in"),
    "cells between cells": (leaf("Affine", mask_interpolation=1), r"mask_interpolation: expected 0 \(nearest\)"),
    "cells out of nothing": (leaf("CoarseDropout", fill_mask=7), "fill_mask: expected 0 or null, found 7"),
    "cells out of noise": (leaf("PixelDropout", mask_drop_value=9), "mask_drop_value: expected 0 or null"),
    "masks taken for images": (policy(FLIP, additional_targets={"masks": "image"}), "additional_targets"),
    "a seed, which would be dropped": (policy(FLIP, seed=3), "seed: Compose has no such argument"),
    "weights of zero": (policy(container("OneOf", {**FLIP, "p": 0.0})), "every p is 0"),
    "a chance below zero": (policy({**FLIP, "p": -0.5}), "probability from 0 to 1, found -0.5"),
    "a chance in words": (policy(container("Sequential", FLIP, p="often")), "probability from 0 to 1, found 'often'"),
    "a name that rings": ({**policy(FLIP), "policy_search": {"name": "\x1b[2J"}}, r"U\+001B"),
    "half a character": ({**policy(FLIP), "policy_search": {"note": ["\ud800"]}}, r"note\[0\]: .*U\+D800"),
    "a score without end": ({**policy(FLIP), "policy_search": {"score": float("inf")}}, "score: inf is not a finite"),
    "not read back": (leaf("RGBShift", r_shift_limit=[-9, 9]), "not what it writes of it|refuses"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_at_once_and_with_a_sentence(tmp_path: Path, name: str) -> None:
    content, message = REFUSED[name]
    (tmp_path / "bad.json").write_text(json.dumps(content))
    began = time.process_time()
    with pytest.raises(PolicyError, match=message) as caught:
        load_policy(tmp_path / "bad.json")
    assert time.process_time() - began < 5
    assert "bad.json" in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    text = json.dumps(policy(FLIP)).replace('"p": 1.0}', '"p": 0.1, "p": 1.0}', 1)
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(PolicyError, match="key 'p' stands twice"):
        load_policy(tmp_path / "bad.json")


def test_a_device_without_end_is_not_read_to_its_end() -> None:
    with pytest.raises(PolicyError, match="larger than 16 MiB"):
        load_policy("/dev/zero")


def test_names_are_no_markup_and_no_mathematics(tmp_path: Path) -> None:
    name = r"[/b] $\frac$ [red]x"
    (tmp_path / "p.json").write_text(json.dumps({**policy(FLIP), "policy_search": {"name": name}}))
    shown = CliRunner().invoke(app, ["show", str(tmp_path / "p.json")])
    assert shown.exit_code == 0
    assert name in shown.stdout
    pixels = np.zeros((20, 24, 3), np.uint8)
    save_sheet([[Tile(pixels, name)]], name, tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")


def test_a_file_name_that_is_no_text_becomes_a_name_that_is(tmp_path: Path) -> None:
    path = tmp_path / "caf\udce9\x1b.json"
    path.write_text(json.dumps(policy(FLIP)))
    document = load_policy(path)
    assert document.name == "caf__"
    document.save(tmp_path / "again.json")


@pytest.mark.parametrize("suffix", [".xyz", ".txt"])
def test_a_sheet_of_an_unknown_kind_leaves_nothing(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(InputError, match=r"expected a picture, .*\.png"):
        save_sheet([[Tile(np.zeros((20, 24, 3), np.uint8), "")]], "", tmp_path / f"sheet{suffix}")
    assert list(tmp_path.iterdir()) == []


def test_a_sheet_without_a_suffix_is_a_png_under_its_own_name(tmp_path: Path) -> None:
    save_sheet([[Tile(np.zeros((20, 24, 3), np.uint8), "")]], "", tmp_path / "sheet")
    assert [path.name for path in tmp_path.iterdir()] == ["sheet"]
    assert (tmp_path / "sheet").read_bytes().startswith(b"\x89PNG")


def test_a_transform_that_wants_colours_says_so_for_a_grey_image() -> None:
    document = PolicyDocument.from_compose(A.Compose([A.ChannelDropout(p=1.0)]))
    image = np.full((20, 24), 9, np.uint8)
    with pytest.raises(PolicyError, match=r"cannot be applied to a \(20, 24\) uint8 image: NotImplementedError"):
        Augmenter(document)(image, InstanceMap.empty(20, 24), seed=0, image_id="a", draw=0)


def test_the_hash_is_that_of_the_file_that_is_written(tmp_path: Path) -> None:
    """Albumentations writes some 0 as 0 at first, and as 0.0 once they were read back."""
    document = PolicyDocument.from_dict(
        leaf("Affine", translate_px=[0, 0], keep_ratio=True, shear={"x": 0, "y": [0, 1]})
    )
    document.save(tmp_path / "p.json")
    assert load_policy(tmp_path / "p.json").content_hash == document.content_hash


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("CoarseDropout", {"num_holes_range": (1000, 1000), "hole_height_range": (2, 5), "hole_width_range": (2, 5)}),
        ("GaussianBlur", {"blur_limit": (501, 501), "sigma_limit": (501, 501)}),
        ("Affine", {"scale": (0.01, 0.01), "border_mode": 4}),
        ("Affine", {"translate_percent": (10, 10), "border_mode": 4}),
        ("Defocus", {"radius": (100, 100)}),
        ("GlassBlur", {"iterations": 20, "max_delta": 10}),
        ("ThinPlateSpline", {"num_control_points": 20}),
        ("Superpixels", {"n_segments": (1000, 1000)}),
    ],
)
def test_at_its_limit_a_transform_still_ends(name: str, arguments: dict[str, Any]) -> None:
    check_limits(name, arguments, "here")
    image = np.random.default_rng(0).integers(0, 256, (130, 176), np.uint8)
    began = time.process_time()
    A.Compose([getattr(A, name)(**arguments, p=1.0)])(image=image, masks=np.zeros((2, 130, 176), np.uint16))
    assert time.process_time() - began < 5

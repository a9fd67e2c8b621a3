"""What must hold for every policy file, whatever it holds: a policy, or a sentence; and the corpus to damage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from typer.testing import CliRunner

from policy_search.augment import BASELINES, Augmenter, PolicyDocument, load_policy
from policy_search.augment.albumentationsx import export_albumentationsx
from policy_search.augment.autoalbument import convert_file
from policy_search.augment.describe import describe, summarise
from policy_search.cells.errors import InputError
from policy_search.cells.instances import InstanceMap
from policy_search.cli import app
from tests.conftest import ROOT
from tests.fuzz.sentences import check_sentence

BRANCHES = 3  # of a file of hundreds are enough


def trimmed(value: Any) -> Any:
    """The same tree with the first branches of each container only."""
    if isinstance(value, dict):
        return {k: trimmed(v[:BRANCHES] if k == "transforms" else v) for k, v in value.items()}
    return [trimmed(v) for v in value] if isinstance(value, list) else value


def contents(*folders: str) -> list[Any]:
    """The policy files of these folders, trimmed."""
    files = [path for folder in folders for path in sorted((ROOT / folder).glob("*.json"))]
    return [trimmed(json.loads(path.read_bytes())) for path in files]


FOREIGN = contents("experiments/policies")
OURS = contents("policies") + [trimmed(make().to_dict()) for make in BASELINES.values()]
# Transforms that no policy of ours holds.
OTHERS = [
    {
        "__version__": "2.0.8",
        "transform": {"__class_fullname__": "Compose", "p": 1.0, "transforms": [{"p": 1.0, **transform}]},
    }
    for transform in (
        {"__class_fullname__": "CoarseDropout", "num_holes_range": [1, 8], "hole_height_range": [4, 12]},
        {"__class_fullname__": "GaussianBlur", "blur_limit": [3, 7], "sigma_limit": [0.5, 3]},
        {"__class_fullname__": "ElasticTransform", "alpha": 20, "sigma": 5, "mask_interpolation": 0, "border_mode": 4},
        {"__class_fullname__": "RandomSizedCrop", "min_max_height": [40, 64], "size": [64, 80]},
        {"__class_fullname__": "Perspective", "scale": [0.05, 0.1], "fill_mask": 0},
        {"__class_fullname__": "Affine", "rotate": [-9, 9], "shear": [-5, 5], "translate_px": [0, 5], "border_mode": 4},
        {"__class_fullname__": "SomeOf", "n": 2, "replace": False, "transforms": [
            {"__class_fullname__": "HorizontalFlip", "p": 1.0}, {"__class_fullname__": "PixelDropout", "p": 1.0,
             "mask_drop_value": None}]},
    )
]  # fmt: skip


def sample() -> tuple[np.ndarray, InstanceMap]:
    """A (64, 80) uint8 image with 13 cells in two layers."""
    layers = np.zeros((2, 64, 80), np.uint16)
    for number in range(12):
        y, x = 20 * (number // 4) + 3, 20 * (number % 4) + 2
        layers[0, y : y + 14, x : x + 15] = 1000 * number + 1
    layers[1, 10:30, 10:30] = 40_000
    return np.random.default_rng(0).integers(0, 256, (64, 80), np.uint8), InstanceMap(layers)


IMAGE, CELLS = sample()


def check_policy(path: Path) -> PolicyDocument | None:
    """Load, show, apply, export and write a policy file; None where it is refused."""
    shown = CliRunner().invoke(app, ["show", str(path)])
    try:
        document = load_policy(path)
    except InputError as error:
        check_sentence(error)
        assert isinstance(shown.exception, InputError)
        return None
    assert shown.exception is None, shown.exception
    assert shown.exit_code == 0
    rows = describe(document.transform)
    assert rows
    assert summarise(rows)
    document.save(path.with_name("again.json"))
    again = load_policy(path.with_name("again.json"))
    assert again.transform == document.transform
    assert again.content_hash == document.content_hash
    assert again.compose().to_dict()["transform"]["transforms"]
    check_applied(document)
    try:
        json.dumps(export_albumentationsx(document), allow_nan=False)
    except InputError as error:
        check_sentence(error)
    return document


def check_applied(document: PolicyDocument) -> None:
    """Size and type stay, and no cell appears that was not there, on grey and on colour images."""
    for image in (IMAGE, np.repeat(IMAGE[..., None], 3, axis=2)):
        try:
            made, cells = Augmenter(document)(
                image, CELLS, seed=0, image_id="a", draw=0, donor=lambda _, image=image: (image, CELLS)
            )
        except InputError as error:
            check_sentence(error)
            continue
        assert made.shape == image.shape
        assert made.dtype == np.uint8
        assert cells.shape == image.shape[:2]
        if not document.needs_donor:
            assert set(cells.ids.tolist()) <= set(CELLS.ids.tolist())


def check_conversion(path: Path) -> None:
    """Convert a policy of AutoAlbument in both readings, by the function and by the command."""
    for reading in ("searched", "emitted"):
        out = path.with_name("converted.json")
        out.unlink(missing_ok=True)
        ran = CliRunner().invoke(app, ["convert", str(path), "--reading", reading, "--out", str(out)])
        try:
            conversion = convert_file(path, reading)
        except InputError as error:
            check_sentence(error)
            assert isinstance(ran.exception, InputError)
            assert not out.exists()
        else:
            assert ran.exit_code == 0
            assert load_policy(out).transform == conversion.document.transform
            check_applied(conversion.document)

"""Policy files: plain Albumentations JSON, read strictly."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path

import albumentations as A
import numpy as np
import pytest

from policy_search.augment import BASELINES, PolicyDocument, PolicyError, baseline, choice, load_policy, stacked
from tests.conftest import ROOT

POLICIES = ROOT / "policies"
PASTING = {"simple_copy_paste", "scaled_copy_paste", "stacked_p0.5", "stacked_p0.8", "random_choice"}


@pytest.mark.parametrize("name", BASELINES)
def test_the_files_are_the_naive_strategies(name):
    document = load_policy(POLICIES / f"{name}.json")
    assert document.transform == baseline(name).transform
    assert document.name == name
    assert document.needs_donor == (name in PASTING)


def test_plain_albumentations_loads_every_file():
    """In an interpreter that never saw this package; the pasting ones after the one import."""
    code = (
        "import sys, albumentations as A\n"
        f"plain = {sorted(set(BASELINES) - PASTING)!r}; pasting = {sorted(PASTING)!r}\n"
        "for n in plain: A.load(f'policies/{n}.json')\n"
        "assert 'policy_search' not in sys.modules\n"
        "import policy_search.augment\n"
        "for n in pasting: A.load(f'policies/{n}.json')\n"
        "print('all loaded')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "all loaded", done.stderr


def test_the_one_import_needs_albumentations_only():
    """As on a machine with Albumentations and this package without any of its other dependencies."""
    code = (
        "import sys\n"
        "for m in ('PIL', 'pycocotools', 'matplotlib', 'torch', 'optuna', 'rich', 'kornia'): sys.modules[m] = None\n"
        "import policy_search.augment, albumentations as A\n"
        f"for n in {[*BASELINES, 'best']!r}: A.load(f'policies/{{n}}.json')\n"
        "print('all loaded')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "all loaded", done.stderr


def test_importing_the_package_loads_neither_torch_nor_detectron2():
    code = (
        "import sys, policy_search.augment as a\n"
        "a.load_policy('policies/crop.json').compose()\n"
        "print([m for m in ('torch', 'detectron2', 'optuna') if m in sys.modules])\n"
        "import albumentations.pytorch; print(albumentations.pytorch.ToTensorV2.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.split("\n")[:2] == ["[]", "ToTensorV2"], done.stderr


def test_round_trip_keeps_transform_hash_and_provenance(tmp_path):
    document = stacked(0.37).with_provenance(data="demo/A172", score=0.5, something_else=[1, 2])
    document.save(tmp_path / "p.json")
    again = load_policy(tmp_path / "p.json")
    assert again == document
    assert again.content_hash == document.content_hash == stacked(0.37).content_hash
    assert again.provenance.model_dump()["something_else"] == [1, 2]
    assert stacked(0.38).content_hash != document.content_hash
    loaded, own = A.load(tmp_path / "p.json"), document.compose()
    assert loaded.to_dict() == own.to_dict(), "what we build is what Albumentations builds"


def good() -> dict:
    compose = A.Compose([A.OneOf([A.Affine(rotate=(-10, 10), p=1.0), A.Posterize(num_bits=(4, 6), p=0.5)], p=1.0)])
    return json.loads(json.dumps(compose.to_dict()))


def set_path(content: dict, path: list, value: object) -> dict:
    node = content = copy.deepcopy(content)
    for key in path[:-1]:
        node = node[key]
    if value is KeyError:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return content


INNER = ["transform", "transforms", 0, "transforms", 0]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            [*INNER, "__class_fullname__"],
            "Afine",
            r"transforms\[0\]\.transforms\[0\]: unknown transform 'Afine'.*Affine",
        ),
        ([*INNER, "rotation"], [0, 1], r"\.rotation: Affine has no such argument.*'rotate'"),
        ([*INNER, "rotate"], [0, float("nan")], r"rotate\[1\]: nan is not a finite number"),
        ([*INNER, "p"], float("inf"), r"\.p: inf is not a finite"),
        ([*INNER, "p"], KeyError, r"\.p: missing"),
        ([*INNER, "p"], 3.0, r"\.p: expected a probability from 0 to 1, found 3\.0"),
        ([*INNER, "scale"], "big", "refuses"),
        ([*INNER, "__class_fullname__"], "Lambda", "carries Python code"),
        (["__version__"], "1.4.0", "__version__ is '1.4.0', expected 2.0.8"),
        (["__version__"], "2.5.1", "expected 2.0.8"),
        (["extra"], 1, "unknown key 'extra'"),
        (["transform", "bbox_params"], {"format": "coco"}, "bbox_params: must be null"),
        (["transform", "transforms", 0, "transforms"], [], "OneOf is empty"),
        (["transform", "transforms", 0, "p"], KeyError, r"transforms\[0\]\.p: missing"),
        (["transform"], [], "expected an Albumentations file"),
        (["policy_search"], {"seed": "many"}, r"policy_search\.seed"),
    ],
)
def test_bad_files_are_refused_by_name_key_and_remedy(tmp_path, path, value, message):
    PolicyDocument.from_dict(good())
    file = tmp_path / "bad.json"
    file.write_text(json.dumps(set_path(good(), path, value)))
    with pytest.raises(PolicyError, match=message) as caught:
        load_policy(file)
    assert "bad.json" in str(caught.value)


def test_files_that_are_no_policy(tmp_path):
    with pytest.raises(PolicyError, match="no policy file"):
        load_policy(tmp_path / "none_such.json")
    (tmp_path / "cut.json").write_text(json.dumps(good())[:50])
    with pytest.raises(PolicyError, match=r"cut\.json is damaged"):
        load_policy(tmp_path / "cut.json")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(PolicyError, match="damaged"):
        load_policy(tmp_path / "deep.json")
    with pytest.raises(PolicyError, match="cannot read"):
        load_policy(tmp_path)


def test_choice_draws_its_weights_and_drops_zero_branches():
    document = choice({"flip": 3.0, "crop": 0.0, "color_jitter": 1.0})
    branches = document.transform["transforms"][0]["transforms"]
    assert [b["p"] for b in branches] == [0.75, 0.25]
    for weights, message in (
        ({"flip": 0.0}, "positive sum"),
        ({"flop": 1.0}, "unknown"),
        ({"flip": -1.0}, "0 or more"),
    ):
        with pytest.raises(PolicyError, match=message):
            choice(weights)
    with pytest.raises(PolicyError, match="in \\[0, 1\\]"):
        stacked(1.2)


def test_numpy_numbers_become_json():
    document = PolicyDocument.from_compose(A.Compose([A.Affine(rotate=(np.float64(-3.0), np.float64(4)), p=1.0)]))
    assert json.loads(json.dumps(document.to_dict()))["transform"]["transforms"][0]["rotate"] == [-3.0, 4.0]
    assert Path(POLICIES / "README.md").is_file()

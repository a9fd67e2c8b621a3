"""Policies for AlbumentationsX: every class and argument against the names read from that release's signatures."""

from __future__ import annotations

import json

import albumentations as A
import numpy as np
import pytest

from policy_search.augment import BASELINES, PolicyDocument, PolicyError, baseline, load_policy
from policy_search.augment.albumentationsx import TABLE, X_VERSION, export_albumentationsx
from policy_search.augment.autoalbument import READINGS, convert_file
from policy_search.relaxed.catalogue import CATALOGUE
from policy_search.relaxed.operations import Emission
from tests.conftest import ROOT

DATA = ROOT / "tests" / "augment" / "data"
NAMES = json.loads((DATA / "albumentationsx_arguments.json").read_text())
PASTING = {name for name in BASELINES if baseline(name).needs_donor}


def nodes(node):
    yield node
    for child in node.get("transforms", []):
        yield from nodes(child)


def assert_known_to_x(content):
    assert content["__version__"] == X_VERSION == NAMES["version"]
    for node in nodes(content["transform"]):
        arguments = set(node) - {"__class_fullname__"}
        assert arguments <= set(NAMES["classes"][node["__class_fullname__"]]), node


def document(transform):
    transform.p = 1.0
    return PolicyDocument.from_compose(A.Compose([transform]))


def test_the_table_names_only_what_x_has():
    for name, row in TABLE.items():
        assert {*row.same, *row.renamed.values()} <= set(NAMES["classes"][name]), name
        assert not set(row.fixed) & set(NAMES["classes"][name]), name


@pytest.mark.parametrize("file", sorted(p.name for p in (ROOT / "policies").glob("*.json")))
def test_every_policy_file(file):
    policy = load_policy(ROOT / "policies" / file)
    if not policy.needs_donor:
        assert_known_to_x(export_albumentationsx(policy))
        return
    with pytest.raises(PolicyError, match="--without CopyPaste"):
        export_albumentationsx(policy)
    content = export_albumentationsx(policy, without=["CopyPaste"])
    assert_known_to_x(content)
    before, after = (list(nodes(t)) for t in (policy.transform, content["transform"]))
    assert [n["p"] for n in before] == [n["p"] for n in after]
    assert [n["__class_fullname__"] for n in before if "CopyPaste" not in n["__class_fullname__"]] == [
        a["__class_fullname__"] for b, a in zip(before, after, strict=True)
        if "CopyPaste" not in b["__class_fullname__"]
    ]  # fmt: skip


@pytest.mark.parametrize("operation", CATALOGUE, ids=lambda o: o.name)
def test_every_operation_of_the_catalogue(operation):
    low, high = operation.magnitude.start if operation.magnitude else (0.0, 0.0)
    policy = document(operation.emit(low, high, Emission(128, 2)))
    classes = {n["__class_fullname__"].rsplit(".", 1)[-1] for n in nodes(policy.transform)}
    apart = classes & {"CopyPaste", "Illumination"}
    if apart:
        with pytest.raises(PolicyError, match=f"--without {min(apart)}"):
            export_albumentationsx(policy)
    else:
        assert_known_to_x(export_albumentationsx(policy))


@pytest.mark.parametrize("reading", READINGS)
def test_converted_policies_of_autoalbument(reading):
    assert_known_to_x(export_albumentationsx(convert_file(DATA / "autoalbument_policy.json", reading).document))


@pytest.mark.parametrize(
    ("transform", "renamed"),
    [
        (
            A.RandomBrightnessContrast(
                brightness_limit=(-0.1, 0.2), contrast_limit=(0.3, 0.4), brightness_by_max=False, ensure_safe_range=True
            ),
            {"brightness_range": [-0.1, 0.2], "contrast_range": [0.3, 0.4], "brightness_by_max": False,
             "ensure_safe_output": True},
        ),
        (
            A.ColorJitter(brightness=(0.7, 1.3), contrast=(0.8, 1.2), saturation=(0.9, 1.1), hue=(-0.1, 0.2)),
            {"brightness_range": [0.7, 1.3], "contrast_range": [0.8, 1.2], "saturation_range": [0.9, 1.1],
             "hue_range": [-0.1, 0.2]},
        ),
        (A.RandomGamma(gamma_limit=(70, 130)), {"gamma_range": [70.0, 130.0]}),
        (A.Sharpen(alpha=(0.1, 0.3), lightness=(1.0, 1.0)),
         {"alpha_range": [0.1, 0.3], "lightness_range": [1.0, 1.0], "method": "kernel", "kernel_size": 5,
          "sigma": 1.0}),
        (A.GaussNoise(std_range=(0.1, 0.2), per_channel=True),
         {"std_range": [0.1, 0.2], "mean_range": [0.0, 0.0], "per_channel": True}),
        (A.GaussianBlur(blur_limit=(3, 7), sigma_limit=(0.5, 1.0)), {"blur_range": [3, 7], "sigma_range": [0.5, 1.0]}),
        (A.GaussianBlur(blur_limit=(0, 0), sigma_limit=(0.5, 2.2)),
         {"blur_range": [15, 15], "sigma_range": [0.5, 2.2]}),
        (A.GaussianBlur(blur_limit=(0, 0), sigma_limit=(0.1, 0.2)), {"blur_range": [3, 3], "sigma_range": [0.1, 0.2]}),
    ],
    ids=lambda v: type(v).__name__,
)  # fmt: skip
def test_values_under_their_new_names(transform, renamed):
    (node,) = export_albumentationsx(document(transform))["transform"]["transforms"]
    assert node == {"__class_fullname__": type(transform).__name__, "p": 1.0, **renamed}


@pytest.mark.parametrize("sigma", [0.3, 0.9, 2.2, 4.0])
def test_the_stated_kernel_size_is_the_one_that_2_0_8_takes_by_itself(sigma):
    dot = np.zeros((61, 61), np.float32)
    dot[30, 30] = 1.0
    blurred = A.Compose([A.GaussianBlur(blur_limit=(0, 0), sigma_limit=(sigma, sigma), p=1.0)])(image=dot)["image"]
    width = int((blurred[30] > 0).sum())
    blur = export_albumentationsx(document(A.GaussianBlur(blur_limit=(0, 0), sigma_limit=(sigma, sigma))))
    assert blur["transform"]["transforms"][0]["blur_range"] == [width, width]


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (A.GaussNoise(noise_scale_factor=0.5), "noise_scale_factor: .* behaves as with 1.0, found 0.5"),
        (A.GaussianBlur(blur_limit=(0, 7)), "mixes automatic and fixed"),
        (A.Illumination(), "adds a gradient"),
        (A.MotionBlur(), "no table of AlbumentationsX's arguments for MotionBlur"),
    ],
)
def test_what_has_no_place_there_is_refused(transform, message):
    with pytest.raises(PolicyError, match=message):
        export_albumentationsx(document(transform))


@pytest.mark.parametrize("name", ["CopyPaste", "OneOf"])
def test_leaving_out_what_is_no_operation_of_the_policy_is_refused(name):
    with pytest.raises(PolicyError, match=f"there is no {name} to leave out; the policy consists of Affine$"):
        export_albumentationsx(baseline("crop"), without=[name])


def test_provenance_says_what_it_was_exported_from():
    policy = baseline("crop")
    facts = export_albumentationsx(policy)["policy_search"]
    assert facts["exported_from"] == policy.content_hash
    assert facts["exported_for"] == f"albumentationsx {X_VERSION}"

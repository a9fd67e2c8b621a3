"""Policies of AutoAlbument 0.4.0: what it searched and what it wrote, recorded from it, against the converted ones."""

from __future__ import annotations

import copy
import hashlib
import json

import albumentations as A
import numpy as np
import pytest

from policy_search.augment import PolicyError, load_policy
from policy_search.augment.autoalbument import READINGS, convert_file, convert_policy
from policy_search.augment.describe import describe
from tests.conftest import ROOT

DATA = ROOT / "tests" / "augment" / "data"
CASES = json.loads((DATA / "autoalbument_cases.json").read_text())
POLICY = DATA / "autoalbument_policy.json"
CORE = "albumentations.core.composition."
PIXEL = "albumentations.augmentations.transforms."
NOOP = {"__class_fullname__": "albumentations.core.transforms_interface.NoOp", "always_apply": False, "p": 1.0}


def recorded():
    return np.load(DATA / "autoalbument_cases.npz")


def policy_file(*branches, weights=None, white=255, version="0.5.2"):
    """A file as AutoAlbument writes it; a branch is a list of stages, a stage a list of leaves."""

    def one_of(children):
        return {"__class_fullname__": CORE + "OneOf", "p": 1.0, "transforms": children}

    shares = weights or [1 / len(branches)] * len(branches)
    sequences = [
        {"__class_fullname__": CORE + "Sequential", "p": p, "transforms": [one_of(stage) for stage in stages]}
        for p, stages in zip(shares, branches, strict=True)
    ]
    normalize = {
        "__class_fullname__": PIXEL + "Normalize", "always_apply": False, "p": 1.0,
        "mean": [0.5], "std": [0.25], "max_pixel_value": white,
    }  # fmt: skip
    root = {
        "__class_fullname__": CORE + "Compose", "p": 1.0, "transforms": [one_of(sequences), normalize],
        "bbox_params": None, "keypoint_params": None, "additional_targets": {},
    }  # fmt: skip
    return copy.deepcopy({"__version__": version, "transform": root})


def single(leaf, **how):
    return policy_file([[leaf]], **how)


def cutout(holes, side, p=1.0):
    ranges = {f"{end}_{part}": v for end in ("max", "min") for part, v in
              (("holes", holes), ("height", side), ("width", side))}  # fmt: skip
    return {"__class_fullname__": PIXEL + "CoarseDropout", "always_apply": False, "p": p, **ranges,
            "fill_value": 0, "mask_fill_value": None}  # fmt: skip


def steepest(image):
    """The largest difference of neighbours: what a warp that is off by one pixel can change."""
    return max(int(np.abs(np.diff(image.astype(int), axis=axis)).max()) for axis in (0, 1))


def tolerance(case, reading, image):
    """How many grey levels apart, and why."""
    operation, v = case["operation"], case["value"]
    if operation in ("ShiftX", "ShiftY"):
        # Affine shifts by whole pixels, cut towards 0; to the search a width of W pixels was W − 1 long.
        width = len(image) - (reading == "searched")
        return steepest(image) * abs(int(v * len(image)) - v * width) + 2
    if operation == "Scale" and reading == "emitted":
        return steepest(image) * v / (1 + v) + 2  # zoomed by 1 + v about a point half a pixel off, on both axes
    if operation == "Rotate" and reading == "emitted":
        return steepest(image) * 2 * abs(np.sin(np.radians(v) / 2)) + 2  # turned about that point
    return 1  # rounding


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("index", range(len(CASES)))
def test_converted_operations_do_what_the_old_ones_did(index, reading):
    case, arrays = CASES[index], recorded()
    image, wanted = arrays["image"], arrays[f"{reading}_{index}"].astype(int)
    compose = convert_policy(single(case["uint8"]), reading).document.compose()
    found = compose(image=image)["image"].astype(int)
    bound = tolerance(case, reading, image)
    if case["operation"] == "Solarize":
        # The file states whole grey levels: where the search's threshold lay between two, one level may flip.
        wrong = np.abs(found - wanted) > bound
        assert set(image[wrong]) <= {int(255 * case["value"])}
    else:
        assert np.abs(found - wanted).max() <= bound
        if case["operation"] in ("RandomContrast", "Scale"):
            other = arrays[f"{'emitted' if reading == 'searched' else 'searched'}_{index}"].astype(int)
            assert np.abs(found - other).mean() > 5  # the wrong reading would show


@pytest.mark.parametrize("index", range(len(CASES)))
def test_files_for_images_in_0_to_1_give_the_same_policy(index):
    """Up to the grey level to which AutoAlbument cuts shifts and thresholds in files for uint8 images."""
    case, image = CASES[index], recorded()["image"]
    of_uint8, of_float = (
        convert_policy(single(case[kind], white=white)).document.compose()(image=image)["image"].astype(int)
        for kind, white in (("uint8", 255), ("float32", 1.0))
    )
    if case["operation"] == "Solarize":
        assert set(image[of_uint8 != of_float]) <= {int(255 * case["value"])}
    else:
        assert np.abs(of_uint8 - of_float).max() <= 1


def test_solarize_keeps_its_threshold_for_every_grey_level():
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for threshold in range(256):
        leaf = {"__class_fullname__": PIXEL + "Solarize", "always_apply": False, "p": 1.0}
        compose = convert_policy(single({**leaf, "threshold": [threshold] * 2})).document.compose()
        expected = np.where(ramp < threshold, ramp, 255 - ramp)
        np.testing.assert_array_equal(compose(image=ramp)["image"], expected)


def test_cutout_makes_black_squares_and_keeps_the_mask():
    image = np.full((64, 48, 3), 200, np.uint8)
    mask = np.ones((64, 48), np.uint8)
    compose = convert_policy(single(cutout(1, 7))).document.compose()
    out = compose(image=image, mask=mask)
    rows, columns = np.nonzero(out["image"][..., 0] == 0)
    assert (np.ptp(rows), np.ptp(columns), len(rows)) == (6, 6, 49)
    assert out["mask"].all()
    many = [compose(image=image)["image"] for _ in range(40)]
    assert len({m.tobytes() for m in many}) > 20
    four = convert_policy(single(cutout(4, 3))).document.compose()
    assert max(int((four(image=image)["image"][..., 0] == 0).sum()) for _ in range(40)) == 36


def test_exact_zeros_are_told_apart_by_how_they_are_written():
    leaf = {"__class_fullname__": PIXEL + "RandomBrightnessContrast", "always_apply": False, "p": 1.0,
            "brightness_by_max": True}  # fmt: skip
    image = recorded()["image"]
    contrast = convert_policy(single({**leaf, "brightness_limit": [0, 0], "contrast_limit": [0.0, 0.0]}))
    assert contrast.document.compose()(image=image)["image"].max() == 0  # the search multiplied by 0
    brightness = convert_policy(single({**leaf, "brightness_limit": [0.0, 0.0], "contrast_limit": [0, 0]}))
    np.testing.assert_array_equal(brightness.document.compose()(image=image)["image"], image)
    with pytest.raises(PolicyError, match="either a brightness or a contrast"):
        convert_policy(single({**leaf, "brightness_limit": [0, 0], "contrast_limit": [0, 0]}))


def test_scale_too_small_to_warp_is_raised_and_said():
    leaf = copy.deepcopy(next(c["uint8"] for c in CASES if c["operation"] == "Scale"))
    leaf["scale_limit"] = [9.99999993922529e-09] * 2
    conversion = convert_policy(single(leaf))
    assert "0.01" in " ".join(conversion.notes)
    (row,) = describe(conversion.document.transform)
    assert row.values["scale.x"] == (0.01, 0.01)
    (row,) = describe(convert_policy(single(leaf), "emitted").document.transform)
    assert "scale.x" not in row.values or row.values["scale.x"] == pytest.approx((1.0, 1.0))


def test_a_channel_shift_is_described_by_its_channel():
    green = next(c for c in CASES if c["operation"] == "ShiftRGB" and any(c["uint8"]["g_shift_limit"]))
    (row,) = describe(convert_policy(single(green["uint8"])).document.transform)
    level = green["uint8"]["g_shift_limit"][0] / 255
    assert {k: v for k, v in row.values.items() if isinstance(v, tuple)} == {
        "noise_params.channel 2": (pytest.approx(level), pytest.approx(level))
    }


def leaf_of(operation, p):
    return {**next(c["uint8"] for c in CASES if c["operation"] == operation), "p": p}


def test_probabilities_of_nested_choices():
    """Weights of a stage are divided by their sum, those of the sub-policies by theirs."""
    first = [[leaf_of("HorizontalFlip", 0.2), leaf_of("RandomContrast", 0.1), {**NOOP, "p": 0.7}]]
    second = [
        [leaf_of("VerticalFlip", 0.3), leaf_of("RandomContrast", 0.6), {**NOOP, "p": 0.3}],  # sum 1.2
        [leaf_of("Scale", 1.0), leaf_of("HorizontalFlip", 0.0)],
    ]
    conversion = convert_policy(policy_file(first, second, weights=[0.1, 0.3]))
    rows = [(r.name, pytest.approx(r.share)) for r in describe(conversion.document.transform)]
    assert rows == [
        ("HorizontalFlip", 0.25 * 0.2), ("RandomBrightnessContrast", 0.25 * 0.1), ("NoOp", 0.25 * 0.7),
        ("VerticalFlip", 0.75 * 0.25), ("RandomBrightnessContrast", 0.75 * 0.5), ("NoOp", 0.75 * 0.25),
        ("Affine", 0.75),
    ]  # fmt: skip
    found = {d.operation: (d.count, d.applications) for d in conversion.differences}
    assert found == {
        "RandomContrast": (2, pytest.approx(0.25 * 0.1 + 0.75 * 0.5)),
        "Scale": (1, pytest.approx(0.75)),
    }
    # And as Albumentations draws them: the mirrored share of a lopsided image.
    flips = convert_policy(
        policy_file([[leaf_of("HorizontalFlip", 0.1), {**NOOP, "p": 0.3}]], weights=[1.0])
    ).document.compose()
    image = np.zeros((4, 4), np.uint8)
    image[:, 0] = 9
    flips.set_random_seed(0)
    share = np.mean([flips(image=image)["image"][0, 3] == 9 for _ in range(4000)])
    assert abs(share - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 4000)


def test_a_real_policy(tmp_path):
    conversion = convert_file(POLICY)
    written = json.loads(POLICY.read_text())["transform"]["transforms"][0]["transforms"]
    weights = [leaf["p"] for branch in written for stage in branch["transforms"] for leaf in stage["transforms"]]
    rows = describe(conversion.document.transform)
    assert len(rows) == len(weights) == 3 * 2 * 15
    assert [3 * r.share for r in rows] == pytest.approx(weights, rel=1e-5, abs=1e-15)
    counts = {d.operation: d.count for d in conversion.differences}
    assert counts["RandomContrast"] == counts["Scale"] == 6
    assert counts["Cutout, never sampled"] == 4  # two stages of the third sub-policy, two cutouts each
    facts = conversion.document.provenance.model_dump()
    assert facts["source_sha256"] == hashlib.sha256(POLICY.read_bytes()).hexdigest()
    assert (facts["reading"], facts["family"]) == ("searched", "searched")
    assert convert_file(POLICY, "emitted").document.content_hash != conversion.document.content_hash
    conversion.document.save(tmp_path / "p.json")
    assert load_policy(tmp_path / "p.json").content_hash == conversion.document.content_hash
    for seed in range(20):
        compose = A.load(tmp_path / "p.json")
        compose.set_random_seed(seed)
        out = compose(image=np.full((200, 256, 3), 100, np.uint8), mask=np.ones((200, 256), np.uint8))
        assert out["image"].shape == (200, 256, 3)
        assert set(np.unique(out["mask"])) <= {0, 1}


def test_names_of_albumentations_1_are_read_as_well():
    old = json.loads(POLICY.read_text())
    text = json.dumps({**old, "__version__": "1.3.1"}).replace("albumentations.pytorch.transforms.", "")
    for path in (CORE, PIXEL, "albumentations.core.transforms_interface."):
        text = text.replace(path, "")
    new = json.loads(text.replace('"border_mode": 4', '"rotate_method": "largest_box", "border_mode": 4'))
    new["transform"]["is_check_shapes"] = True
    assert convert_policy(new).document.content_hash == convert_policy(old).document.content_hash


def spoil(place, value, leaf="Rotate"):
    content = single(leaf_of(leaf, 1.0))
    node = content
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    return content


LEAF = ("transform", "transforms", 0, "transforms", 0, "transforms", 0, "transforms", 0)
HOSTILE = {
    "not an object": ([], "an object with the key 'transform'"),
    "of 2.0.8": (spoil(["__version__"], "2.0.8"), "needs no conversion"),
    "no version": (spoil(["__version__"], None), "__version__"),
    "no compose": (spoil(["transform", "__class_fullname__"], "albumentations.OneOf"), "expected a Compose"),
    "boxes": (spoil(["transform", "bbox_params"], {"format": "coco"}), "no boxes"),
    "no policy": (spoil(["transform", "transforms"], []), "expected one OneOf"),
    "transforms are text": (spoil(["transform", "transforms"], "abc"), "expected one OneOf"),
    "flat": (spoil([*LEAF[:5], "__class_fullname__"], CORE + "OneOf"), "expected Sequential"),
    "empty stage": (spoil([*LEAF[:7], "transforms"], []), "at least one"),
    "leaf is a number": (spoil(LEAF, 7), "expected a transform"),
    "unknown class": (spoil([*LEAF, "__class_fullname__"], PIXEL + "Blur"), "no operation that writes 'Blur'"),
    "foreign class": (spoil([*LEAF, "__class_fullname__"], "os.NoOp"), "no operation that writes 'os.NoOp'"),
    "unknown argument": (spoil([*LEAF, "shear"], [1, 1]), "shear: AutoAlbument 0.4.0 writes no such argument"),
    "missing argument": (spoil([*LEAF, "rotate_limit"], None), "rotate_limit: expected two finite numbers"),
    "text for a number": (spoil([*LEAF, "rotate_limit"], ["1", "2"]), "expected two finite numbers"),
    "not finite": (spoil([*LEAF, "rotate_limit"], [float("nan")] * 2), r"rotate_limit\[0\]: nan is not a finite"),
    "falling": (spoil([*LEAF, "rotate_limit"], [20, 10]), "rising range"),
    "too large": (spoil([*LEAF, "rotate_limit"], [500, 500]), "within -180 … 180"),
    "two movements": (spoil([*LEAF, "shift_limit_x"], [0.5, 0.5]), "expected one movement"),
    "other border": (spoil([*LEAF, "border_mode"], 0), "expected 4, found 0"),
    "always": (spoil([*LEAF, "always_apply"], True), "expected False, found True"),
    "probability": (spoil([*LEAF, "p"], 1.5), "probability from 0 to 1"),
    "probability is true": (spoil([*LEAF, "p"], True), "probability from 0 to 1"),
    "no weight in a stage": (spoil([*LEAF, "p"], 0.0), "weight 0 for every operation"),
    "no weight at all": (spoil([*LEAF[:5], "p"], 0.0), "every branch has weight 0"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_what_autoalbument_did_not_write_is_refused(name):
    content, message = HOSTILE[name]
    with pytest.raises(PolicyError, match=message):
        convert_policy(content, source="f.json")


def test_holes_without_number_and_damaged_files_are_refused(tmp_path):
    with pytest.raises(PolicyError, match="max_holes: expected a whole number"):
        convert_policy(single({**cutout(1, 3), "max_holes": 2.5}))
    with pytest.raises(PolicyError, match="min_height: expected 3, found 2"):
        convert_policy(single({**cutout(1, 3), "min_height": 2}))
    with pytest.raises(PolicyError, match="cannot read"):
        convert_file(tmp_path / "missing.json")
    for text in ("{", "[" * 100_000):
        (tmp_path / "broken.json").write_text(text)
        with pytest.raises(PolicyError, match="not JSON"):
            convert_file(tmp_path / "broken.json")

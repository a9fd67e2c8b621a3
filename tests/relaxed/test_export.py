"""Emitted policies: what was searched is what Albumentations does."""

from __future__ import annotations

import json
from pathlib import Path

import albumentations as A
import numpy as np
import pytest
import torch

from policy_search.augment import Provenance, load_policy
from policy_search.relaxed.catalogue import CATALOGUE, operations
from policy_search.relaxed.crops import CropSampler
from policy_search.relaxed.export import export_policy, to_compose
from policy_search.relaxed.operations import PLAN
from policy_search.relaxed.policy import RelaxedPolicy
from policy_search.relaxed.search import SearchResult, SearchSettings
from tests.relaxed.textures import culture


def make(plan: object = PLAN, spread: float = 1.0, sub_policies: int = 3, names: tuple[str, ...] = ()) -> RelaxedPolicy:
    generator = torch.Generator().manual_seed(5)
    return RelaxedPolicy(operations(*names), sub_policies=sub_policies, plan=plan, generator=generator, spread=spread)  # type: ignore[arg-type]


def test_weights_wrap_gates() -> None:
    policy = make(sub_policies=1)
    table = policy.table()
    compose = to_compose(policy, 130, least=0.0)
    for stage, one_of in enumerate(compose.transforms[0].transforms):
        allowed = torch.nonzero(policy.allowed[stage])[:, 0].tolist()
        assert len(one_of.transforms) == len(allowed)
        for k, branch in zip(allowed, one_of.transforms, strict=True):
            assert branch.p == pytest.approx(table.weight[0, stage, k].item(), rel=1e-4)
            assert branch.transforms[0].p == pytest.approx(table.gate[0, stage, k].item(), rel=1e-4)


def test_negligible_branches_are_dropped_but_never_all() -> None:
    policy = make(names=("brightness", "gamma", "contrast"), spread=0.0, sub_policies=1)
    with torch.no_grad():
        policy.base["choice"][0] = torch.tensor([10.0, 0.0, 10.0])
    (one_of,) = to_compose(policy, 130).transforms[0].transforms
    assert [type(branch.transforms[0]).__name__ for branch in one_of.transforms] == [
        "RandomBrightnessContrast",
        "ColorJitter",
    ]
    assert sum(one_of.transforms_ps) == pytest.approx(1.0)
    (one_of,) = to_compose(policy, 130, least=0.9).transforms[0].transforms
    assert len(one_of.transforms) >= 1


def test_ranges_are_emitted_as_learnt() -> None:
    policy = make(names=("scale",), spread=0.0, sub_policies=1)
    affine = to_compose(policy, 77).transforms[0].transforms[0].transforms[0].transforms[0]
    assert affine.scale["x"] == pytest.approx((0.87, 1.15), rel=1e-4)
    assert affine.keep_ratio
    assert (affine.fill, affine.fill_mask) == (77, 0)


def test_the_document_loads_and_carries_its_provenance(tmp_path: Path) -> None:
    statistics = CropSampler([culture(0)]).statistics()
    result = SearchResult(make(), [], statistics, SearchSettings(), seed=4)
    document = export_policy(result, Provenance(name="first", data="A172"))
    path = tmp_path / "policy.json"
    document.save(path)
    again = load_policy(path)
    assert again.content_hash == document.content_hash
    assert (again.provenance.family, again.provenance.seed, again.provenance.data) == ("searched", 4, "A172")
    # Albumentations alone reads it too, and writes it back unchanged.
    plain = A.load(str(path))
    assert json.loads(json.dumps(A.to_dict(plain)["transform"])) == document.transform
    image, mask = culture(0, size=96)
    out = plain(image=image, mask=mask.astype(np.uint8))
    assert out["image"].shape == image.shape
    assert out["image"].dtype == np.uint8


def test_more_holes_for_larger_images() -> None:
    (cutout,) = operations("cutout")
    assert cutout in CATALOGUE
    policy = make(names=("cutout",), sub_policies=1)
    dropout = to_compose(policy, 130, holes=9).transforms[0].transforms[0].transforms[0].transforms[0]
    assert dropout.num_holes_range == (9, 9)
    result = SearchResult(policy, [], CropSampler([culture(0)]).statistics(), SearchSettings(crop=32), seed=0)
    # Means of the areas, in crops: 4 and 8, and three channels count once.
    images = [np.zeros((64, 64), np.uint8), np.zeros((64, 128, 3), np.uint8)]
    for given, holes in (([], 1), (images[:1], 4), (images, 6)):
        text = json.dumps(export_policy(result, images=given).transform)
        assert f'"num_holes_range": [{holes}, {holes}]' in text


def test_light_falls_as_steeply_on_larger_images() -> None:
    policy = make(names=("illumination",), spread=0.0, sub_policies=1)
    result = SearchResult(policy, [], CropSampler([culture(0)]).statistics(), SearchSettings(), seed=0)
    for extent in (1.0, 1.5):
        expected = (0.03 * extent, 0.1 * extent)
        light = to_compose(policy, 130, extent=extent).transforms[0].transforms[0].transforms[0].transforms[0]
        assert light.intensity_range == pytest.approx(expected, rel=1e-4)
        side = round(extent * result.settings.crop)
        images = [np.zeros((side // 2, 2 * side), np.uint8)] if extent > 1 else []
        stages = export_policy(result, images=images).transform["transforms"][0]["transforms"][0]
        assert stages["transforms"][0]["transforms"][0]["intensity_range"] == pytest.approx(expected, rel=1e-4)

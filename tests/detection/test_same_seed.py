"""Every policy goes through one code path, and the same seed gives the same weights and scores twice."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("detectron2", reason="detectron2 is not installed: make setup")

import detection.run_key
import detection.testing_on
from detection.checkpoint import load_checkpoint, save_checkpoint
from detection.config import FinetuneConfig
from detection.finetune import finetune
from detection.model import build_model
from policy_search.augment import BASELINES, Provenance
from policy_search.relaxed.catalogue import operations
from policy_search.relaxed.crops import CropSampler
from policy_search.relaxed.export import export_policy
from policy_search.relaxed.policy import RelaxedPolicy
from policy_search.relaxed.search import SearchResult, SearchSettings
from tests.detection.culture import MICRO, culture


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    path = tmp_path_factory.mktemp("base") / "model.pth"
    save_checkpoint(path, build_model(MICRO.model_copy(update={"score_threshold": 0.0}), 5),
                    MICRO.model_copy(update={"score_threshold": 0.0}), {})  # fmt: skip
    return path


@pytest.fixture(autouse=True)
def ellipses(monkeypatch):
    def resolve(data, split="train", root=None, **_):
        return culture(("A172",), images=2 if split == "train" else 1, split=split, seed=split == "train")

    for module in (detection.run_key, detection.testing_on):
        monkeypatch.setattr(module, "resolve", resolve)


def run(tmp_path, base, policy, number) -> tuple[str, list[tuple[object, ...]]]:
    """Weights and scores of a run in a folder and a database of its own."""
    config = FinetuneConfig(
        data="A172", weights=base, policy=policy, iterations=3, crop=64, out=tmp_path / f"run{number}",
        results=tmp_path / f"{number}.sqlite", lr=5e-3, warmup=0,
    )  # fmt: skip
    outcome = finetune(config)
    assert not outcome.skipped
    rows = [tuple(r.model_dump(exclude={"date", "seconds"}).values()) for r in outcome.results]
    return load_checkpoint(config.out / "model.pth").content_hash, rows


def test_naive_strategies_give_the_same_twice_and_differ_from_none(tmp_path, base):
    found = {}
    for name in BASELINES:
        (tmp_path / name).mkdir()
        first, second = (run(tmp_path / name, base, name, number) for number in (1, 2))
        assert first == second, name
        assert first[1][0] is not None
        found[name] = first[0]
    assert len(found) >= 8
    assert all(found[name] != found["none"] for name in found if name != "none")


def test_a_searched_policy_goes_the_same_way(tmp_path, base):
    generator = torch.Generator().manual_seed(5)
    learnt = RelaxedPolicy(operations(), sub_policies=2, generator=generator, spread=1.0)
    images = culture()
    pairs = [(images.image(r), images.instances(r).foreground()) for r in images.records]
    statistics = CropSampler(pairs).statistics()
    result = SearchResult(learnt, [], statistics, SearchSettings(), seed=4)
    path = tmp_path / "searched.json"
    export_policy(result, Provenance(name="searched", data="A172")).save(path)
    first, second = (run(tmp_path, base, str(path), number) for number in (1, 2))
    assert first == second
    assert first[0] != run(tmp_path, base, "none", 3)[0]

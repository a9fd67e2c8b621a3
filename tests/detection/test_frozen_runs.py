"""Options of `finetune` that keep something on disk: features of the frozen network, and the training set itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

pytest.importorskip("detectron2", reason="detectron2 is not installed: make setup")

import detection.run_key
import detection.testing_on
from detection.checkpoint import load_checkpoint, save_checkpoint
from detection.config import FinetuneConfig
from detection.finetune import finetune
from detection.model import build_model
from detection.watcher import Watcher
from policy_search.cells import resolve as resolve_files
from tests.detection.culture import MICRO, culture


@pytest.fixture
def config(tmp_path, monkeypatch):
    def resolve(data, split="train", root=None, **options):
        if ".json" in data:
            return resolve_files(data, split, root, **options)
        return culture(("A172",), images=2 if split == "train" else 1, split=split, seed=split == "train")

    for module in (detection.run_key, detection.testing_on):
        monkeypatch.setattr(module, "resolve", resolve)
    save_checkpoint(tmp_path / "base.pth", build_model(MICRO, 5), MICRO, {})

    def configured(name: str, **changes: object) -> FinetuneConfig:
        values = {
            "data": "A172", "weights": tmp_path / "base.pth", "policy": "simple_copy_paste", "iterations": 6, "crop": 0,
            "out": tmp_path / name, "results": tmp_path / f"{name}.sqlite", "evaluate": "A172",
        }  # fmt: skip
        return FinetuneConfig(**{**values, **changes})

    return configured


def weights_after(run: FinetuneConfig) -> tuple[str, list[str]]:
    said: list[str] = []
    finetune(run, Watcher(say=said.append))
    return load_checkpoint(run.out / "model.pth").content_hash, said


def test_cached_features_change_nothing_and_are_used(config, tmp_path: Path) -> None:
    plain, _ = weights_after(config("plain"))
    cached, said = weights_after(config("cached", feature_cache=tmp_path / "features"))
    assert cached == plain
    # Twelve visits of six images: two of the source, three draws each.
    assert f"feature cache: 6 of 12 images were there; 0.00 GB in {tmp_path / 'features'}" in said
    assert len(list((tmp_path / "features").rglob("*.features"))) == 6
    free, _ = weights_after(config("free", unfreeze=True))
    assert free != plain


def test_a_materialized_set_trains_the_same(config, tmp_path: Path) -> None:
    plain, _ = weights_after(config("plain"))
    written, said = weights_after(config("written", materialize=tmp_path / "set"))
    assert written == plain
    (sentence,) = [text for text in said if text.startswith("training set: ")]
    options = dict(zip(sentence.split()[-8::2], sentence.split()[-7::2], strict=True))
    assert set(options) == {"--policy", "--factor", "--data", "--eval"}
    again = config(
        "again", data=options["--data"], policy=options["--policy"], factor=int(options["--factor"]),
        evaluate=options["--eval"],
    )  # fmt: skip
    assert weights_after(again)[0] == plain


@pytest.mark.parametrize(("changes", "message"), [
    ({"crop": 64}, "needs whole images"),
    ({"unfreeze": True}, "needs a frozen backbone"),
])  # fmt: skip
def test_a_cache_that_cannot_help_is_refused(config, changes, message) -> None:
    with pytest.raises(ValidationError, match=message):
        config("x", feature_cache="features", **changes)

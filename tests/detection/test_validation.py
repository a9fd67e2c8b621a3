"""The best weights by validation AP50: kept, stopped on, and never chosen on test images."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("detectron2", reason="detectron2 is not installed: make setup")

import detection.finetune
import detection.job
import detection.pretrain
import detection.run_key
import detection.testing_on
import detection.validation
from detection.checkpoint import load_checkpoint, save_checkpoint
from detection.config import FinetuneConfig, PretrainConfig
from detection.evaluate import Evaluation
from detection.finetune import finetune
from detection.model import build_model
from detection.presets import Preset
from detection.pretrain import pretrain
from detection.recipe import Recipe
from detection.resume import Standing
from detection.store import Scores, Store
from detection.validation import after_validation, mean_ap50, validation_images
from detection.watcher import Watcher
from policy_search.cells.errors import InputError
from tests.detection.culture import MICRO, culture


@pytest.fixture
def asked(monkeypatch) -> list[tuple[str, str]]:
    """Ellipses everywhere; which data and split was asked for."""
    found: list[tuple[str, str]] = []
    monkeypatch.setattr("detection.presets.PRESETS", {"tiny": Preset(MICRO, Recipe(), Recipe())})

    def resolve(data, split="train", root=None, *, missing_ok=False):
        found.append((data, split))
        types = {"all": ("A172", "BT474"), "nothing": ()}.get(data, (data,))
        return culture(types, images=1, split=split, seed=("train", "val", "test").index(split))

    for module in (detection.run_key, detection.testing_on, detection.pretrain, detection.validation):
        monkeypatch.setattr(module, "resolve", resolve)
    return found


def config_for(tmp_path, **changes) -> PretrainConfig:
    values = {"data": "A172", "out": tmp_path / "run", "crop": 64, "iterations": 6, "validate_on": "BT474",
              "validate_every": 2}  # fmt: skip
    return PretrainConfig(**{**values, **changes})


def scoring(monkeypatch, values: list[float]) -> list[dict[str, torch.Tensor]]:
    """Let validation find these AP50 in turn; gives back the weights it saw."""
    seen: list[dict[str, torch.Tensor]] = []

    def score(model, images):
        seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        model.train()  # what scoring leaves behind must not reach a frozen network
        return values[len(seen) - 1]

    monkeypatch.setattr(detection.job, "mean_ap50", score)
    return seen


def same(state, other) -> bool:
    return all(torch.equal(state[name], other[name]) for name in state)


def test_best_is_the_best_and_model_is_the_last(tmp_path, asked, monkeypatch):
    seen = scoring(monkeypatch, [0.2, 0.5, 0.5])
    told: list[tuple[int, float, bool]] = []
    path = pretrain(config_for(tmp_path), Watcher(validated=lambda *a: told.append(a)))
    assert told == [(2, 0.2, True), (4, 0.5, True), (6, 0.5, False)]
    assert path == tmp_path / "run/best.pth"
    best, last = load_checkpoint(path), load_checkpoint(tmp_path / "run/model.pth")
    assert same(best.state, seen[1])
    assert same(last.state, seen[2])
    assert not same(best.state, last.state)
    assert best.made["validation"]["iteration"] == 4
    assert best.made["validation"]["ap50"] == 0.5
    assert last.made["iterations"] == 6


def test_training_stops_when_nothing_gets_better(tmp_path, asked, monkeypatch):
    scoring(monkeypatch, [0.3, 0.1, 0.2, 0.9])
    steps: list[int] = []
    pretrain(config_for(tmp_path, iterations=20, patience=2), Watcher(step=lambda done, *_: steps.append(done)))
    assert steps == [1, 2, 3, 4, 5, 6]
    assert load_checkpoint(tmp_path / "run/best.pth").made["validation"]["iteration"] == 2


def test_an_interrupted_validating_training_ends_alike(tmp_path, asked, monkeypatch):
    def score(model, images):
        return float(model.roi_heads.mask_head.predictor.weight.abs().sum()) % 1

    monkeypatch.setattr(detection.job, "mean_ap50", score)

    class Crash(Exception):
        pass

    def crash(done, *_):
        if done == 5:
            raise Crash

    whole = config_for(tmp_path, iterations=8, validate_every=1, save_every=0)
    pretrain(whole)
    cut = whole.model_copy(update={"out": tmp_path / "cut"})
    with pytest.raises(Crash):
        pretrain(cut, Watcher(step=crash))
    pretrain(cut)
    for name in ("best.pth", "model.pth"):
        assert load_checkpoint(tmp_path / "run" / name).content_hash == load_checkpoint(cut.out / name).content_hash
    made = [load_checkpoint(out / "best.pth").made["validation"] for out in (whole.out, cut.out)]
    assert made[0] == made[1]


def test_validation_changes_nothing_in_training_not_even_of_a_frozen_network(tmp_path, asked):
    save_checkpoint(tmp_path / "base.pth", build_model(MICRO, 5), MICRO, {})
    common = {"data": "A172", "weights": tmp_path / "base.pth", "policy": "none", "iterations": 4, "crop": 64,
              "results": tmp_path / "r.sqlite", "evaluate": "BT474"}  # fmt: skip
    plain = FinetuneConfig(**common, out=tmp_path / "plain")
    validated = FinetuneConfig(**common, out=tmp_path / "validated", validate_on="A172", validate_every=1)
    finetune(plain)
    asked.clear()
    finetune(validated)
    hashes = [load_checkpoint(c.out / "model.pth").content_hash for c in (plain, validated)]
    assert hashes[0] == hashes[1]
    assert len({r.config_hash for r in Store(plain.results).all()}) == 2
    assert asked == [("A172", "train"), ("A172", "val"), ("BT474", "test")]


def test_test_images_are_not_read_before_training_is_over(tmp_path, asked, monkeypatch):
    save_checkpoint(tmp_path / "base.pth", build_model(MICRO, 5), MICRO, {})
    read: list[str] = []
    inner = detection.run_key.resolve

    def spying(*arguments, **options):
        found = inner(*arguments, **options)
        image = found.reader.image
        found.reader.image = lambda record: (read.append(record.split), image(record))[1]
        return found

    for module in (detection.run_key, detection.testing_on, detection.validation):
        monkeypatch.setattr(module, "resolve", spying)
    config = FinetuneConfig(
        data="A172", weights=tmp_path / "base.pth", policy="none", iterations=4, crop=64, out=tmp_path / "run",
        results=tmp_path / "r.sqlite", validate_on="BT474", validate_every=2, evaluate="all",
    )  # fmt: skip
    finetune(config, Watcher(validated=lambda *_: read.append("validated")))
    assert read.count("validated") == 2
    last = len(read) - 1 - read[::-1].index("validated")
    assert set(read[:last]) == {"train", "val", "validated"}
    assert set(read[last + 1 :]) == {"test"}


def test_the_tested_weights_are_the_best(tmp_path, asked, monkeypatch):
    save_checkpoint(tmp_path / "base.pth", build_model(MICRO, 5), MICRO, {})
    seen = scoring(monkeypatch, [0.9, 0.1])
    tested = []

    def note(model, *_, **__):
        tested.append({n: t.clone() for n, t in model.state_dict().items()})
        empty = dict.fromkeys(("ap", "ap50", "ap75", "aps", "apm", "apl", "ar"), 0.5)
        scores = Scores(**empty, images=1, cells=1, detections=1)
        return Evaluation({"BT474": scores}, {"BT474": {"W": scores}}, False, {"BT474": []})

    monkeypatch.setattr(detection.finetune, "evaluate_wells", note)
    finetune(
        FinetuneConfig(
            data="A172",
            weights=tmp_path / "base.pth",
            policy="none",
            iterations=4,
            crop=64,
            out=tmp_path / "run",
            results=tmp_path / "r.sqlite",
            validate_on="A172",
            validate_every=2,
            evaluate="BT474",
        )
    )
    assert same(seen[0], tested[0])
    assert not same(seen[1], tested[0])


def test_standing_after_validation():
    begun = after_validation(Standing(10), 0.4, 2)
    assert begun == Standing(10, 0.4, 10, 0, False)
    equal = after_validation(begun._replace(iteration=20), 0.4, 2)
    assert equal == Standing(20, 0.4, 10, 1, False)
    assert after_validation(equal._replace(iteration=30), 0.3, 2) == Standing(30, 0.4, 10, 2, True)
    assert after_validation(equal._replace(iteration=30), 0.3, 0) == Standing(30, 0.4, 10, 2, False)
    assert after_validation(equal._replace(iteration=30), 0.5, 2) == Standing(30, 0.5, 30, 0, False)


def test_the_mean_is_over_types_with_cells(monkeypatch):
    rest = dict.fromkeys(("ap", "ap75", "aps", "apm", "apl", "ar"))
    found = {t: Scores(**rest, ap50=v, images=1, cells=1, detections=0) for t, v in zip("abc", (0.2, None, 0.6))}  # noqa: B905
    monkeypatch.setattr(detection.validation, "evaluate", lambda *_: found)
    assert mean_ap50(None, culture()) == pytest.approx(0.4)
    found = {"b": found["b"]}
    with pytest.raises(InputError, match="hold no cell"):
        mean_ap50(None, culture())


def test_nothing_to_validate_on_is_said(tmp_path, asked):
    with pytest.raises(InputError, match="--validate-on nothing: it has no labelled validation image"):
        validation_images("nothing", None)
    with pytest.raises(ValueError, match="patience needs validate_on"):
        config_for(tmp_path, validate_on=None, patience=3)

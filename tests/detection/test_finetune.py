"""Training: same seed same weights, freezing freezes, results are stored once, a divergence is named."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("detectron2", reason="detectron2 is not installed: make setup")

from detectron2.utils.events import EventStorage

import detection.evaluate
import detection.pretrain
import detection.run_key
import detection.testing_on
import detection.training
import detection.validation
from detection.checkpoint import hash_state, load_checkpoint, save_checkpoint
from detection.config import FinetuneConfig, PretrainConfig
from detection.dataset import Crops, TrainingSet
from detection.evaluate import find_cells
from detection.failures import TrainingDivergedError
from detection.finetune import finetune
from detection.mapper import batches
from detection.model import build_model, freeze_bottom_up
from detection.optimizer import learning_rate, optimizer_of
from detection.presets import Preset
from detection.pretrain import pretrain
from detection.recipe import Recipe
from detection.store import Store
from detection.training import fit, iterations_of
from detection.watcher import Watcher
from policy_search.augment import baseline
from policy_search.cells.errors import InputError
from tests.detection.culture import MICRO, culture


@pytest.fixture(autouse=True)
def small_world(monkeypatch):
    """Every dataset is ellipses, the tiny preset is smaller still."""
    monkeypatch.setattr("detection.presets.PRESETS", {"tiny": Preset(MICRO, Recipe(), Recipe())})

    def resolve(data, split="train", root=None, *, missing_ok=False):
        types = {"all": ("A172", "BT474"), "nothing": ()}.get(data, (data,))
        return culture(types, images=2 if split == "train" else 1, split=split, seed=split == "train")

    for module in (
        detection.run_key, detection.testing_on, detection.pretrain, detection.validation, detection.evaluate,
    ):  # fmt: skip
        monkeypatch.setattr(module, "resolve", resolve)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("base") / "model.pth"
    save_checkpoint(path, build_model(MICRO, 5), MICRO, {})
    return str(path)


def config_for(tmp_path, base, **changes) -> FinetuneConfig:
    values = {
        "data": "A172", "out": tmp_path / "run", "weights": base, "policy": "none", "iterations": 2, "crop": 64,
        "results": tmp_path / "r.sqlite", "evaluate": "all",
    }  # fmt: skip
    return FinetuneConfig(**{**values, **changes})


def trained(seed: int = 0, *, iterations: int = 3, frozen: bool = False):
    config = PretrainConfig(data="A172", out="unused", seed=seed, crop=64, iterations=iterations)
    model = build_model(MICRO, seed)
    if frozen:
        freeze_bottom_up(model)
    crops = Crops(TrainingSet(culture(), None, seed, factor=1), 64, seed, 2 * iterations)
    fit(model, crops, config, watcher=Watcher(), log_dir=None)
    return model


def test_same_seed_same_weights_whatever_the_global_generators_say():
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    first = hash_state(trained(3).state_dict())
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    before = torch.get_rng_state()
    assert hash_state(trained(3).state_dict()) == first
    assert torch.equal(torch.get_rng_state(), before)
    assert hash_state(trained(4).state_dict()) != first


def test_frozen_means_weights_and_statistics_of_the_bottom_up_network_alone():
    before = build_model(MICRO, 0).state_dict()
    after = trained(0, frozen=True).state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert not any(name.startswith("backbone.bottom_up") for name in changed)
    for part in ("backbone.fpn_lateral2", "backbone.fpn_output4", "proposal_generator", "roi_heads.box_head.2",
                 "roi_heads.mask_head"):  # fmt: skip
        assert any(name.startswith(part) for name in changed), part
    free = trained(0).state_dict()
    moved = {n for n in before if n.startswith("backbone.bottom_up") and not torch.equal(before[n], free[n])}
    assert any(n.endswith("running_mean") for n in moved)
    assert any(n.endswith("conv1.weight") for n in moved)


def test_the_network_learns_where_cells_are_and_reports_every_iteration():
    seen: list[tuple[int, int, float]] = []
    config = PretrainConfig(data="A172", out="unused", crop=64, iterations=40, warmup=5, lr=3e-3)
    crops = Crops(TrainingSet(culture(images=1), None, 0, factor=1), 64, 0, 80)
    model = build_model(MICRO)

    def proposal_loss() -> float:
        # The cascade's own losses grow at first, with the number of regions that its later stages get to see.
        torch.manual_seed(0)
        with torch.no_grad(), EventStorage(0):
            losses = model(next(iter(batches(crops, 1, 8))))
        return float(losses["loss_rpn_cls"] + losses["loss_rpn_loc"])

    before = proposal_loss()
    fit(model, crops, config, watcher=Watcher(step=lambda *a: seen.append(a)), log_dir=None)
    assert proposal_loss() < 0.8 * before
    assert [s[:2] for s in seen] == [(k, 40) for k in range(1, 41)]


def test_schedule_and_optimizer():
    recipe = Recipe(warmup=10)
    rates = [learning_rate(i, 100, recipe) for i in range(100)]
    assert rates[0] == pytest.approx(1 / 11)
    assert max(rates) == rates[10] == 1.0
    assert rates[55] == pytest.approx(0.505)
    assert rates[99] == pytest.approx(0.01, abs=0.002)
    assert learning_rate(5, 3, recipe) < 1  # warm-up longer than the training
    config = PretrainConfig(data="A172", out="unused", weight_decay=0.3)
    groups = optimizer_of(build_model(MICRO), config).param_groups
    assert {(g["weight_decay"], p.ndim > 1) for g in groups for p in g["params"]} == {(0.3, True), (0.0, False)}
    assert iterations_of(config.model_copy(update={"iterations": None, "epochs": 15, "batch": 2}), 7) == 53
    assert iterations_of(config.model_copy(update={"iterations": 9}), 7) == 9


def test_the_rate_follows_the_schedule(monkeypatch):
    monkeypatch.setattr(detection.training, "learning_rate", lambda i, *_: 1.0 if i == 0 else 0.0)
    one, three = trained(iterations=1), trained(iterations=3)
    for (name, a), b in zip(one.named_parameters(), three.parameters(), strict=True):
        assert torch.equal(a, b), name


def test_what_a_result_depends_on_is_in_its_identity(tmp_path, base):
    config = config_for(tmp_path, base)
    own = config.identity("w", "f")
    elsewhere = {"out": tmp_path, "seed": 9, "policy": "flip", "workers": 2, "force": True, "evaluate": "BT474"}
    assert config.model_copy(update=elsewhere).identity("w", "f") == own
    assert len({own, config.identity("x", "f"), config.identity("w", "g")}) == 3
    for change in ({"lr": 1e-5}, {"factor": 2}, {"unfreeze": True}, {"epochs": 3}, {"crop": 128}, {"batch": 1}):
        assert config.model_copy(update=change).identity("w", "f") != own, change


def test_finetune_starts_from_the_base_and_freezes_it_unless_told_not_to(tmp_path, base):
    start = load_checkpoint(base).state
    names = [n for n in start if n.startswith("backbone.bottom_up")]
    finetune(config_for(tmp_path, base, out=tmp_path / "frozen"))
    frozen = load_checkpoint(tmp_path / "frozen/model.pth").state
    assert all(torch.equal(start[n], frozen[n]) for n in names)
    assert any(not torch.equal(start[n], frozen[n]) for n in start)
    finetune(config_for(tmp_path, base, out=tmp_path / "free", unfreeze=True))
    free = load_checkpoint(tmp_path / "free/model.pth").state
    assert any(not torch.equal(start[n], free[n]) for n in names)


def test_loading_weights_runs_no_code(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "exploded"),))

    torch.save({"format": 1, "model": Bomb(), "config": MICRO.model_dump_json(), "made": "{}"}, tmp_path / "bomb.pth")
    with pytest.raises(InputError, match="not a weights file"):
        load_checkpoint(tmp_path / "bomb.pth")
    assert not (tmp_path / "exploded").exists()


def test_each_detection_is_compared_with_its_own_image(monkeypatch):
    data = culture(("A172", "BT474"), images=2)
    truth = {data.image(r).tobytes(): data.instances(r) for r in data.records}

    def know_all(_, image):
        cells = list(truth[image.tobytes()])
        return cells, [0.9] * len(cells)

    monkeypatch.setattr(detection.evaluate, "find_cells", know_all)
    scores = detection.evaluate.evaluate(None, data)
    assert {t: (s.ap, s.images, s.cells, s.detections) for t, s in scores.items()} == {
        "A172": (1.0, 2, 24, 24),
        "BT474": (1.0, 2, 24, 24),
    }


def test_a_divergence_is_named_with_its_iteration_and_losses(tmp_path):
    model = build_model(MICRO)
    torch.nn.init.constant_(model.roi_heads.mask_head.predictor.bias, float("nan"))
    crops = Crops(TrainingSet(culture(), None, 0, factor=1), 64, 0, 8)
    config = PretrainConfig(data="A172", out="unused", crop=64)
    with pytest.raises(
        TrainingDivergedError, match=r"loss is not finite at iteration 1: .*loss_cls_stage0 .*loss_mask nan"
    ):
        fit(model, crops, config, watcher=Watcher(), log_dir=None)
    torch.nn.init.constant_(model.proposal_generator.rpn_head.anchor_deltas.bias, float("inf"))
    with pytest.raises(TrainingDivergedError, match="iteration 1"):
        fit(model, crops, config, watcher=Watcher(), log_dir=None)


def test_pretrain_writes_what_evaluate_reads(tmp_path):
    config = PretrainConfig(data="A172", out=tmp_path / "base", iterations=2, crop=64, seed=7)
    said: list[str] = []
    path = pretrain(config, Watcher(say=said.append))
    assert PretrainConfig.model_validate_json((tmp_path / "base/config.json").read_text()) == config
    assert list((tmp_path / "base/tensorboard").iterdir())
    loaded = load_checkpoint(path)
    assert loaded.config == MICRO
    assert loaded.made["config"]["seed"] == 7
    assert loaded.made["source"] == "A172"
    assert "2 iterations" in said[0]
    model = build_model(loaded.config, seed=1)
    model.load_state_dict(loaded.state)
    assert hash_state(model.state_dict()) == loaded.content_hash
    found = detection.evaluate.run_evaluation(
        detection.evaluate.EvaluateConfig(weights=path, data="all", out=tmp_path / "scores")
    )
    assert list(found.types) == ["A172", "BT474"]
    assert found.synthetic is False
    assert json.loads((tmp_path / "scores/scores.json").read_text())["scores"]["BT474"]["cells"] == 12


def test_finetune_stores_one_row_per_type_and_skips_what_is_there(tmp_path, base, monkeypatch):
    config = config_for(tmp_path, base)
    first = finetune(config)
    assert not first.skipped
    rows = Store(config.results).all()
    assert {r.cell_type: r.seen for r in rows} == {"A172": True, "BT474": False}
    assert {(r.source, r.policy, r.policy_hash) for r in rows} == {("A172", "none", baseline("none").content_hash)}
    assert FinetuneConfig.model_validate_json((tmp_path / "run/config.json").read_text()) == config
    assert load_checkpoint(tmp_path / "run/model.pth").config == MICRO

    calls: list[int] = []
    counting = Watcher(step=lambda *_: calls.append(1))
    again = finetune(config.model_copy(update={"out": tmp_path / "other"}), counting)
    assert again.skipped
    assert again.results == first.results
    assert not calls
    assert not (tmp_path / "other").exists()
    fewer = finetune(config.model_copy(update={"evaluate": "BT474"}), counting)
    assert [r.cell_type for r in fewer.results] == ["BT474"]
    assert not calls

    forced = finetune(config.model_copy(update={"force": True}), counting)
    assert len(calls) == 2
    assert [r.ap50 for r in forced.results] == [r.ap50 for r in first.results]
    assert len(Store(config.results).all()) == 2
    for change in ({"seed": 1}, {"iterations": 1}, {"policy": "flip"}, {"unfreeze": True}):
        calls.clear()
        assert not finetune(config.model_copy(update=change), counting).skipped, change
        assert calls


def test_a_policy_under_another_name_is_not_run_twice(tmp_path, base):
    finetune(config_for(tmp_path, base, policy="flip"))
    renamed = baseline("flip").with_provenance(name="best")
    renamed.save(tmp_path / "best.json")
    again = finetune(config_for(tmp_path, base, policy=str(tmp_path / "best.json")))
    assert again.skipped
    rows = Store(tmp_path / "r.sqlite").all()
    assert {r.policy for r in rows} == {"flip", "best"}
    assert len({(r.cell_type, r.ap50) for r in rows}) == 2


def test_changed_test_images_are_tested_again(tmp_path, base, monkeypatch):
    config = config_for(tmp_path, base)
    finetune(config)
    inner = detection.testing_on.resolve

    def changed(data, split="train", root=None, **rest):
        found = inner(data, split, root, **rest)
        if split == "test":
            record = found.records[0]
            found.reader.items[record.id] = (255 - found.image(record), found.instances(record))
        return found

    monkeypatch.setattr(detection.testing_on, "resolve", changed)
    assert not finetune(config).skipped


def test_one_image_and_copy_paste_is_noted_in_the_rows(tmp_path, base, monkeypatch):
    inner = detection.run_key.resolve

    def lonely(data, split="train", root=None, **rest):
        found = inner(data, split, root, **rest)
        return replace(found, records=found.records[:1]) if split == "train" else found

    monkeypatch.setattr(detection.run_key, "resolve", lonely)
    said: list[str] = []
    outcome = finetune(config_for(tmp_path, base, policy="simple_copy_paste", iterations=1), Watcher(say=said.append))
    assert all("same image" in r.note for r in outcome.results)
    assert "same image" in said[0]
    assert all(r.note == "" for r in finetune(config_for(tmp_path, base, policy="flip", iterations=1)).results)


def test_bad_input_leaves_nothing_behind(tmp_path, base):
    (tmp_path / "damaged.pth").write_bytes(b"not a model")
    torch.save({"model": {}}, tmp_path / "foreign.pth")
    for changes, message in [
        ({"weights": tmp_path / "missing.pth"}, "no weights at"),
        ({"weights": tmp_path / "damaged.pth"}, "damaged"),
        ({"weights": tmp_path / "foreign.pth"}, "holds no named weights"),
        ({"policy": "fliip"}, "no policy file"),
        ({"device": "abacus"}, "cannot be used here"),
    ]:
        with pytest.raises(InputError, match=message):
            finetune(config_for(tmp_path, base, **changes))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["damaged.pth", "foreign.pth"]


def test_an_interrupted_save_keeps_the_old_weights(tmp_path, monkeypatch):
    path = tmp_path / "model.pth"
    save_checkpoint(path, build_model(MICRO, 0), MICRO, {})
    kept = load_checkpoint(path).content_hash

    def broken(content, file):
        file.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(path, build_model(MICRO, 1), MICRO, {})
    assert load_checkpoint(path).content_hash == kept
    assert [p.name for p in tmp_path.iterdir()] == ["model.pth"]


def test_found_cells_lie_in_the_frame_and_inference_leaves_the_model_as_it_was():
    model = build_model(MICRO.model_copy(update={"score_threshold": 0.0})).train()
    image = np.random.default_rng(0).integers(0, 255, (75, 101), dtype=np.uint8)
    before = hash_state(model.state_dict())
    cells, scores = find_cells(model, image)
    assert model.training
    assert hash_state(model.state_dict()) == before
    assert len(cells) == len(scores) > 5
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) > 1
    for cell in cells:
        x0, y0, x1, y1 = cell.box
        assert 0 <= x0 < x1 <= 101
        assert 0 <= y0 < y1 <= 75
    assert [c.id for c in cells] == list(range(1, len(cells) + 1))
    colour = find_cells(model, np.repeat(image[..., None], 3, axis=2))
    assert colour[1] == pytest.approx(scores)


def test_masks_do_not_depend_on_the_size_of_a_portion(monkeypatch):
    model = build_model(MICRO.model_copy(update={"score_threshold": 0.0}))
    image = np.random.default_rng(1).integers(0, 255, (64, 64), dtype=np.uint8)
    whole = find_cells(model, image)[0]
    monkeypatch.setattr("detection.heads.MASK_CHUNK", 3)
    parts = find_cells(model, image)[0]
    assert len(whole) > 3
    assert [c.box for c in whole] == [c.box for c in parts]

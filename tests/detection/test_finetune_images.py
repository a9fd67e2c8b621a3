"""What a fine-tune keeps of each test image, when it counts as known, and its key without preparing it."""

from __future__ import annotations

import json
import os
import time

import pytest

pytest.importorskip("detectron2", reason="detectron2 is not installed: make setup")

import detection.finetune
import detection.run_key
from detection.checkpoint import save_checkpoint
from detection.config import FinetuneConfig
from detection.finetune import finetune, make_ready
from detection.matches import average_precision, match_images
from detection.model import build_model
from detection.presets import Preset
from detection.recipe import Recipe
from detection.run_key import known, run_key
from detection.store import Store
from detection.watcher import Watcher
from policy_search.cells.errors import InputError
from tests.conftest import write_livecell
from tests.detection.culture import MICRO
from tests.detection.test_store_images import plain


@pytest.fixture
def config(tmp_path, monkeypatch) -> FinetuneConfig:
    monkeypatch.setattr("detection.presets.PRESETS", {"tiny": Preset(MICRO, Recipe(), Recipe())})
    root = write_livecell(
        tmp_path / "data", {"A172": {"train": 2, "val": 1, "test": 3}, "BV2": {"train": 1, "test": 1}}
    )
    # Scores of an untrained network are low: all its detections count.
    network = MICRO.model_copy(update={"score_threshold": 0.0})
    save_checkpoint(tmp_path / "base.pth", build_model(network, 5), network, {})
    return FinetuneConfig(
        data="A172", root=root, out=tmp_path / "run", weights=tmp_path / "base.pth", policy="flip", iterations=1,
        crop=64, results=tmp_path / "r.sqlite", evaluate="all",
    )  # fmt: skip


def listening() -> tuple[Watcher, list[str], list[int]]:
    said: list[str] = []
    steps: list[int] = []
    return Watcher(say=said.append, step=lambda done, *_: steps.append(done)), said, steps


def without_images(store: Store) -> None:
    """As an older program left its rows."""
    with store._connection() as connection:
        connection.execute("DELETE FROM images")


def test_images_are_stored_with_the_rows_and_give_their_ap50(config):
    rows = finetune(config.model_copy(update={"keep_detections": True})).results
    store = Store(config.results, create=False)
    images = store.images(*rows[0].key)
    assert {t: [i.image for i in several] for t, several in images.items()} == {
        "A172": [f"A172_Phase_C{n}.tif" for n in ("1_1_00d00h00m_1", "1_1_00d01h00m_1", "2_1_00d02h00m_1")],
        "BV2": ["BV2_Phase_C1_1_00d00h00m_1.tif"],
    }
    assert [i.well for i in images["A172"]] == ["A172/C1", "A172/C1", "A172/C2"]
    for row in rows:
        several = images[row.cell_type]
        assert average_precision(several) == pytest.approx(row.ap50, abs=1e-9)
        assert sum(i.cells for i in several) == row.cells
        assert sum(len(i.scores) for i in several) == row.detections > 10
        truth = json.loads((config.out / f"test/ground_truth/{row.cell_type}.json").read_text())
        found = json.loads((config.out / f"test/detections/{row.cell_type}.json").read_text())
        wells = {image["id"]: several[n].well for n, image in enumerate(truth["images"])}
        assert plain({"x": match_images(truth, found, wells)}) == plain({"x": several})
    assert not (config.out / "test/scores.json").exists()


def test_detections_are_kept_only_when_asked_for_and_a_known_result_says_that_it_has_none(config):
    finetune(config)
    assert not (config.out / "test").exists()
    watcher, said, steps = listening()
    assert finetune(config.model_copy(update={"keep_detections": True}), watcher).skipped
    assert said == [f"there are no detections in {config.out}/test/detections: --force runs it again and keeps them"]
    assert not steps


def test_rows_without_images_are_tested_again_with_the_model_that_is_there(config):
    first = finetune(config).results
    store = Store(config.results)
    before = plain(store.images(*first[0].key))
    without_images(store)
    assert known(config, store) == []
    watcher, said, steps = listening()
    again = finetune(config, watcher)
    assert not again.skipped
    assert not steps
    assert said[0] == (
        f"the result is in {config.results}, but without what was found in each image: {config.out}/model.pth is "
        "tested again"
    )
    assert plain(store.images(*first[0].key)) == before
    assert [r.model_copy(update={"date": ""}) for r in again.results] == [
        r.model_copy(update={"date": ""}) for r in first
    ]  # the seconds, too, are those of the training
    assert finetune(config).skipped


def test_of_a_validated_run_the_best_model_is_tested_again(config):
    validated = config.model_copy(update={"validate_on": "A172"})
    finetune(validated)
    without_images(Store(config.results))
    watcher, said, steps = listening()
    finetune(validated, watcher)
    assert not steps
    assert f"{config.out}/best.pth is tested again" in said[0]


def other_run(config: FinetuneConfig) -> None:
    finetune(config.model_copy(update={"seed": 1}))


def unfinished_other_run(config: FinetuneConfig) -> None:
    later = time.time() + 5
    os.utime(config.out / "model.pth", (later, later))


def no_model(config: FinetuneConfig) -> None:
    (config.out / "model.pth").unlink()


def no_results(config: FinetuneConfig) -> None:
    (config.out / "results.json").unlink()


def damaged_results(config: FinetuneConfig) -> None:
    (config.out / "results.json").write_text("[1")


@pytest.mark.parametrize("spoil", [other_run, unfinished_other_run, no_model, no_results, damaged_results])
def test_rows_without_images_are_trained_anew_where_their_model_is_gone(config, spoil):
    first = finetune(config).results
    store = Store(config.results)
    spoil(config)
    without_images(store)
    watcher, said, steps = listening()
    assert not finetune(config, watcher).skipped
    assert steps == [1]
    assert f"trained anew, as {config.out} has no finished model of it" in said[0]
    assert store.images(*first[0].key).keys() == {"A172", "BV2"}


def test_images_of_only_some_types_do_not_count(config):
    key = finetune(config).results[0].key
    store = Store(config.results)
    with store._connection() as connection:
        connection.execute("DELETE FROM images WHERE cell_type = 'BV2'")
    assert known(config, store) == []
    assert [r.cell_type for r in known(config.model_copy(update={"evaluate": "A172"}), store)] == ["A172"]
    assert not finetune(config).skipped
    assert store.types_with_images(*key) == {"A172", "BV2"}


@pytest.mark.parametrize("changes", [{}, {"validate_on": "A172"}, {"policy": "none", "seed": 4, "evaluate": "BV2"}])
def test_the_key_is_what_the_result_is_stored_under(config, changes):
    changed = config.model_copy(update=changes)
    store = Store(changed.results)
    assert known(changed, store) == []
    key = run_key(changed)
    assert list(changed.results.parent.glob("run*")) == []
    results = finetune(changed).results
    assert {row.key for row in results} == {key} == {make_ready(changed).key}
    assert store.find(*key) == results
    assert known(changed, store) == results
    others = ({"seed": 9}, {"policy": "crop"}, {"lr": 1e-6}, {"factor": 2}, {"data": "BV2,A172"}, {"unfreeze": True})
    assert len({key, *(run_key(changed.model_copy(update=o)) for o in others)}) == len(others) + 1
    assert run_key(changed.model_copy(update={"out": config.root, "keep_detections": True, "force": True})) == key


def test_many_keys_read_each_file_once(config, monkeypatch):
    read: list[str] = []
    for name in ("base_weights", "resolve"):
        inner = getattr(detection.run_key, name)

        def counting(*args, inner=inner, name=name, **rest):
            read.append(name)
            return inner(*args, **rest)

        monkeypatch.setattr(detection.run_key, name, counting)
    configs = [config.model_copy(update={"policy": p, "seed": s}) for p in ("none", "flip") for s in (0, 1, 2)]
    configs.append(config.model_copy(update={"data": "A172,BV2"}))
    alone = [run_key(c) for c in configs]
    assert len(read) == 14
    read.clear()
    seen: dict = {}
    assert [run_key(c, seen) for c in configs] == alone
    assert sorted(read) == ["base_weights", "resolve", "resolve"]
    read.clear()
    store = Store(config.results)
    assert [known(c, store, seen) for c in configs] == [[]] * 7
    assert read == []


def test_what_cannot_be_used_is_said_by_the_key(config, tmp_path):
    for changes, message in [
        ({"weights": tmp_path / "no.pth"}, "no weights at"),
        ({"policy": "fliip"}, "no policy file"),
        ({"data": "SKOV3"}, "SKOV3 has no train images"),
        ({"validate_on": "BV2"}, "no labelled validation image"),
    ]:
        with pytest.raises(InputError, match=message):
            run_key(config.model_copy(update=changes))
    with pytest.raises(InputError, match="SKOV3 has no test images"):
        known(config.model_copy(update={"evaluate": "SKOV3"}), Store(config.results))

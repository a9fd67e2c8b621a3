"""A training set on disk: read back it is the virtual one, and it trains to the same weights."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from detection.dataset import Crops, TrainingSet
from detection.materialize import materialize
from policy_search.augment import Augmenter, baseline
from policy_search.cells import resolve
from policy_search.cells.errors import InputError
from tests.detection.culture import culture
from tests.detection.test_masks import blocks


def virtual(policy: str = "simple_copy_paste", seed: int = 3, factor: int = 3) -> TrainingSet:
    # SKOV3 before A172: the order of the set is not that of its names
    data = culture(("SKOV3", "A172"), images=2, height=64, width=80, cells=14)
    return TrainingSet(data, Augmenter(baseline(policy)), seed, factor=factor)


def read_back(path) -> TrainingSet:
    source = resolve(f"{path}:{path.parent / 'images'}")
    return TrainingSet(source, Augmenter(baseline("none")), 3, factor=1)


def test_pixels_cells_types_and_wells_come_back_in_order(tmp_path):
    images = virtual()
    path = materialize(images, tmp_path / "set")
    back = read_back(path)
    assert len(back) == len(images) == 12
    overlapping = 0
    for index in range(12):
        assert np.array_equal(images[index][0], back[index][0])
        ours, theirs = images[index][1], back[index][1]
        assert np.array_equal(blocks(ours), blocks(theirs))
        overlapping += len(ours.layers) > 1
        record, draw = images.entry(index)
        again = back.entry(index)[0]
        assert (again.cell_type, again.well, again.complete) == (record.cell_type, record.well, record.complete)
        assert again.id.endswith(f"_draw{draw}")
    assert overlapping
    made = json.loads((path.parent / "provenance.json").read_text())
    assert made["policy"] == baseline("simple_copy_paste").content_hash
    assert (made["seed"], made["factor"], made["fingerprint"]) == (3, 3, images.dataset.fingerprint())
    assert len(made["files"]) == 13


def test_it_trains_to_the_same_weights(tmp_path):
    pytest.importorskip("detectron2", reason="detectron2 is not installed: make setup")
    from detection.checkpoint import hash_state
    from detection.config import PretrainConfig
    from detection.model import build_model
    from detection.training import fit
    from detection.watcher import Watcher
    from tests.detection.culture import MICRO

    def weights(images: TrainingSet) -> str:
        model = build_model(MICRO)
        config = PretrainConfig(data="A172", out="unused", crop=48)
        fit(model, Crops(images, 48, 0, 24), config, watcher=Watcher(), log_dir=None)
        return hash_state(model.state_dict())

    images = virtual()
    assert Crops(images, 48, 0, 1).per_epoch == 36
    found = weights(read_back(materialize(images, tmp_path / "set")))
    assert found == weights(images)
    assert found != weights(virtual(seed=4))


def test_the_same_set_is_reused_and_anything_else_refused(tmp_path):
    folder = tmp_path / "set"
    path = materialize(virtual("flip"), folder)
    stamps = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    assert materialize(virtual("flip"), folder) == path
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == stamps
    assert [p.name for p in tmp_path.iterdir()] == ["set"]  # no scratch folder left
    for other, name in [(virtual("crop"), "policy"), (virtual("flip", 4), "seed"), (virtual("flip", 3, 2), "factor")]:
        with pytest.raises(InputError, match=f"another training set .*{name}"):
            materialize(other, folder)
    second = materialize(virtual("flip"), tmp_path / "again")
    assert second.read_bytes() == path.read_bytes()
    picture = sorted((folder / "images").iterdir())[4]
    content = picture.read_bytes()
    picture.write_bytes(content[:-1])
    with pytest.raises(InputError, match=f"{picture.name} is not what was written"):
        materialize(virtual("flip"), folder)
    picture.unlink()
    with pytest.raises(InputError, match=picture.name):
        materialize(virtual("flip"), folder)
    shutil.rmtree(folder)
    folder.mkdir()
    assert materialize(virtual("flip"), folder) == path  # an empty folder is as good as none
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("x")
    with pytest.raises(InputError, match="not empty"):
        materialize(virtual("flip"), tmp_path / "mine")
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    with pytest.raises(InputError, match="is a file"):
        materialize(virtual("flip"), tmp_path / "mine/thesis.txt")


def test_an_interrupted_write_leaves_nothing(tmp_path):
    images = virtual("flip")
    inner = images.dataset.reader.image

    def broken(record):
        if record.id.endswith("A172_1"):
            raise OSError(28, "No space left on device")
        return inner(record)

    images.dataset.reader.image = broken
    with pytest.raises(InputError, match="No space left"):
        materialize(images, tmp_path / "set")
    assert not list(tmp_path.iterdir())

"""The demo culture as a dataset: repeatable, split by well, read-only."""

from __future__ import annotations

import pickle
import re
from dataclasses import replace

import numpy as np
import pytest

from policy_search.cells import CELL_TYPES, demo, demo_types
from policy_search.cells.demo import SPLITS, demo_dataset
from policy_search.cells.demo_types import culture
from policy_search.cells.errors import DataError

TYPES = [t.name for t in CELL_TYPES]


# -- the dataset --------------------------------------------------------------------------------------------------


def test_splits_have_their_images_and_share_no_well():
    wells: dict[str, str] = {}
    ids = set()
    for split, (n_wells, per_well) in SPLITS.items():
        dataset = demo_dataset(["A172", "Huh-7"], split)
        assert dataset.cell_types == ("A172", "HUH7")
        assert len(dataset) == 2 * n_wells * per_well
        assert [r.id for r in dataset] == [r.id for t in ("A172", "HUH7") for r in sorted(dataset.of_type(t), key=str)]
        for record in dataset:
            assert wells.setdefault(record.well, split) == split
            assert (record.height, record.width, record.split) == (256, 256, split)
            assert record.annotated == (split != "unlabeled")
            ids.add(record.id)
            match = re.fullmatch(r"demo/(A172|Huh7)_Phase_([A-H]\d+)_[12]_\d\dd\d\dh00m_[1-4]", record.id)
            assert match is not None
            assert record.well == f"{record.cell_type}/{match[2]}"
    assert len(wells) == 2 * 13
    assert len(ids) == 2 * (18 + 6 + 9 + 8)


def test_names_and_refusals():
    assert demo_dataset(["SK-OV-3"], "val").name == "demo/SKOV3"
    assert demo_dataset(TYPES, "val").name == "demo/all"
    assert demo_dataset(["BV2", "A172", "bv-2"], "val").cell_types == ("A172", "BV2")
    assert demo_dataset(["BV2"], "val").synthetic
    with pytest.raises(DataError, match="no split 'dev': expected one of train, val, test, unlabeled"):
        demo_dataset(["BV2"], "dev")
    with pytest.raises(DataError, match="Did you mean A172"):
        demo_dataset(["A1722"], "train")
    with pytest.raises(DataError, match="no cell type"):
        demo_dataset([], "train")
    stranger = demo_dataset(["BV2"], "val").records[0]
    with pytest.raises(DataError, match="not an image of this demo dataset"):
        demo_dataset(["A172"], "val").image(stranger)


def test_unlabeled_images_have_pixels_but_refuse_instances():
    dataset = demo_dataset(["SKBR3"], "unlabeled")
    record = dataset.records[3]
    assert dataset.image(record).std() > 4
    with pytest.raises(DataError, match="unlabelled"):
        dataset.instances(record)


def test_reading_order_and_cache_do_not_matter():
    dataset = demo_dataset(["SHSY5Y"], "val")
    first = {r.id: (dataset.image(r), dataset.instances(r).layers.copy()) for r in dataset}
    demo._rendered.cache_clear()
    again = pickle.loads(pickle.dumps(demo_dataset(["SHSY5Y", "BV2"], "val")))
    for record in reversed(dataset.records):
        assert np.array_equal(again.instances(record).layers, first[record.id][1])
        assert np.array_equal(again.image(record), first[record.id][0])
    spoilt = dataset.image(dataset.records[0])
    spoilt[:] = 0
    assert np.array_equal(dataset.image(dataset.records[0]), first[dataset.records[0].id][0])
    with pytest.raises(ValueError, match="read-only"):
        dataset.instances(dataset.records[0]).layers[:] = 0


def test_no_two_images_are_alike():
    images = [(r.id, d.image(r)) for s in SPLITS for d in [demo_dataset(["HUH7"], s)] for r in d]
    assert len({image.tobytes() for _, image in images}) == len(images) == 41
    draws = {demo._generator(culture(name), [1]).random() for name in TYPES}
    assert len(draws) == len(TYPES)


def test_cache_is_bounded_and_used():
    demo._rendered.cache_clear()
    dataset = demo_dataset(["HUH7"], "val")
    for _ in range(2):
        for record in dataset:
            dataset.sample(record)
    info = demo._rendered.cache_info()
    assert (info.misses, info.hits) == (6, 18)
    assert info.maxsize == 128


def test_fingerprint_follows_content(monkeypatch):
    train = demo_dataset(["A172"], "train")
    before = train.fingerprint()
    assert before == demo_dataset(["a-172"], "train").fingerprint()
    assert before != demo_dataset(["A172"], "val").fingerprint()
    keys = {train.reader.content_key(r) for r in train}
    assert len(keys) == len(train)
    thinner = replace(culture("A172"), crowd=replace(culture("A172").crowd, cells=3.0))
    with monkeypatch.context() as patch:
        patch.setitem(demo_types._BY_NAME, "A172", thinner)
        assert demo_dataset(["A172"], "train").fingerprint() != before
    monkeypatch.setattr(demo, "VERSION", demo.VERSION + 1)
    assert demo_dataset(["A172"], "train").fingerprint() != before


def test_images_of_a_well_share_density_and_grow(monkeypatch):
    seen, seeds = [], set()
    real = demo.render

    def spy(name, seed, height, width, *, well):
        seen.append(well)
        seeds.add(tuple(seed))
        return real(name, seed, height, width, well=well)

    monkeypatch.setattr(demo, "render", spy)
    demo._rendered.cache_clear()
    dataset = demo_dataset(["MCF7"], "train")
    in_time = sorted(dataset, key=lambda r: (r.well, r.id.split("_")[-2]))
    for record in in_time:
        dataset.image(record)
    demo._rendered.cache_clear()
    assert len(seeds) == 18
    by_well = [seen[i : i + 3] for i in range(0, 18, 3)]
    assert [r.well for r in in_time][::3] == sorted({r.well for r in dataset})
    for images in by_well:
        assert images[0].light == images[1].light == images[2].light
        assert images[0].flow == images[2].flow
        assert images[1].density / images[0].density == pytest.approx(1 / 0.9)
        assert images[2].density / images[0].density == pytest.approx(1.1 / 0.9)
    middles = [images[1].density for images in by_well]
    assert len({images[0].light for images in by_well}) == 6
    assert 1 / 1.9 <= min(middles) < 0.85
    assert 1.15 < max(middles) <= 1.9

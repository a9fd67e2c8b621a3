"""The threefold set, its donors and its crops."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from detection.dataset import (
    Crops,
    TrainingSet,
    crops_to_cover,
    donates_to_itself,
    donor_for,
    labelled,
    random_symmetry,
    resize_shortest_edge,
    resized_shape,
)
from policy_search.augment import Augmenter, apply_policy, baseline
from policy_search.cells.errors import DataError, InputError
from tests.detection.culture import culture


def same(one, other) -> bool:
    return np.array_equal(one[0], other[0]) and np.array_equal(one[1].layers, other[1].layers)


def test_one_untouched_copy_and_two_fixed_draws():
    data = culture(images=2)
    policy = baseline("color_jitter")
    images = TrainingSet(data, Augmenter(policy), seed=5)
    assert len(images) == 6
    for index, (record, draw) in enumerate([(r, d) for r in data.records for d in range(3)]):
        plain = (data.image(record), data.instances(record))
        assert same(images[index], plain) == (draw == 0)
        if draw:
            assert same(images[index], apply_policy(policy, *plain, seed=5, image_id=record.id, draw=draw))
    assert not same(images[1], images[2])


def test_draws_do_not_depend_on_memory_or_order_but_on_the_seed():
    data = culture(images=3)
    tight = TrainingSet(data, Augmenter(baseline("random_choice")), seed=1, memory=1)
    roomy = TrainingSet(data, Augmenter(baseline("random_choice")), seed=1)
    forwards = [tight[i] for i in range(9)]
    backwards = [roomy[i] for i in reversed(range(9))][::-1]
    assert all(same(a, b) for a, b in zip(forwards, backwards, strict=True))
    assert len(tight._kept) == 1
    assert len(roomy._kept) == 9
    other = TrainingSet(data, Augmenter(baseline("random_choice")), seed=2)
    assert not all(same(other[i], forwards[i]) for i in range(9))


def test_donor_is_always_another_image():
    data = culture(images=3)
    donate = donor_for(data, data.records[1])
    given = [donate(np.random.default_rng(k))[0] for k in range(20)]
    found = {next(i for i, r in enumerate(data.records) if np.array_equal(data.image(r), g)) for g in given}
    assert found == {0, 2}


def test_the_only_image_donates_to_itself_turned_and_says_so():
    data = culture(images=1)
    record = data.records[0]
    image, instances = data.sample(record)[1:]
    views = {"v": np.s_[::-1], "h": np.s_[:, ::-1], "vh": np.s_[::-1, ::-1]}
    seen = set()
    for k in range(20):
        given, masks = donor_for(data, record)(np.random.default_rng(k))
        (name,) = [n for n, view in views.items() if np.array_equal(image[view], given)]
        assert np.array_equal(masks.foreground(), instances.foreground()[views[name]])
        assert len(masks) == len(instances)
        seen.add(name)
    assert seen == {"v", "h", "vh"}
    assert donates_to_itself(data, Augmenter(baseline("simple_copy_paste")))
    assert not donates_to_itself(data, Augmenter(baseline("flip")))
    assert not donates_to_itself(culture(images=2), Augmenter(baseline("simple_copy_paste")))


def test_an_epoch_visits_every_image_as_often_as_crops_cover_it():
    assert crops_to_cover(520, 704, 256) == 6
    assert crops_to_cover(256, 256, 256) == 1
    images = TrainingSet(culture(images=4), None, 0, factor=1)  # 96 × 128 in 64² crops: 3 each
    crops = Crops(images, 64, 0, 24)
    assert crops.per_epoch == 12
    for epoch in (0, 1):
        visits = [crops.visit(12 * epoch + k) for k in range(12)]
        assert sorted(visits) == sorted(list(range(4)) * 3)
    assert [crops.visit(k) for k in range(12)] != [crops.visit(12 + k) for k in range(12)]


def test_a_crop_is_the_window_it_came_from():
    images = TrainingSet(culture(images=1, cells=20), None, 0, factor=1)
    full_image, full = images[0]
    crops = Crops(images, 64, 3, 8)
    for image, instances in (crops[k] for k in range(8)):
        places = np.argwhere((np.lib.stride_tricks.sliding_window_view(full_image, (64, 64)) == image).all((2, 3)))
        ((y, x),) = places
        for one in full:
            plane = np.zeros(full.shape, bool)
            x0, y0, x1, y1 = one.box
            plane[y0:y1, x0:x1] = one.mask
            part = plane[y : y + 64, x : x + 64]
            got = [i for i in instances if i.id == one.id]
            assert len(got) == (part.sum() >= 10)  # specks go, everything else stays
            if got:
                left, top, right, bottom = got[0].box
                assert np.array_equal(np.argwhere(part), np.add(np.argwhere(got[0].mask), (top, left)))
                assert (right - left, bottom - top) == got[0].mask.shape[::-1]


def test_crops_lie_anywhere_in_the_image():
    data = culture(images=1)
    record = data.records[0]
    rows, columns = np.mgrid[0 : record.height, 0 : record.width]
    places = set()
    for axis in (rows, columns):  # an image whose pixels say where they are
        data.reader.items[record.id] = (axis.astype(np.uint8), data.instances(record))
        crops = Crops(TrainingSet(data, None, 0, factor=1), 64, 0, 60)
        places.add(tuple(int(crops[k][0][0, 0]) for k in range(60)))
    ys, xs = sorted(places, key=max)
    assert min(ys) <= 3
    assert 29 <= max(ys) <= 32
    assert min(xs) <= 6
    assert 58 <= max(xs) <= 64
    assert len(set(zip(ys, xs, strict=True))) > 50


def test_crops_are_a_function_of_seed_and_position():
    images = TrainingSet(culture(images=2), None, 0, factor=1)
    one, other = Crops(images, 64, 7, 10), Crops(images, 64, 7, 10)
    assert all(same(one[k], other[k]) for k in (9, 2, 0, 5))
    assert not same(one[0], Crops(images, 64, 8, 10)[0])
    with pytest.raises(IndexError):
        one[10]


def test_symmetries_move_image_and_cells_together_and_are_all_met():
    data = culture(images=1, height=64, width=64)
    image, instances = data.sample(data.records[0])[1:]
    marked = np.where(instances.foreground(), 200, 50).astype(np.uint8)
    met = set()
    for k in range(60):
        moved, masks = random_symmetry(marked, instances, np.random.default_rng(k))
        assert np.array_equal(moved == 200, masks.foreground())
        met.add(moved.tobytes())
    assert len(met) == 8
    wide = culture(images=1)
    image, instances = wide.sample(wide.records[0])[1:]
    assert {random_symmetry(image, instances, np.random.default_rng(k))[0].shape for k in range(20)} == {(96, 128)}


def test_unlabelled_images_are_left_out_and_nothing_else_is_an_error():
    data = culture(images=2)
    from dataclasses import replace

    half = replace(data, records=(data.records[0], replace(data.records[1], annotated=False)))
    assert len(labelled(half)) == 1
    with pytest.raises(DataError, match="no labelled image"):
        labelled(half.where(lambda r: not r.annotated))


def test_crops_without_sizes_are_those_that_earlier_results_rest_on():
    summary = hashlib.sha256()
    crops = Crops(TrainingSet(culture(images=2), None, 0, factor=1), 64, 11, 9, flip=True)
    for image, instances in crops:
        summary.update(image.tobytes() + instances.layers.tobytes())
    assert summary.hexdigest()[:16] == "c98f42c34d986708"


def test_whole_images_are_visited_once_an_epoch():
    images = TrainingSet(culture(images=5), None, 0, factor=1)
    crops = Crops(images, 0, 4, 20)
    assert crops.per_epoch == 5
    for epoch in range(4):
        visits = [crops.visit(5 * epoch + k) for k in range(5)]
        assert sorted(visits) == list(range(5))
        assert all(same(crops[5 * epoch + k], images[visits[k]]) for k in range(5))
    assert [crops.visit(k) for k in range(5)] != [crops.visit(5 + k) for k in range(5)]


def test_each_visit_draws_one_size_from_seed_and_position():
    images = TrainingSet(culture(images=2), None, 0, factor=1)
    crops, again = (Crops(images, 0, 4, 60, sizes=(48, 96, 120)) for _ in range(2))
    shapes = [crops[k][0].shape for k in range(60)]
    assert [again[k][0].shape for k in reversed(range(60))][::-1] == shapes
    assert [Crops(images, 0, 5, 60, sizes=(48, 96, 120))[k][0].shape for k in range(60)] != shapes
    for index in (0, 1):
        own = [shapes[k] for k in range(60) if crops.visit(k) == index]
        assert set(own) == {(48, 64), (96, 128), (120, 160)}
        assert min(own.count(shape) for shape in set(own)) >= 4
    cropped = Crops(images, 64, 4, 20, sizes=(48, 120))
    assert {cropped[k][0].shape for k in range(20)} == {(48, 64), (64, 64)}
    small = TrainingSet(culture(images=2), None, 0, factor=1, min_area=60)
    areas = np.concatenate([Crops(small, 0, 4, 20, sizes=(48,))[k][1].areas() for k in range(20)])
    assert areas.min() >= 60
    for size, sizes in ((-1, ()), (64, (0, 3))):
        with pytest.raises(InputError, match="sizes 1 or more"):
            Crops(images, size, 0, 1, sizes=sizes)


def test_resizing_equals_detectron2s():
    pytest.importorskip("detectron2", reason="detectron2 is not installed: make setup")
    from detectron2.data.transforms import ResizeShortestEdge, ResizeTransform

    rng = np.random.default_rng(0)
    for _ in range(3000):
        height, width, edge = (int(v) for v in rng.integers(1, 3000, 3))
        height, width = max(height, 20), max(width, 20)
        theirs = ResizeShortestEdge.get_output_shape(height, width, edge, 1333)
        assert resized_shape(height, width, edge) == tuple(max(side, 1) for side in theirs)
    assert resized_shape(520, 704, 440) == (440, 596)
    data = culture(images=1, cells=25)
    image, instances = data.sample(data.records[0])[1:]
    colour = np.stack([image, image // 2, 255 - image], -1)
    for edge in (41, 70, 96, 133):
        rows, columns = resized_shape(96, 128, edge)
        transform = ResizeTransform(96, 128, rows, columns)
        for picture in (image, colour):
            moved, cells = resize_shortest_edge(picture, instances, edge)
            assert np.array_equal(moved, transform.apply_image(picture))
        for label in instances.ids:  # mask by mask
            plane = (instances.layers == label).any(axis=0).astype(np.uint8)
            assert np.array_equal((cells.layers == label).any(axis=0), transform.apply_segmentation(plane) > 0)

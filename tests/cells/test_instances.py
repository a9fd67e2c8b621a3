"""InstanceMap against pycocotools and brute force."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from policy_search.cells import DataError, Instance, InstanceMap
from tests.conftest import ellipse_polygons

HEIGHT, WIDTH = 70, 90


@pytest.fixture
def polygons() -> list:
    return ellipse_polygons(np.random.default_rng(3), 60, HEIGHT, WIDTH)


def reference_masks(polygons: list) -> np.ndarray:
    """(N, H, W) bool by pycocotools alone."""
    rles = [coco_mask.merge(coco_mask.frPyObjects(rings, HEIGHT, WIDTH)) for rings in polygons]
    return coco_mask.decode(rles).transpose(2, 0, 1).astype(bool)


def test_polygons_to_layers_to_rle_is_exact(polygons):
    masks = reference_masks(polygons)
    instances = InstanceMap.from_polygons(polygons, HEIGHT, WIDTH)
    visible = [i for i, m in enumerate(masks) if m.any()]
    assert instances.ids.tolist() == [i + 1 for i in visible]
    decoded = coco_mask.decode(instances.rles()).transpose(2, 0, 1).astype(bool)
    np.testing.assert_array_equal(decoded, masks[visible])
    expected = [coco_mask.encode(np.asfortranarray(masks[i].astype(np.uint8))) for i in visible]
    assert [r["counts"] for r in instances.rles()] == [r["counts"] for r in expected]


def test_polygons_of_layers_rasterise_back_exactly(polygons):
    instances = InstanceMap.from_polygons(polygons, HEIGHT, WIDTH)
    outlines = instances.polygons()
    assert all(o is not None for o in outlines)
    again = InstanceMap.from_polygons(outlines, HEIGHT, WIDTH)
    for before, after in zip(instances, again, strict=True):
        assert before.box == after.box
        np.testing.assert_array_equal(before.mask, after.mask)


@pytest.mark.parametrize("seed", range(20))
def test_outline_is_exact_for_any_shape_without_hole(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((9, 11)) < 0.55
    instances = InstanceMap.from_labels(np.pad(mask, 2).astype(np.int32))
    (outline,) = instances.polygons()
    if outline is None:
        from scipy import ndimage

        assert not np.array_equal(ndimage.binary_fill_holes(np.pad(mask, 2), np.ones((3, 3))), np.pad(mask, 2)) or (
            # a hole closed only across a corner still cannot be drawn as one simple ring
            not np.array_equal(ndimage.binary_fill_holes(np.pad(mask, 2)), np.pad(mask, 2))
        )
        return
    drawn = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(outline, 13, 15))).astype(bool)
    np.testing.assert_array_equal(drawn, np.pad(mask, 2))


def test_no_two_overlapping_instances_share_a_layer_and_layers_are_few(polygons):
    masks = reference_masks(polygons)
    instances = InstanceMap.from_polygons(polygons, HEIGHT, WIDTH)
    assert (masks.sum(0) > 1).any(), "the case must hold overlaps"
    assert instances.layers.shape[0] <= masks.sum(0).max() + 3
    for instance in instances:
        assert sum((layer == instance.id).any() for layer in instances.layers) == 1


def test_boxes_areas_foreground_by_brute_force(polygons):
    masks = reference_masks(polygons)
    instances = InstanceMap.from_polygons(polygons, HEIGHT, WIDTH)
    for box, area, label in zip(instances.boxes(), instances.areas(), instances.ids, strict=True):
        ys, xs = np.nonzero(masks[label - 1])
        assert box.tolist() == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        assert area == masks[label - 1].sum()
    np.testing.assert_array_equal(instances.foreground(), masks.any(0))


def test_label_image_puts_the_smaller_cell_on_top():
    big = Instance(1, 2, 2, np.ones((10, 10), bool))
    small = Instance(2, 5, 5, np.ones((3, 3), bool))
    labels = InstanceMap.from_instances([small, big], 20, 20).label_image()
    assert labels[6, 6] == 2
    assert labels[3, 3] == 1
    assert (labels == 1).sum() == 100 - 9


def test_map_layers_moves_every_instance_as_a_mask_would_move(polygons):
    masks = reference_masks(polygons)
    moved = InstanceMap.from_polygons(polygons, HEIGHT, WIDTH).map_layers(lambda p: np.ascontiguousarray(p[::-1, 5:60]))
    expected = masks[:, ::-1, 5:60]
    assert moved.shape == (HEIGHT, 55)
    assert moved.ids.tolist() == [i + 1 for i, m in enumerate(expected) if m.any()]
    for instance in moved:
        full = np.zeros(moved.shape, bool)
        x0, y0, x1, y1 = instance.box
        full[y0:y1, x0:x1] = instance.mask
        np.testing.assert_array_equal(full, expected[instance.id - 1])


def test_select_and_drop_specks(polygons):
    instances = InstanceMap.from_polygons(polygons, HEIGHT, WIDTH)
    areas = dict(zip(instances.ids.tolist(), instances.areas().tolist(), strict=True))
    kept = instances.drop_specks(60)
    assert kept.ids.tolist() == [i for i, a in areas.items() if a >= 60]
    assert instances.select([5, 7]).ids.tolist() == [5, 7]
    assert instances.select([]).layers.shape == (0, HEIGHT, WIDTH)


def test_from_labels_keeps_every_value_and_32_bit_labels():
    labels = np.zeros((10, 10), np.int64)
    labels[1:3, 1:3], labels[5:9, 5:9] = 70000, 12
    instances = InstanceMap.from_labels(labels)
    assert instances.areas().tolist() == [16, 4]


def test_empty_map():
    empty = InstanceMap.empty(4, 5)
    assert (len(empty), empty.rles(), empty.boxes().shape, empty.shape) == (0, [], (0, 4), (4, 5))
    assert empty.map_layers(lambda p: p[:2]).shape == (2, 5)


def test_bad_input_is_refused():
    with pytest.raises(DataError, match="distinct"):
        InstanceMap.from_instances([Instance(1, 0, 0, np.ones((2, 2), bool))] * 2, 5, 5)
    with pytest.raises(ValueError, match="outside"):
        InstanceMap.from_instances([Instance(1, 4, 0, np.ones((2, 2), bool))], 5, 5)
    with pytest.raises(ValueError, match="uint16"):
        InstanceMap(np.zeros((1, 5, 5), np.int32))
    with pytest.raises(DataError, match="frame"):
        InstanceMap.from_rles([{"size": [3, 3], "counts": b"9"}], 5, 5)

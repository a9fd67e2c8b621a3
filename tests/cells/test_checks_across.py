"""Checks between images and between masks, against brute force and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from policy_search.cells import Instance, InstanceMap
from policy_search.cells.checks.across import Seen, across, near_type
from policy_search.cells.checks.overlaps import cells_within, duplicate_pairs, shared_pixels
from policy_search.cells.checks.shapes import Outlines, shape_findings
from policy_search.cells.dataset import ImageRecord
from tests.cells.test_checks import check, found


def record(number: int, split: str = "train", well: str = "A1", name: str | None = None) -> ImageRecord:
    return ImageRecord(f"x/{name or number}", "A172", split, f"A172/{well}", 520, 704)


def codes(seen: list[Seen]) -> list[tuple[str, str, int]]:
    return [(f.code, f.record, f.count) for f in across(seen)]


def test_an_image_with_far_fewer_cells_than_its_type():
    counts = [800, 900, 1000, 1100, 1200, 1000, 1000, 49]
    seen = [Seen(record(i), None, count) for i, count in enumerate(counts)]
    assert codes(seen) == [("cells-below-type", "x/7", 1)]
    assert codes(seen[1:]) == [], "seven images tell no usual number"
    assert codes([*seen[:7], Seen(record(7), None, 51)]) == []
    assert codes([*seen[:7], Seen(record(7), None, 9)]) == [("cells-few", "x/7", 1)], "told once"


@pytest.mark.parametrize(("cells", "side", "few"), [(9, 704, True), (10, 704, False), (1, 200, True), (2, 200, False),
                                                    (0, 40, True), (1, 40, False), (None, 704, False)])  # fmt: skip
def test_few_cells_are_few_for_the_frame(cells, side, few):
    image = ImageRecord("x/1", "A172", "train", "A172/A1", 520 if side == 704 else side, side)
    assert bool(codes([Seen(image, None, cells)])) == few


def test_wells_in_two_splits_are_told_by_type_and_pair_of_splits():
    seen = [Seen(record(i, "train", f"A{i}"), None, 99) for i in range(5)]
    seen += [Seen(record(10 + i, "val", f"A{i}"), None, 99) for i in range(3, 6)]
    seen += [Seen(record(20, "test", "A0"), None, 99), Seen(record(30, "unlabeled", "A0"), None, None)]
    (first, second) = across(seen)
    assert (first.record, first.split, first.count) == ("A172", "train and val", 2)
    assert "2 of 3 wells of val are in train too (A3, A4)" in first.text
    assert (second.split, second.count) == ("train and test", 1)


def test_equal_names_without_a_well_say_nothing():
    seen = [Seen(record(0, "train", "7", "7"), b"a", 99), Seen(record(0, "test", "7", "7"), b"b", 99)]
    assert codes(seen) == []


def test_an_image_in_two_splits_is_not_told_again_by_its_well():
    seen = [Seen(record(0, split, "A1"), b"a", 99) for split in ("train", "test")]
    assert codes(seen) == [("image-in-two-splits", "x/0", 2)]
    assert codes([*seen, Seen(record(1, "train", "A1"), b"b", 99)]) == codes(seen)


def test_unlabelled_images_that_are_test_images():
    seen = [Seen(record(0, "test", "A1"), b"a", 99), Seen(record(1, "unlabeled", "A1"), b"a", None)]
    assert codes(seen) == [("image-in-two-splits", "x/0", 2)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("SKOV", "SKOV3"), ("A127", "A172"), ("SHSYSY", "SHSY5Y"), ("huh", "HUH7"), ("SK-BR", "SKBR3"),
        ("Huh-7.5", None), ("MCF10A", None), ("SKBR7", None), ("A549", None), ("HeLa", None), ("BT549", None),
        ("SK-OV-3", None), ("UsiigaciA", None), ("cells_train", None), ("", None),
    ],
)  # fmt: skip
def test_misspelt_types_are_told_from_other_cell_lines(name, expected):
    assert near_type(name) == expected


def random_map(seed: int) -> InstanceMap:
    rng = np.random.default_rng(seed)
    items = []
    for number in range(1, 41):
        h, w = rng.integers(1, 14, 2)
        y, x = rng.integers(0, 60 - h), rng.integers(0, 50 - w)
        mask = rng.random((h, w)) < rng.choice([0.4, 1.0])
        items.append(Instance(number, int(x), int(y), mask))
        if number % 9 == 0:
            items[-1] = Instance(number, items[-2].x0, items[-2].y0, items[-2].mask)
    return InstanceMap.from_instances(items, 60, 50)


@pytest.mark.parametrize("seed", range(6))
def test_overlaps_by_brute_force(seed):
    instances = random_map(seed)
    masks = {}
    for one in instances:
        masks[one.id] = np.zeros(instances.shape, bool)
        x0, y0, x1, y1 = one.box
        masks[one.id][y0:y1, x0:x1] = one.mask
    shared = {(a, b): int((masks[a] & masks[b]).sum()) for a in masks for b in masks if a < b}
    shared = {pair: count for pair, count in shared.items() if count}
    assert [tuple(row) for row in shared_pixels(instances).tolist()] == [(*p, shared[p]) for p in sorted(shared)]
    iou = {(a, b): n / (masks[a] | masks[b]).sum() for (a, b), n in shared.items()}
    assert duplicate_pairs(instances) == sorted(p for p in iou if iou[p] > 0.9)
    assert duplicate_pairs(instances, 0.3) == sorted(p for p in iou if iou[p] > 0.3)
    within = set()
    for (a, b), count in shared.items():
        small = a if masks[a].sum() < masks[b].sum() else b
        if count > 0.8 * masks[small].sum() and iou[a, b] <= 0.9:
            within.add(small)
    assert cells_within(instances) == sorted(within)


def test_outlines_are_measured_with_all_their_rings():
    import cv2

    rng = np.random.default_rng(2)
    annotations, areas, bounds = [], [], []
    for count in (1, 3, 0, 2, 1):
        rings = [rng.uniform(0, 80, (rng.integers(3, 9), 2)) for _ in range(count)]
        annotations.append({"segmentation": [r.ravel().tolist() for r in rings] + [[1.0, 2.0]]})
        areas.append(sum(cv2.contourArea(r.astype(np.float32)) for r in rings) if rings else np.nan)
        points = np.concatenate(rings) if rings else np.full((1, 2), np.nan)
        bounds.append([*points.min(0), *points.max(0)])
    outlines = Outlines([*annotations, {"segmentation": {"size": [1, 1], "counts": "1"}}])
    np.testing.assert_allclose(outlines.area, [*areas, np.nan], rtol=1e-4)
    np.testing.assert_allclose(outlines.bounds, [*bounds, [np.nan] * 4])
    assert outlines.drawn.tolist() == [True, True, False, True, True, False]
    assert outlines.is_code.tolist() == [False] * 5 + [True]
    assert outlines.short.tolist() == [True] * 5 + [False]


def test_boxes_given_as_corners_are_told_as_such():
    boxes = [[10.0 * i, 20.0, 10.0 * i + 8, 30.0] for i in range(1, 5)]
    rings = [[x0, y0, x1, y0, x1, y1, x0, y1] for x0, y0, x1, y1 in boxes]
    annotations = [{"segmentation": [ring], "bbox": box} for ring, box in zip(rings, boxes, strict=True)]
    instances = InstanceMap.from_polygons([[ring] for ring in rings], 520, 704)
    (finding,) = shape_findings(annotations, instances, record(0))
    assert (finding.code, finding.count) == ("bbox-differs", 4)
    assert "x0, y0, x1, y1 instead of" in finding.text
    for annotation, (x0, y0, x1, y1) in zip(annotations, boxes, strict=True):
        annotation["bbox"] = [x0, y0, x1 - x0, y1 - y0]
    assert shape_findings(annotations, instances, record(0)) == []


def test_real_images_have_these_findings_only(real_root):
    """Looked at one by one: cells that lie on others, an image marked incomplete, wells that splits share."""
    if "mini" not in real_root.name:
        pytest.skip("findings are those of the small subset")
    report = check("all", real_root)
    assert found(report) == {"cell-within-another": 6, "annotation-incomplete": 1, "wells-shared": 2}
    assert report.cells == 3557
    assert report.images == {"train": 6, "val": 2, "test": 7, "unlabeled": 47}

"""Size, convexity and vertices of cells against scipy's hulls, scikit-image and what the annotation files say."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from scipy.spatial import ConvexHull
from skimage.measure import regionprops

from policy_search.cells import DataError, InstanceMap, resolve
from policy_search.cells.coco import read_coco
from policy_search.cells.morphology import annotated_vertices, cell_shapes, measure
from tests.conftest import ellipse_polygons, write_livecell

HEIGHT, WIDTH = 70, 90


def shape_of(rows: list[str]) -> tuple[int, float]:
    """Area and convexity of the one cell drawn with '#', inside a frame of background."""
    mask = np.pad(np.array([[c == "#" for c in row] for row in rows]), 1)
    shapes = cell_shapes(InstanceMap.from_labels(mask.astype(np.uint8)))
    assert len(shapes.ids) == 1
    return int(shapes.area[0]), float(shapes.convexity[0])


@pytest.mark.parametrize(
    ("rows", "area", "hull"),
    [
        (["#"], 1, 1),
        (["#####", "#####"], 10, 10),
        (["#.", "##"], 3, 3.5),
        (["#.", ".#"], 2, 3),
        (["###", "#.#", "###"], 8, 9),
        (["#...#"], 2, 5),  # a cell in two parts is one cell
        (["#..", "#..", "###"], 5, 7),
        ([".#.", "###", ".#."], 5, 7),
    ],
)
def test_shapes_with_a_hull_known_by_hand(rows, area, hull):
    assert shape_of(rows) == (area, area / hull)


def test_overlapping_cells_against_scipy_one_by_one():
    polygons = ellipse_polygons(np.random.default_rng(5), 80, HEIGHT, WIDTH)
    instances = InstanceMap.from_polygons(polygons, HEIGHT, WIDTH)
    assert len(instances.layers) >= 3
    shapes = cell_shapes(instances)
    assert shapes.ids.tolist() == instances.ids.tolist()
    for cell, area, convexity, whole in zip(instances, *shapes[1:], strict=True):
        y, x = np.nonzero(cell.mask)
        corners = np.concatenate([np.stack([x + dx, y + dy], 1) for dx in (0, 1) for dy in (0, 1)])
        assert area == len(y)
        assert convexity == pytest.approx(area / ConvexHull(corners).volume, rel=1e-12)
        x0, y0, x1, y1 = cell.box
        assert whole == (x0 > 0 and y0 > 0 and x1 < WIDTH and y1 < HEIGHT)
    assert 0 < np.count_nonzero(~shapes.whole) < len(shapes.ids)


@pytest.mark.parametrize(("row", "column"), [(0, 2), (4, 2), (2, 0), (2, 5)])
def test_a_pixel_on_any_border_is_cut(row, column):
    labels = np.zeros((5, 6), np.uint8)
    labels[row, column] = 1
    labels[2, 3] = 2
    assert cell_shapes(InstanceMap.from_labels(labels)).whole.tolist() == [False, True]


def test_large_discs_agree_with_scikit_image_and_small_ones_lie_below():
    difference = {}
    for radius in (5, 50):
        y, x = np.mgrid[-radius - 2 : radius + 3, -radius - 2 : radius + 3]
        mask = (x**2 + y**2 <= radius**2).astype(np.uint8)
        (ours,) = cell_shapes(InstanceMap.from_labels(mask)).convexity
        difference[radius] = regionprops(mask)[0].solidity - ours
    assert 0 < difference[50] < 0.006
    assert 0.03 < difference[5] < 0.08


def test_large_ids_and_no_cells():
    assert len(cell_shapes(InstanceMap.empty(4, 4)).ids) == 0
    assert len(cell_shapes(InstanceMap(np.zeros((1, 4, 4), np.uint16))).ids) == 0
    layer = np.zeros((1, 4, 300), np.uint16)
    layer[0, 1:3, 1:290] = 65535
    shapes = cell_shapes(InstanceMap(layer))
    assert (shapes.ids.tolist(), shapes.area.tolist(), shapes.convexity.tolist()) == ([65535], [578], [1.0])


def test_measure_puts_splits_together_and_needs_no_image(livecell_root):
    shutil.rmtree(livecell_root / "images")
    datasets = [resolve("A172,BV2", split, livecell_root, missing_ok=True) for split in ("train", "val", "test")]
    done = []
    types = {t.label: t for t in measure(datasets, progress=done.append)}
    assert list(types) == ["A172", "BV2"]
    assert len(done) == sum(map(len, datasets)) == 9
    own = types["A172"]
    assert (len(own.records), own.wells, own.synthetic, own.vertices) == (7, 4, False, None)
    expected = [(r.id, i.id, i.area) for d in datasets for r in d if r.cell_type == "A172" for i in d.instances(r)]
    assert [(own.records[i].id, c, a) for i, c, a in zip(own.image, own.cell, own.area, strict=True)] == expected
    kept = own.whole_only()
    assert 0 < len(kept) < len(own)
    assert kept.whole.all()
    assert kept.records == own.records
    assert kept.area.tolist() == own.area[own.whole].tolist()
    assert kept.cell.tolist() == own.cell[own.whole].tolist()


def test_an_image_without_cells_is_counted(tmp_path):
    root = write_livecell(tmp_path / "r", {"A172": {"train": 2}})
    path = root / "annotations" / "LIVECell_single_cells" / "a172" / "train.json"
    content = json.loads(path.read_text())
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] == 100]
    path.write_text(json.dumps(content))
    (own,) = measure([resolve("A172", "train", root)], vertices=True)
    assert len(own.records) == 2
    assert set(own.image.tolist()) == {0}
    assert len(own.vertices) == len(own)


def coco_file(root, name: str, rings: list) -> str:
    root.mkdir(exist_ok=True)
    annotations = [{"id": i + 1, "image_id": 1, "segmentation": s} for i, s in enumerate(rings)]
    image = {"id": 1, "file_name": "a.png", "height": 20, "width": 20, "cell_type": "HeLa"}
    (root / name).write_text(json.dumps({"images": [image], "annotations": annotations, "categories": []}))
    return str(root / name)


SQUARE = [2.0, 2.0, 8.0, 2.0, 8.0, 8.0, 2.0, 8.0]
TRIANGLE = [12.0, 12.0, 18.0, 12.0, 12.0, 18.0]


def test_vertices_of_rings_closed_rings_several_rings_and_rle(tmp_path):
    rle = {"size": [20, 20], "counts": [0, 30, 370]}
    outside = [[30.0, 30.0, 35.0, 30.0, 30.0, 35.0, 31.0, 34.0]]
    rings = [[SQUARE], [[*SQUARE, *SQUARE[:2]]], outside, [SQUARE, TRIANGLE, [1.0, 1.0, 2.0, 2.0]], rle, [TRIANGLE]]
    dataset = resolve(coco_file(tmp_path, "cells.json", rings))
    assert annotated_vertices(dataset, dataset.records[0]).tolist() == [4, 4, 4, 7, 0, 3]
    (own,) = measure([dataset], vertices=True)
    # The one outside the frame has no pixel and is no cell; the others keep their own counts.
    assert (own.cell.tolist(), own.vertices.tolist()) == ([1, 2, 4, 5, 6], [4, 4, 7, 0, 3])
    assert own.polygon_vertices().tolist() == [4, 4, 7, 3]
    assert own.whole_only().vertices.tolist() == [4, 4, 7, 3]


def test_the_demo_has_no_polygons():
    dataset = resolve("demo/BV2", "val")
    (own,) = measure([dataset.where(lambda r: r.id == dataset.records[0].id)], vertices=True)
    assert len(own.vertices) == len(own) > 50
    assert len(own.polygon_vertices()) == 0
    assert own.label == "demo/BV2"


def test_a_coco_file_that_is_train_and_test_counts_once(tmp_path):
    name = coco_file(tmp_path, "cells.json", [[SQUARE], [TRIANGLE]])
    (own,) = measure([resolve(name, "train"), resolve(name, "test")])
    assert (own.label, own.cell.tolist(), len(own.records)) == ("HeLa", [1, 2], 1)


def test_the_same_image_in_two_data_sets_is_refused_and_equal_names_in_two_files_are_not(tmp_path, livecell_root):
    with pytest.raises(DataError, match=r"--data A172 and --data A172,BV2 both hold A172/A172_Phase_A1"):
        measure([resolve(name, "train", livecell_root) for name in ("A172", "A172,BV2")])
    mine = coco_file(tmp_path / "mine", "cells.json", [[SQUARE]])
    yours = coco_file(tmp_path / "yours", "cells.json", [[SQUARE], [TRIANGLE]])
    types = measure([resolve(mine), resolve(yours), resolve("A172", "train", livecell_root)])
    assert [(t.label, len(t)) for t in types] == [(f"HeLa ({mine})", 1), (f"HeLa ({yours})", 2), ("A172", 36)]


def test_real_cells_have_the_areas_and_corners_of_their_polygons(real_root):
    dataset = resolve("BT474", "test", real_root)
    record = dataset.records[0]
    (own,) = measure([dataset.where(lambda r: r.id == record.id)], vertices=True)
    coco, image_id = dataset.reader.sources[record.id]
    annotations = read_coco(coco.path).annotations[image_id]
    assert len(own) == len(annotations)
    written = np.array([a["area"] for a in annotations])
    assert np.median(np.abs(own.area / written - 1)) < 0.1
    rings = [np.array(a["segmentation"][0]).reshape(-1, 2) for a in annotations]
    assert own.vertices.tolist() == [len(r) - int((r[0] == r[-1]).all()) for r in rings]
    # Hull and area of the drawn polygon itself: apart by the staircase of the pixels, most in small convex cells.
    drawn = []
    for ring in rings:
        x, y = ring.T
        drawn.append(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2 / ConvexHull(ring).volume)
    assert np.corrcoef(own.convexity, drawn)[0, 1] > 0.95
    assert -0.05 < np.median(own.convexity - drawn) < 0

"""Tables of measured cells against scipy and against the CSV read back."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from policy_search.cells import resolve
from policy_search.cells.dataset import ImageRecord
from policy_search.cells.errors import InputError
from policy_search.cells.morphology import TypeMorphology, measure
from policy_search.cells.morphology_tables import by_size, chance_larger, find_source, summarise, write_cells


def cells(label: str, areas: list[int], *, data: str = "all", cell_type: str = "") -> TypeMorphology:
    """A type in one image and one well, whose cells have these areas; the second is cut."""
    count = len(areas)
    return TypeMorphology(
        label=label,
        data=data,
        cell_type=cell_type or label,
        synthetic=label.startswith("demo/"),
        records=(ImageRecord(f"{label}/x", label, "test", f"{label}/A1", 9, 9),),
        image=np.zeros(count, np.int64),
        cell=np.arange(1, count + 1),
        area=np.array(areas, np.int64),
        convexity=np.linspace(0.5, 1, count),
        whole=np.arange(count) != 1,
    )


def test_a_row_holds_counts_and_quantiles():
    own = cells("A172", [10, 20, 30, 40, 100])
    (row,) = summarise([own])
    assert (row.images, row.wells, row.cells, row.cut) == (1, 1, 5, 1)
    assert row.area == pytest.approx((12, 20, 30, 40, 88))
    assert row.convexity == pytest.approx((0.525, 0.625, 0.75, 0.875, 0.975))
    assert (row.vertices, row.area_ratio, row.length_ratio, row.larger_than_source) == (None, None, None, None)
    (row,) = summarise([replace(own, vertices=np.array([0, 4, 8, 6, 0]))])
    assert row.vertices.median == 6, "cells without a polygon have no count"


def test_the_distance_from_a_source():
    source, other = cells("A172", [100, 200, 300, 400]), cells("BV2", [50, 50, 200])
    same, far = summarise([source, other], source)
    assert (same.area_ratio, same.length_ratio, same.larger_than_source) == (1, 1, 0.5)
    assert (far.area_ratio, far.length_ratio) == pytest.approx((0.2, 0.2**0.5))
    # Of 12 pairs: 200 is larger than 100 and ties with 200.
    assert far.larger_than_source == pytest.approx(1.5 / 12)


def test_the_chance_to_be_larger_is_mann_whitneys_u():
    rng = np.random.default_rng(2)
    a, b = rng.integers(1, 40, 200), rng.integers(10, 60, 70)
    assert chance_larger(a, b) == pytest.approx(mannwhitneyu(a, b).statistic / (200 * 70))
    assert np.isnan(chance_larger(a[:0], b))


def test_types_are_sorted_by_size_within_their_data_set():
    types = [cells("B", [9, 8, 7]), cells("demo/A", [1], data="demo/all"), cells("E", []), cells("C", [1, 2, 90])]
    assert [t.label for t in by_size(types)] == ["C", "B", "E", "demo/A"]


def test_the_source_is_found_by_label_or_any_spelling_of_its_type():
    real, demo, odd = cells("HUH7", [1]), cells("demo/HUH7", [2], cell_type="HUH7"), cells("HeLa", [])
    assert find_source([demo, real], "huh7") is real
    assert find_source([demo, odd], "Huh-7") is demo
    assert find_source([demo, real], "demo/huh7") is demo
    with pytest.raises(InputError, match=r"--source A172 is not among the measured types \(HUH7, demo/HUH7\)"):
        find_source([real, demo], "A172")
    with pytest.raises(InputError, match="could mean 'HUH7', 'demo/HUH7'"):
        find_source([real, demo], "Huh-7")
    with pytest.raises(InputError, match="--source hela has no cell to compare"):
        find_source([odd], "hela")


def test_a_type_without_cells_is_null_in_json():
    source = cells("A172", [3, 4])
    (row,) = summarise([cells("BV2", [])], source)
    text = json.dumps(row.document(), allow_nan=False)
    found = json.loads(text)
    assert found["area"] == dict.fromkeys(("p5", "p25", "median", "p75", "p95"))
    assert (found["cells"], found["area_ratio"], found["length_ratio"], found["larger_than_source"]) == (0, *[None] * 3)
    (row,) = summarise([cells("SKOV3", [14, 14])], source)
    assert (row.document()["area"]["median"], row.document()["length_ratio"]) == (14, 2)


def test_the_csv_gives_the_same_numbers_again(livecell_root, tmp_path):
    types = measure([resolve("A172,BV2", split, livecell_root) for split in ("train", "test")], vertices=True)
    path = tmp_path / "deep" / "cells.csv"
    write_cells(path, types)
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == [
        "data", "type", "split", "image", "well", "cell", "area", "convexity", "whole", "vertices",
    ]  # fmt: skip
    for own, row in zip(types, summarise(types), strict=True):
        mine = [line for line in lines if line["type"] == own.cell_type]
        assert len(mine) == row.cells
        assert {line["data"] for line in mine} == {"A172,BV2"}
        assert sum(line["whole"] == "0" for line in mine) == row.cut
        assert len({line["image"] for line in mine}) == row.images
        assert len({line["well"] for line in mine}) == row.wells
        assert np.percentile([int(line["area"]) for line in mine], 75) == row.area.p75
        assert np.median([float(line["convexity"]) for line in mine]) == pytest.approx(row.convexity.median, abs=1e-6)
        assert np.median([int(line["vertices"]) for line in mine]) == row.vertices.median == 20
        assert [int(line["cell"]) for line in mine] == own.cell.tolist()
        assert [line["split"] for line in mine] == [own.records[i].split for i in own.image]
    assert list(path.parent.iterdir()) == [path]


def test_the_csv_has_vertices_only_where_they_were_counted(tmp_path):
    plain, counted = cells("A172", [3, 4]), replace(cells("BV2", [5, 6]), vertices=np.array([7, 0]))
    write_cells(tmp_path / "a.csv", [plain])
    assert (tmp_path / "a.csv").read_text().splitlines()[:2] == [
        "data,type,split,image,well,cell,area,convexity,whole",
        "all,A172,test,A172/x,A172/A1,1,3,0.500000,1",
    ]
    write_cells(tmp_path / "b.csv", [plain, counted])
    assert [line.split(",")[-1] for line in (tmp_path / "b.csv").read_text().splitlines()] == [
        "vertices", "", "", "7", "",
    ]  # fmt: skip

"""Each code of the check is given for a file made for it, alone, with its count; a clean dataset gives none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from policy_search.cells.checks import CODES, Check, Finding, Report, open_splits
from policy_search.cells.sources import resolve
from tests.cells.tidy_coco import HEIGHT, WIDTH, TidyCoco, square


def check(data: str, root: Path | None = None) -> Report:
    """All splits, as the command does it."""
    under_way = Check()
    for opened in open_splits(data, root):
        under_way.note(opened.findings)
        if not opened.same:
            under_way.add(opened.dataset)
    return under_way.report()


def found(report: Report) -> dict[str, int]:
    """Code → count over all its findings."""
    return {code: sum(f.count for f in group) for code, group in report.by_code().items()}


@pytest.fixture
def tidy(tmp_path: Path) -> TidyCoco:
    return TidyCoco(tmp_path)


def test_a_clean_dataset_has_no_finding(tidy):
    report = check(tidy.write())
    assert report.findings == ()
    assert report.images == {"train": 2, "val": 2, "test": 2}
    assert report.cells == 90
    assert report.usable


def test_the_demo_culture_has_no_finding():
    report = check("demo/SKOV3")
    assert report.findings == ()
    assert report.cells == sum(len(d.instances(r)) for s in ("train", "val", "test") for d in [resolve("demo/SKOV3", s)]
                               for r in d)  # fmt: skip


def first(tidy: TidyCoco, split: str = "train") -> str:
    return tidy.image(split)["file_name"]


def missing(t):
    t.pixels[first(t)] = None


def size(t):
    t.pixels[first(t)] = t.pixels[first(t)][:-1]


def broken_code(t):
    t.cell("train")["segmentation"] = {"size": [HEIGHT, WIDTH], "counts": "5"}


def id_conflict(t):
    t.image("train")["id"] = 2


def name_conflict(t):
    t.image("train", 1)["file_name"] = first(t)


def entry_repeated(t):
    t.splits["train"]["images"].append(dict(t.image("train")))


def hidden(t):
    t.image("train")["annotated"] = False


def orphaned(t):
    for cell in t.splits["train"]["annotations"][:3]:
        cell["image_id"] = 77


def id_repeated(t):
    for cell in t.splits["train"]["annotations"][1:3]:
        cell["id"] = t.cell("train")["id"]


def category(t):
    for cell in t.splits["train"]["annotations"][:4]:
        cell["category_id"] = 9


def near_miss(t):
    for entry in (e for content in t.splits.values() for e in content["images"]):
        entry["cell_type"] = "SKOV"


def empty(t):
    t.cell("train")["segmentation"] = []
    t.cell("train", 1)["segmentation"] = [[1, 2, 3, 4]]


def outside(t):
    t.cell("train").update(square(WIDTH + 3, 5))
    t.cell("train", 1).update(square(5, -40))


def without_pixel(t):
    t.cell("train").update(segmentation=[[5, 5, 5, 5, 5, 5]], bbox=[5, 5, 0, 0], area=0)


def crowd(t):
    t.cell("train")["iscrowd"] = 1


def short_ring(t):
    t.cell("train")["segmentation"].append([1, 2, 3, 4])


def vertices(t):
    t.cell("train").update(square(-4, 5))


def bbox(t):
    t.cell("train")["bbox"] = [5, 5, 8, 12]
    t.cell("train", 1)["bbox"] = None
    t.cell("train", 2)["bbox"] = "none"


def area(t):
    t.cell("train")["area"] = 100
    t.cell("train", 1)["area"] = 72  # within the tolerance
    del t.cell("train", 2)["area"]


def duplicated(t):
    for index in (1, 2):
        t.cell("train", index).update(square(5, 5))


def within(t):
    t.cell("train", 1).update(square(7, 7, 5))


def incomplete(t):
    t.image("train")["annotation_incomplete"] = True


def few(t):
    t.splits["train"]["annotations"] = t.splits["train"]["annotations"][15:]


def constant(t):
    t.pixels[first(t)][:] = 128


def saturated(t):
    t.pixels[first(t)][: HEIGHT // 5] = 255


def same_pixels(t):
    t.pixels[t.image("train", 1)["file_name"]] = t.pixels[first(t)]


def two_splits(t):
    t.pixels[first(t, "test")] = t.pixels[first(t)]


def wells(t):
    name = "A172_Phase_A1_1_00d04h00m_1.png"
    t.pixels[name] = t.pixels.pop(first(t, "test"))
    t.image("test")["file_name"] = name


CASES = {
    "image-missing": (missing, 1),
    "image-size": (size, 1),
    "shapes-damaged": (broken_code, 1),
    "image-id-conflict": (id_conflict, 1),
    "image-name-conflict": (name_conflict, 2),
    "image-entry-repeated": (entry_repeated, 1),
    "annotation-orphaned": (orphaned, 3),
    "annotation-hidden": (hidden, 15),
    "annotation-id-repeated": (id_repeated, 2),
    "category-unknown": (category, 4),
    "type-near-miss": (near_miss, 6),
    "cell-empty": (empty, 2),
    "cell-outside": (outside, 2),
    "cell-without-pixel": (without_pixel, 1),
    "crowd-region": (crowd, 1),
    "ring-too-short": (short_ring, 1),
    "vertices-outside": (vertices, 1),
    "bbox-differs": (bbox, 2),
    "area-differs": (area, 1),
    "cell-duplicated": (duplicated, 3),
    "cell-within-another": (within, 1),
    "annotation-incomplete": (incomplete, 1),
    "cells-few": (few, 1),
    "image-constant": (constant, 1),
    "image-saturated": (saturated, 1),
    "image-repeated": (same_pixels, 2),
    "image-in-two-splits": (two_splits, 2),
    "wells-shared": (wells, 1),
}
# What follows of itself: with its id the image's annotations go to the other image of that id.
ALSO = {"image-id-conflict": {"annotation-orphaned": 15}}
# test_checks_files.py, test_checks_across.py
ELSEWHERE = {"annotations-damaged", "file-changed", "image-damaged", "cells-below-type"}


@pytest.mark.parametrize("code", CASES)
def test_each_code_is_given_for_its_damage_and_for_nothing_else(code, tidy):
    spoil, count = CASES[code]
    spoil(tidy)
    report = check(tidy.write())
    assert found(report) == {code: count, **ALSO.get(code, {})}
    finding = report.by_code()[code][0]
    assert finding.record
    assert len(finding.text) > 10
    assert report.usable == (CODES[code].level == "warning")


def test_every_code_has_its_test_and_its_line():
    assert set(CASES) | ELSEWHERE == set(CODES)
    assert max(len(name) for name in CODES) <= 24
    levels = [code.level for code in CODES.values()]
    assert levels == sorted(levels), "errors first: findings are shown in this order"
    assert all(code.level in ("error", "warning") and code.counted.endswith(("s", "ies")) for code in CODES.values())
    with pytest.raises(ValueError, match="not one of the codes"):
        Finding("no-such-code", "x", "train", "text")


def test_nothing_is_lost_untold(tidy):
    """Annotations in = cells out + those that findings count as left out."""
    for spoil in (empty, without_pixel, crowd, outside):
        spoil(tidy)
    tidy.cell("train", 3)["segmentation"] = {"size": [HEIGHT, WIDTH], "counts": ""}
    tidy.cell("train", 4).update(square(WIDTH + 9, 5))
    tidy.cell("train", 5)["segmentation"] = [[]]
    report = check(tidy.write())
    lost = ("crowd-region", "cell-empty", "cell-outside", "cell-without-pixel")
    assert report.cells + sum(found(report).get(code, 0) for code in lost) == 90
    assert report.cells < 90


def test_noise_is_no_picture_trouble():
    from policy_search.cells.checks.pictures import pixel_findings

    record = resolve("demo/A172").records[0]
    assert pixel_findings(np.random.default_rng(0).integers(0, 256, (50, 50), np.uint8), record) == []

"""Parts of the page on experiments: colours, chosen images, outlines, sizes of pictures, words."""

from __future__ import annotations

import json
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from detection.compare import Runs, compare, every_pair
from detection.matches import ImageMatches
from detection.reports.folders import licences, record_named
from detection.reports.heat import Gain, colour, heat_map
from detection.reports.images import STEPS, compressed, side_by_side
from detection.reports.markup import Cell, table
from detection.reports.predictions import FOUND, LABELLED, SCORE, Kept, extremes, fullest, pair
from detection.reports.words import verdict
from policy_search.cells import Instance, InstanceMap, resolve
from policy_search.cells.errors import InputError
from tests.detection.culture import culture, ellipses
from tests.detection.experiment import detect


def matches(name: str, right: int, cells: int = 10, wrong: int = 0) -> ImageMatches:
    """An AP50 of about right / cells, less where wrong ones come first."""
    hits = np.array([False] * wrong + [True] * right)
    return ImageMatches(name, name, cells, np.linspace(1, 0.5, len(hits), dtype=np.float32), hits)


def test_colours_are_symmetric_about_the_middle():
    assert colour(0, 5) == "#f7f7f7"
    assert (colour(-5, 5), colour(5, 5)) == ("#b2182b", "#2166ac")
    assert colour(99, 5) == colour(5, 5)
    assert colour(0, 0) == "#f7f7f7"
    reds = [int(colour(x, 5)[1:3], 16) - int(colour(x, 5)[5:7], 16) for x in np.linspace(-5, 5, 21)]
    assert all(a >= 0 for a in reds[:11])
    assert all(a <= 0 for a in reds[10:])


def test_a_missing_gain_is_a_dash_and_ink_can_be_read():
    svg = heat_map(
        ["a"], [["x", "y"], ["z"]], {("a", "x"): Gain(8, True, "w"), ("a", "z"): Gain(0.04, False, "v")}, "l"
    )
    assert svg.count(">–<") == 1
    assert "a, y: not measured" in svg
    assert 'fill="#fff">+8.0' in svg
    assert 'fill="#111">0.0' in svg
    assert "+8.0</text></g>" not in svg  # its dot follows


def test_best_and_worst_image():
    images = [matches("b", 5), matches("a", 5), matches("d", 9), matches("c", 1), matches("e", 0, cells=0, wrong=3)]
    best, worst = extremes(images)
    assert (best.image, best.kind, worst.image, worst.kind) == ("d", "best", "c", "worst")
    assert best.ap50 == pytest.approx(91 / 101)  # recalls 0 … 0.90 in steps of 0.01
    assert [c.image for c in extremes(images[:2])] == ["a", "b"]
    assert [(c.image, c.kind) for c in extremes(images[:1])] == [("b", "only")]
    assert extremes(images[4:]) == []


def test_the_window_holds_most_cells():
    def dot(x: int, y: int) -> Instance:
        return Instance(1, x, y, np.ones((3, 3), bool))

    rows, columns = fullest([dot(10, 10), dot(500, 300), dot(510, 310), dot(640, 500)], 520, 704, side=256)
    assert (rows.stop - rows.start, columns.stop - columns.start) == (256, 256)
    assert rows.start <= 301 < rows.stop
    assert rows.start <= 501 < rows.stop
    assert columns.start <= 501 < columns.stop
    assert columns.start <= 641 < columns.stop
    assert fullest([], 100, 90, side=256) == (slice(0, 100), slice(0, 90))


def test_labelled_cells_left_and_found_ones_right():
    cells = ellipses(60, 70, 3, np.random.default_rng(1))
    image = np.full((60, 70), 90, np.uint8)
    image[::2] = 110
    both = pair(image, cells, InstanceMap.empty(60, 70))
    left, right = both.pixels[:, :70], both.pixels[:, -70:]
    assert (both.labelled, both.found) == (3, 0)
    outlines = (left == LABELLED).all(axis=2)
    assert outlines.sum() > 50
    assert not outlines[~cells.foreground()].any()
    assert (right == right[..., :1]).all()
    swapped = pair(image, InstanceMap.empty(60, 70), cells)
    assert ((swapped.pixels[:, -70:] == FOUND).all(axis=2) == outlines).all()


def test_kept_detections_from_the_score_on(tmp_path):
    data = culture(("A172",), images=2)
    comparison = detect(data, 0.8, np.random.default_rng(0))
    comparison.write(tmp_path, "A172")
    kept = Kept(tmp_path, "A172")
    name = data.records[1].id
    labelled, found = kept.cells(name)
    truth = data.instances(data.records[1])
    assert sorted(c.area for c in labelled) == sorted(c.area for c in truth)
    own = [e["score"] for e in comparison.detections if e["image_id"] == 2]
    assert min(own) < SCORE
    assert len(found) == sum(score >= SCORE for score in own)
    with pytest.raises(InputError, match="of other images than x"):
        kept.cells("x")
    (tmp_path / "detections" / "A172.json").write_text("{")
    with pytest.raises(InputError, match="is damaged"):
        Kept(tmp_path, "A172")


def test_pictures_shrink_until_they_fit():
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (120, 150, 3)).astype(np.uint8) for _ in range(3)]
    free = compressed(pictures, 10**9)
    assert [Image.open(BytesIO(data)).size for data in free] == [(150, 120)] * 3
    limit = sum(map(len, free)) // 2
    less = compressed(pictures, limit)
    assert sum(map(len, less)) <= limit
    assert Image.open(BytesIO(less[0])).size < (150, 120)
    least = compressed(pictures, 1)
    assert Image.open(BytesIO(least[0])).size == (round(150 * STEPS[-1][0]), round(120 * STEPS[-1][0]))
    red = np.zeros((40, 40, 3), np.uint8)
    red[..., 0] = 200
    assert np.asarray(Image.open(BytesIO(compressed([red], 10**9)[0])))[20, 20] == pytest.approx([200, 0, 0], abs=4)
    assert side_by_side([red, red]).shape == (40, 86, 3)


def test_a_table_refuses_ragged_rows():
    with pytest.raises(ValueError, match="another number of cells"):
        table("t", ["a", "b"], [[Cell(("1",))]])


def runs(gains: dict[str, int], *, images: int, seeds: int, wells: bool = True) -> Runs:
    found = {}
    for row, gain in gains.items():
        for seed in range(seeds):
            own = [matches(f"i{n}", 40 + gain + (n * 3 + seed * (2 + len(row))) % 4, 100) for n in range(images)]
            found[row, seed] = {
                "BT474": own if wells else [ImageMatches(m.image, "w", *list(vars(m).values())[2:]) for m in own]
            }
    return Runs("A172", False, "none", tuple(gains), frozenset({"A172"}), tuple(range(seeds)), found)


def test_verdict_sorts_rows():
    words = " ".join(
        verdict(compare(runs({"none": 0, "up": 30, "more": 40, "down": -30, "level": 0}, images=8, seeds=3)))
    )
    assert "on the one cell type never seen" in words
    better, worse, rest = (words.split(f"{key}: ")[1].split(". ")[0] for key in ("Better", "Worse", "correction"))
    assert better.index("more +") < better.index("up +")
    assert "down −" in worse
    assert "level" in rest
    assert not any(name in rest for name in ("up", "more", "down"))
    assert "seed" not in words


def test_verdict_says_what_intervals_do_not_cover():
    one = " ".join(verdict(compare(runs({"none": 0, "up": 30}, images=1, seeds=3))))
    assert "Better on these very images: up" in one
    assert "intervals hold the spread between seeds alone and nothing can be said of other images: BT474" in one
    single = " ".join(verdict(compare(runs({"none": 0, "up": 30}, images=8, seeds=1))))
    assert "One seed alone: nothing is known of the spread between trainings." in single
    near = " ".join(verdict(compare(runs({"none": 0, "up": 30}, images=8, seeds=3, wells=False))))
    assert "Images of one well only, near copies, so intervals are too narrow: BT474." in near
    none = " ".join(verdict(compare(runs({"none": 0}, images=8, seeds=3))))
    assert none.startswith("No row but “none” is finished yet")
    seen = runs({"none": 0, "up": 30}, images=8, seeds=3)._replace(seen=frozenset({"BT474"}))
    assert verdict(compare(seen))[0].startswith("No cell type was tested that the models had not seen")


def test_verdict_sets_learnt_rows_against_each_naive_one():
    own = runs({"none": 0, "low": 10, "top": 45, "ours": 25, "twin": 25}, images=8, seeds=3)
    words = verdict(compare(own, pairs=every_pair(["ours"], ["low", "top", "twin"])))[-1]
    head, *parts = words.removesuffix(".").split(": ")[0], *words.removesuffix(".").split(": ")[1].split("; ")
    assert head == "The learnt ours against each naive row"
    assert parts[:2] == ["better than low", "worse than top"]
    assert parts[2].startswith("not told apart from twin ")


def test_licences_are_those_that_the_files_state(tmp_path):
    for name, stated in (
        ("a", [{"name": "CC BY-NC 4.0"}]),
        ("b", [{"name": "MIT"}, {"name": "CC BY-NC 4.0"}]),
        ("c", None),
    ):
        image = {"id": 1, "file_name": f"{name}.png", "height": 8, "width": 8}
        content = {"images": [image], "annotations": [], **({"licenses": stated} if stated else {})}
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / f"{name}.png")
    data = [resolve(str(tmp_path / f"{name}.json"), "test") for name in "abc"]
    assert licences(data) == ["CC BY-NC 4.0", "MIT"]
    assert licences(data[2:]) == []
    assert licences([resolve("demo/A172", "test")]) == []
    assert record_named(data[0], data[0].cell_types[0], "a.png") == data[0].records[0]
    with pytest.raises(InputError, match=r"has no .* image b\.png"):
        record_named(data[0], data[0].cell_types[0], "b.png")

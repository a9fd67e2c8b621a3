"""The before/after sheet of a trial, and one draw of a policy's choices."""

from __future__ import annotations

import io
from collections import Counter

import albumentations as A
import numpy as np
import pytest
from PIL import Image

from policy_search.augment import PolicyDocument, baseline, choice
from policy_search.augment.preview import draw_outlines
from policy_search.cells import InstanceMap
from policy_search.study.probe import ProbeSample
from policy_search.study.quick_sheet import CAPTION, DRAWS, GAP, GREYS, TILE, TITLE, border, sheet_png, sources
from policy_search.study.taken import taken_branches
from tests.study.conftest import culture


def tiles(png):
    """Palette indices of the tiles, row by row."""
    pixels = np.asarray(Image.open(io.BytesIO(png)))
    rows = (pixels.shape[0] - TITLE) // (TILE + CAPTION + GAP)

    def tile(i, j):
        y, x = TITLE + i * (TILE + CAPTION + GAP) + CAPTION, GAP + j * (TILE + GAP)
        return pixels[y : y + TILE, x : x + TILE]

    return [[tile(i, j) for j in range(1 + DRAWS)] for i in range(rows)]


@pytest.fixture(scope="module")
def large():
    return sources([culture(seed, 300, 280, 40) for seed in range(4)])


def test_same_seed_same_bytes_and_another_seed_others(large):
    policy = baseline("stacked_p0.8")
    assert sheet_png(policy, large, seed=3) == sheet_png(policy, large, seed=3)
    assert sheet_png(policy, large, seed=3) != sheet_png(policy, large, seed=4)


def test_draws_and_seeds_of_a_policy_without_branches_differ(large):
    turned = PolicyDocument.from_compose(A.Compose([A.Affine(rotate=(-90, 90), fill=128, p=1.0)]))
    pictures = [tiles(sheet_png(turned, large, seed=seed))[0] for seed in (0, 1)]
    shown = {tile.tobytes() for row in pictures for tile in row}
    assert len(shown) == 1 + 2 * DRAWS


def test_nothing_is_changed_by_none_and_much_by_a_flip(large):
    for row in tiles(sheet_png(baseline("none"), large, seed=0)):
        assert all(np.array_equal(row[0], tile) for tile in row[1:])
    flipped = choice({"flip": 1.0}, "flips")
    for row in tiles(sheet_png(flipped, large, seed=0)):
        for tile in row[1:]:
            grey = tile < GREYS
            mirrored = [row[0][:, ::-1], row[0][::-1]]
            # Colours of outlines where cells overlap aside, the middle of a flipped image is the flipped middle.
            assert max((m == tile)[grey].mean() for m in mirrored) > 0.95


def test_the_original_shows_image_and_outlines(large):
    first = tiles(sheet_png(baseline("none"), large, seed=0))[0][0]
    middle = slice((256 - TILE) // 2, (256 - TILE) // 2 + TILE)
    lines = border(large[0].instances)[middle, middle]
    assert np.array_equal(first >= GREYS, lines > 0)
    image = large[0].image[middle, middle].astype(float)
    inside = lines == 0
    assert np.corrcoef(first[inside], image[inside])[0, 1] > 0.97  # saturated where the contrast is raised


def test_images_smaller_than_a_tile_and_a_single_one_are_shown():
    for count in (1, 2):
        png = sheet_png(baseline("simple_copy_paste"), sources([culture(s, 70, 60, 4) for s in range(count)]), seed=0)
        assert len(tiles(png)) == count


def test_an_image_without_cells_is_shown():
    empty = ProbeSample("empty", np.full((64, 64), 99, np.uint8), InstanceMap.empty(64, 64))
    assert tiles(sheet_png(baseline("flip"), sources([empty]), seed=0))


def test_borders_are_those_of_the_preview():
    """Against `draw_outlines` where no two cells overlap: it goes cell by cell."""
    instances = culture(7, 120, 150, 20).instances
    black = np.zeros(instances.shape, np.uint8)
    assert np.array_equal(border(instances) > 0, draw_outlines(black, instances).any(axis=2))


def test_branches_are_taken_with_their_weights():
    policy = choice({"flip": 3.0, "crop": 1.0, "color_jitter": 4.0}, "c")
    rng = np.random.default_rng(0)
    counts: Counter[str] = Counter()
    for _ in range(4000):
        text = str(taken_branches(policy, rng).transform)
        assert "OneOf" not in text
        counts["jitter" if "ColorJitter" in text else "flip" if "Flip" in text else "crop"] += 1
    # Standard deviations are below 0.8 %.
    assert counts["flip"] / 4000 == pytest.approx(3 / 8, abs=0.03)
    assert counts["crop"] / 4000 == pytest.approx(1 / 8, abs=0.03)
    assert counts["jitter"] / 4000 == pytest.approx(4 / 8, abs=0.03)


def test_the_gate_of_a_choice_stays_and_the_weight_of_its_child_does_not():
    flip = {"__class_fullname__": "HorizontalFlip", "p": 0.2}
    tree = {"__class_fullname__": "Compose", "p": 1.0, "transforms": [
        {"__class_fullname__": "OneOf", "p": 0.5, "transforms": [flip]}]}  # fmt: skip
    policy = baseline("flip")
    object.__setattr__(policy, "transform", tree)
    taken = taken_branches(policy, np.random.default_rng(0)).transform["transforms"][0]
    assert taken["p"] == 0.5
    assert [child["p"] for child in taken["transforms"]] == [1.0]
    seen = sum(
        not np.array_equal(taken_branches(policy, np.random.default_rng(0)).compose()(image=IMAGE)["image"], IMAGE)
        for _ in range(400)
    )
    assert 0.4 < seen / 400 < 0.6


IMAGE = np.arange(64, dtype=np.uint8).reshape(8, 8)

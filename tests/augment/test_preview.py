"""Previews and tables: what a person is shown is what the policy does."""

from __future__ import annotations

import albumentations as A
import numpy as np
import pytest
from PIL import Image

from policy_search.augment import baseline
from policy_search.augment.describe import describe, summarise
from policy_search.augment.preview import draw_outlines, for_display, preview_tiles, save_preview
from policy_search.cells import InstanceMap, resolve


def test_sheet_has_a_row_per_image_and_a_column_per_draw(livecell_root, tmp_path):
    dataset = resolve("A172", "train", livecell_root)
    rows = preview_tiles(baseline("flip"), dataset, images=2, draws=3, seed=0)
    assert [len(row) for row in rows] == [4, 4]
    cells = len(dataset.instances(dataset.records[0]))
    assert rows[0][0].caption.startswith(f"A172, original: {cells} cells")
    assert rows[0][1].caption.startswith(f"draw 1: {cells} cells"), "a flip keeps every cell"
    save_preview(baseline("flip"), dataset, tmp_path / "a.png", seed=1)
    save_preview(baseline("flip"), dataset, tmp_path / "b.png", seed=1)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), np.asarray(Image.open(tmp_path / "b.png")))
    assert sorted(p.name for p in tmp_path.glob("*.png")) == ["a.png", "b.png"]


def test_outlines_lie_on_the_border_pixels_only():
    labels = np.zeros((20, 20), np.int32)
    labels[5:12, 4:14] = 1
    drawn = draw_outlines(np.zeros((20, 20), np.uint8), InstanceMap.from_labels(labels))
    inner = np.zeros((20, 20), bool)
    inner[6:11, 5:13] = True
    np.testing.assert_array_equal(drawn.any(-1), (labels > 0) & ~inner)


def test_display_keeps_the_order_of_contrast_and_brightness():
    image = np.random.default_rng(0).normal(128, 5, (50, 50)).astype(np.uint8)
    flat = (128 + (image.astype(float) - 128) * 0.5).astype(np.uint8)
    base = float(image.mean())
    assert for_display(flat, 4, base).std() < 0.6 * for_display(image, 4, base).std()
    assert for_display(image + 20, 4, base).mean() - for_display(image, 4, base).mean() == pytest.approx(10, abs=1)


def test_table_shares_multiply_and_gates_are_told_apart():
    rows = describe(baseline("random_choice").transform)
    assert sum(r.share for r in rows if "step 2" not in r.path) == pytest.approx(1.0)
    jitter = next(r for r in rows if r.name == "ColorJitter")
    assert jitter.share == pytest.approx(1 / 6)
    assert "brightness 0.7 … 1.3" in jitter.settings
    stacked = describe(baseline("stacked_p0.8").transform)
    assert all(r.gate == pytest.approx(0.8) for r in stacked)
    assert next(r for r in stacked if r.name == "HorizontalFlip").share == pytest.approx(0.5)


def test_summary_adds_shares_averages_gates_and_spans_ranges():
    def branch(low: float, gate: float) -> A.Sequential:
        flip = A.Sequential([A.HorizontalFlip(p=1.0)], p=0.25)
        turn = A.Sequential([A.Affine(rotate=(low, low + 5), p=gate)], p=0.75)
        return A.Sequential([A.OneOf([flip, turn], p=1.0), A.InvertImg(p=0.5)], p=1.0)

    rows = describe(A.Compose([A.OneOf([branch(-10, 0.2), branch(3, 0.6)], p=1.0)]).to_dict()["transform"])
    assert len(rows) == 6
    turn, flip, invert = summarise(rows)
    assert (turn.path, turn.name, turn.settings) == ("step 1", "Affine", "rotate -10 … 8")
    assert (turn.share, turn.gate) == (pytest.approx(0.75), pytest.approx(0.4))
    assert (flip.name, flip.share) == ("HorizontalFlip", pytest.approx(0.25))
    assert (invert.path, invert.share, invert.gate) == ("step 2", pytest.approx(1.0), pytest.approx(0.5))


def test_settings_leave_out_what_does_nothing_and_say_equal_axes_once():
    (row,) = describe(A.Compose([A.Affine(scale=(0.5, 2.0), keep_ratio=True, p=1.0)]).to_dict()["transform"])
    assert row.settings == "scale 0.5 … 2"
    (row,) = describe(A.Compose([A.Affine(translate_px={"x": (1, 9), "y": (0, 0)}, p=1.0)]).to_dict()["transform"])
    assert row.settings == "translate_px.x 1 … 9"

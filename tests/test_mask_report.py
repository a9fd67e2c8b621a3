"""The tables of the mask comparison, against figures made by hand; and that its masks move with their images."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "experiments"))
from mask_recovery import _like, plan
from mask_report import deviations, tables
from weak import scores


def record(variant: str, scale: float, *, seed: int = 0, seconds: float = 10.0) -> dict[str, Any]:
    """A run of "scale 0.6" that found everything else."""
    found = {
        "levels": [100, 128, 150],
        "tone": [100 / 255, 128 / 255, 150 / 255],
        "ends": (51, 204),
        "slope": 1.0,
        "scale": [scale, 0.6],
        "blur": 0.0,
    }
    return {
        "variant": variant, "data": "demo", "case": "scale 0.6", "seed": seed, "mean": 0.5, "found": found,
        "cpu_seconds": seconds,
    }  # fmt: skip


def test_deviations_are_in_tolerances() -> None:
    found = deviations(record("none", 0.6 * 1.035))
    assert found["scale x"] == pytest.approx(0.5)
    assert found["scale y"] == pytest.approx(0)
    assert found["tone"] == pytest.approx(0)
    assert deviations(record("none", 0.6 * 0.86))["scale x"] == pytest.approx(2)


def test_the_table_pairs_runs_and_leaves_out_those_without_a_partner() -> None:
    records = [
        record("none", 0.6 * 1.14), record("rerun", 0.6 * 1.07, seconds=30),
        record("none", 0.6 * 1.07, seed=1), record("rerun", 0.6 * 1.035, seed=1, seconds=20),
        record("none", 0.9, seed=2),
    ]  # fmt: skip
    lines, figures = tables(records, {"none": "without", "rerun": "with"}, "At equal steps")
    without, beside = figures["demo"]["none"], figures["demo"]["rerun"]
    assert (without["runs"], beside["runs"], beside["nearer"]) == (2, 2, 2)
    assert without["mean"] == pytest.approx(1.5)
    assert beside["mean"] == pytest.approx(0.75)
    assert (without["cpu_seconds"], beside["cpu_seconds"]) == (10, 25)
    assert lines[0] == "### At equal steps: synthetic demo culture, A172"
    assert "| scale 0.6 | scale x | 0.600 | 0.684, 0.642; 2.0, 1.0 | 0.642, 0.621; 1.0, 0.5 |" in lines


def test_every_run_has_a_name_of_its_own() -> None:
    names = [run.name for run in plan()]
    assert len(set(names)) == len(names)


def test_labels_are_resized_with_their_image() -> None:
    labels = np.zeros((40, 60), np.uint16)
    labels[10:20, 30:50] = 7
    larger = _like(labels, np.zeros((80, 90), np.uint8))
    assert larger.shape == (80, 90)
    assert set(np.unique(larger)) == {0, 7}
    assert (larger == 7).sum() == 20 * 30
    assert _like(labels, np.zeros((40, 60), np.uint8)) is not labels
    assert np.array_equal(_like(labels, np.zeros((40, 60), np.uint8)), labels)


def test_scores_of_two_masks() -> None:
    truth, found = np.zeros((4, 4), np.bool_), np.zeros((4, 4), np.bool_)
    truth[:2], found[1:3] = True, True
    assert scores(found, truth) == {"iou": pytest.approx(1 / 3), "precision": 0.5, "recall": 0.5}

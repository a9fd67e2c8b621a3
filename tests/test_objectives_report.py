"""The figures of experiments/objectives.py, on tables whose answers are known."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "experiments"))
import objectives_report as figures


def test_a_seed_is_set_against_the_truth_of_the_other_seeds_alone() -> None:
    truth = np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]])  # the two seeds contradict each other
    assert figures.across(truth, truth) == pytest.approx(-1.0)
    assert figures.across(truth, truth[:, ::-1]) == pytest.approx(1.0)
    assert figures.of_means(truth, truth) == 0.0  # all means are equal


def test_what_is_lost_is_counted_by_the_other_seeds_too() -> None:
    truth = np.array([[0.1, 0.2], [0.5, 0.4], [0.3, 0.9]])
    objective = np.array([[9.0, 0.0], [0.0, 0.0], [0.0, 9.0]])
    # Seed 0 takes the first: 0.9 - 0.2 of seed 1. Seed 1 takes the third: 0.5 - 0.3 of seed 0.
    assert figures.regret(objective, truth) == pytest.approx((0.7 + 0.2) / 2)


def test_the_ceiling_is_that_of_spearman_and_brown() -> None:
    rng = np.random.default_rng(0)
    real = rng.normal(size=4000)
    truth = real[:, None] + rng.normal(size=(4000, 3))
    found = figures.ceiling(truth)
    assert found["pair"] == pytest.approx(0.48, abs=0.03)  # Pearson's 0.5, as Spearman sees it
    assert found["mean"] == pytest.approx(figures.of_means(truth, real[:, None] + rng.normal(size=(4000, 3))), abs=0.03)
    assert found["best"] == pytest.approx(figures.of_means(truth, real[:, None]), abs=0.03)


def test_the_bootstrap_draws_all_tables_alike() -> None:
    table = np.arange(12.0).reshape(4, 3)
    same = figures.bootstrap(lambda t: float(np.abs(t[0] - t[1]).max()), np.stack([table, table]), draws=50)
    assert (same == 0).all()
    spread = figures.bootstrap(lambda t: float(t[0].mean()), np.stack([table, table]), draws=500)
    assert spread.mean() == pytest.approx(table.mean(), abs=0.3)
    assert spread.std() > 1


def cells(policies: int = 5, seeds: int = 3) -> list[dict[str, Any]]:
    """The bridge ranks as the truth does, the probe the other way round; one policy lacks a seed."""
    found: list[dict[str, Any]] = []
    for p in range(policies):
        for s in range(seeds):
            same = {"policy": f"p{p}", "seed": s, "commit": "abc"}
            found += [
                {"kind": "truth", "cpu_s": 50.0, "unseen": {"a": p / 10, "b": p / 10}, "shifts": {"x": p + s}, **same},
                {"kind": "probe", "cpu_s": 7.0, "prepare_cpu_s": 17.0 * (p == 0), "value": -p, "ap50": p,
                 "checks": {"0.25": p, "0.5": -p}, **same},
                {"kind": "bridge", "cpu_s": 0.5, "value": 9.0 - p, "checks": {"0.25": 9 - p, "0.5": 9 - p}, **same},
                {"kind": "affinity-diversity", "cpu_s": 5.0, "affinity": -p / 10, "diversity": 1.0 + p, "clean": 0.8,
                 **same},
            ]  # fmt: skip
    return [c for c in found if (c["kind"], c["policy"], c["seed"]) != ("probe", "p2", 1)]


def test_the_tables_hold_what_is_complete_the_right_way_round() -> None:
    names, seeds, found = figures.tables(cells())
    assert names == ["p0", "p1", "p3", "p4"]
    assert seeds == [0, 1, 2]
    assert figures.of_means(found["bridge"], found["truth"]) == pytest.approx(1.0)
    assert figures.of_means(found["probe"], found["truth"]) == pytest.approx(-1.0)
    assert found["affinity × diversity"][1, 0] == pytest.approx((1 - 0.1 / 0.8) * 2)
    assert figures.prices(cells())["probe"] == (7.0, 17.0)
    facts = {
        "cells": cells(), "data": "demo/A172", "train_images": 1, "iterations": 1, "base_iterations": 1,
        "truth_images": {"a": 1}, "truth_cells": {"a": 2}, "command": "c", "date": "d",
    }  # fmt: skip
    text = figures.report(facts)
    assert "SYNTHETIC" in text
    assert "| bridge | +1.00 |" in text
    assert "* probe at 0.25: -1.00" in text
    assert "too few" in figures.report({**facts, "cells": cells(seeds=1)})

"""Result files of a matrix: records of one scale read as one, and learnt policies kept beside them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "experiments"))
from record_matrix import keep_policies, together

from detection.matrices.record import CellRecord, MatrixRecord


def cell(label: str, seed: int, policy: str = "none", place: str = "a") -> CellRecord:
    return CellRecord(
        label=label, source="A172", seed=seed, policy_hash=label, config_hash="c", policy=policy,
        policy_file=f"{label}-{seed}/policy.json", folder=label, seconds=1.0, place=place, commands=(),
    )  # fmt: skip


def record(name: str, rows: tuple[str, ...], cells: tuple[CellRecord, ...], **changed: object) -> MatrixRecord:
    whole = {
        "experiment": name, "title": name, "scale": "demo", "reference": "none", "rows": rows, "sources": ("A172",),
        "seeds": (0, 1), "planned": 2 * len(rows), "cells": cells, "synthetic": True, "data": "demo", "versions": {},
        "threads": 1, "started": f"2026-01-0{len(rows)}", "finished": f"2026-02-0{len(rows)}", "command": f"run {name}",
    }  # fmt: skip
    return MatrixRecord(**whole | changed)


def test_rows_of_both_in_order_and_shared_ones_once():
    one = record("one", ("none", "a"), (cell("none", 0, place="first"), cell("none", 1), cell("a", 0), cell("a", 1)))
    two = record("two", ("none", "b", "c"), (cell("none", 0, place="second"), cell("b", 1)))
    both = together([one, two], "both")
    assert both.rows == ("none", "a", "b", "c")
    assert [(c.label, c.seed) for c in both.cells] == [("none", 0), ("none", 1), ("a", 0), ("a", 1), ("b", 1)]
    assert both.cells[0].place == "first"
    assert both.planned == 8, "so that what is missing is told"
    assert (both.started, both.finished) == ("2026-01-02", "2026-02-03")
    assert both.command.split() == ["run", "one", "run", "two"]
    for key, value in (("scale", "livecell"), ("seeds", (0,)), ("reference", "a"), ("data", "x"), ("threads", 2)):
        with pytest.raises(SystemExit, match=f"differ in {key}"):
            together([one, two.model_copy(update={key: value})], "both")


def test_learnt_policies_are_copied_and_named_by_scale_search_and_seed(tmp_path):
    (tmp_path / "runs" / "ours-1").mkdir(parents=True)
    (tmp_path / "runs" / "ours-1" / "policy.json").write_text("learnt")
    records = tmp_path / "records"
    records.mkdir()
    cells = (cell("none", 0), cell("ours", 0, "search:target"), cell("ours", 1, "search:target"))
    kept = keep_policies(record("one", ("none", "ours"), cells), tmp_path / "runs", records)
    assert [c.policy_file for c in kept.cells] == [
        "none-0/policy.json", "ours-0/policy.json", "policies/demo.target.1.json",
    ]  # fmt: skip
    assert (records / kept.cells[2].policy_file).read_text() == "learnt"
    assert len(list(records.rglob("*.json"))) == 1

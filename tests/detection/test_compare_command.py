"""`detect compare` from a record of a matrix and a store to a file."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from typer.testing import CliRunner

from detection.cli import app
from detection.compare import compare
from detection.matrices.record import CellRecord, MatrixRecord, save_matrix
from detection.matrices.runs import learnt_rows, naive_rows, paper_of, runs_of
from detection.statistics.paper import read_paper
from detection.store import Result, Store
from policy_search.cells.errors import InputError
from tests.detection.compared import runs

SKILLS = {"none": 0.45, "flip": 0.6, "crop": 0.4, "ours": 0.75}
POLICIES = {"none": "none", "flip": "flip", "crop": "crop", "ours": "search:ours_target"}
TABLE = Path(__file__).parents[2] / "experiments" / "paper_tables.csv"
MEASURED = runs(SKILLS)


def result(row: str, seed: int, cell_type: str) -> Result:
    return Result(
        source="A172", policy_hash=f"p-{row}", policy=row, seed=seed, config_hash="c", cell_type=cell_type,
        seen=cell_type == "A172", train_fingerprint="t", test_fingerprint=f"f-{cell_type}", synthetic=False,
        date="2026-01-01T00:00:00", seconds=1.0, versions="{}", ap=None, ap50=0.5, ap75=None, aps=None, apm=None,
        apl=None, ar=None, images=1, cells=1, detections=1,
    )  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "results.sqlite")
    for (row, seed), types in MEASURED.images.items():
        made.put([result(row, seed, t) for t in types], types)
    return made


def record(**changes: object) -> MatrixRecord:
    cells = tuple(
        CellRecord(label=row, paper=None if row == "ours" else row, source="A172", seed=seed, policy_hash=f"p-{row}",
                   config_hash="c", policy=POLICIES[row], policy_file="p.json", folder="f", seconds=1.0, place="here",
                   commands=("detect finetune",))
        for row, seed in MEASURED.images
    )  # fmt: skip
    values = {
        "experiment": "table", "title": "Table", "scale": "demo", "reference": "none", "rows": tuple(SKILLS),
        "sources": ("A172",), "seeds": (0, 1, 2), "planned": 24, "cells": cells, "synthetic": False,
        "data": "livecell-mini", "versions": {}, "threads": 1, "started": "", "finished": "",
    }  # fmt: skip
    return MatrixRecord(**{**values, **changes})


def test_runs_hold_what_the_store_holds(store):
    (found,) = runs_of(record(), store)
    assert found[:6] == MEASURED[:6]
    assert found.images.keys() == MEASURED.images.keys()
    assert compare(found, draws=100) == compare(MEASURED, draws=100)
    assert runs_of(record(synthetic=True), store)[0].synthetic


def test_one_synthetic_result_makes_the_source_synthetic(store):
    types = MEASURED.images["none", 0]
    store.put([result("none", 0, t).model_copy(update={"synthetic": t == "BV2"}) for t in types], types)
    assert runs_of(record(), store)[0].synthetic


def test_sources_come_in_the_records_order_and_only_where_something_is_finished(store):
    store.put([result("none", 0, "BV2").model_copy(update={"source": "BV2"})],
              {"BV2": MEASURED.images["none", 0]["BV2"]})  # fmt: skip
    more = record().cells[0].model_copy(update={"source": "BV2"})
    both = record(cells=(*record().cells, more), sources=("BV2", "A172", "MCF7"))
    assert [r.source for r in runs_of(both, store)] == ["BV2", "A172"]
    assert runs_of(record(cells=()), store) == []


def test_rows_are_learnt_or_naive_by_their_policy():
    assert naive_rows(record()) == ("flip", "crop")
    assert learnt_rows(record()) == ("ours",)
    assert learnt_rows(record(cells=record().cells[:3])) == ()


def test_the_papers_columns_go_by_the_rows_labels():
    columns = read_paper(TABLE)
    named = tuple(c.model_copy(update={"paper": "random_choice" if c.label == "flip" else c.paper})
                  for c in record().cells)  # fmt: skip
    assert paper_of(record(cells=named), columns) == {
        "none": columns["none"], "flip": columns["random_choice"], "crop": columns["crop"],
    }  # fmt: skip
    wrong = tuple(c.model_copy(update={"paper": "flop"}) for c in record().cells)
    with pytest.raises(InputError, match="row none: the paper's tables have no column 'flop'"):
        paper_of(record(cells=wrong), columns)


@pytest.mark.parametrize("sources", [("UsiigaciA",), ("BT474",), ("A172", "BV2"), ("A172,BV2",)])
def test_the_papers_numbers_stand_beside_models_of_its_own_source_only(store, tmp_path, sources):
    columns = read_paper(TABLE)
    assert paper_of(record(sources=("demo/A-172",)), columns) == paper_of(record(), columns) != {}
    assert paper_of(record(sources=sources), columns) == {}
    save_matrix(record(sources=("A172", *sources)), tmp_path / "table.json")
    done = command(tmp_path, "--format", "csv", "--paper", str(TABLE))
    assert "paper_ap50" not in done.stdout
    assert "left out: its model was trained on A172" in done.stderr


def test_a_store_without_a_finished_cell_or_its_images_is_refused(store, tmp_path):
    with pytest.raises(InputError, match="has no results for none from A172 with seed 0"):
        runs_of(record(), Store(tmp_path / "other.sqlite"))
    older = Store(tmp_path / "older.sqlite")
    older.put([result("none", 0, t) for t in MEASURED.images["none", 0]])
    with pytest.raises(InputError, match="has no images of A172, BT474, BV2, SKOV3 for none"):
        runs_of(record(), older)


def command(tmp_path: Path, *words: str) -> object:
    where = ["compare", str(tmp_path / "table.json"), "--results", str(tmp_path / "results.sqlite"), "--draws", "200"]
    return CliRunner().invoke(app, [*where, *words])


def test_the_command_writes_each_format_and_prints_a_short_table(store, tmp_path):
    save_matrix(record(), tmp_path / "table.json")
    shown = command(tmp_path)
    assert shown.exit_code == 0, shown.output
    assert "ours − flip" in shown.output
    assert max(len(line) for line in shown.output.splitlines()) <= 80
    assert "ours − flip" not in command(tmp_path, "--no-pairs").output
    for ending, start in (("md", "### Trained on A172"), ("tex", "\\begin{table}"), ("csv", "source,synthetic,")):
        out = tmp_path / "new" / f"table.{ending}"
        done = command(tmp_path, "--out", str(out), "--paper", str(TABLE))
        assert done.exit_code == 0, done.output
        assert out.read_text().startswith(start)
        assert command(tmp_path, "--format", ending, "--paper", str(TABLE)).stdout == out.read_text()
    lines = list(csv.DictReader((tmp_path / "new" / "table.csv").open()))
    own = next(x for x in lines if x["quantity"] == "gain" and x["row"] == "ours" and x["against"] == "crop")
    expected = compare(MEASURED, pairs=[("ours", "flip"), ("ours", "crop")], draws=200).rivals[1]
    assert float(own["p_holm"]) == expected.types["A172"].adjusted
    assert {x["value"] for x in lines if x["quantity"] == "paper_ap50" and x["row"] == "flip"} >= {"53.3", "66.7"}


def test_options_reach_the_comparison(store, tmp_path):
    save_matrix(record(), tmp_path / "table.json")
    wide, narrow = (" ".join(command(tmp_path, "--level", level).output.split()) for level in ("0.99", "0.9"))
    assert "99 % intervals" in wide
    assert "90 % intervals" in narrow
    assert command(tmp_path, "--format", "csv", "--seed", "1").output != command(tmp_path, "--format", "csv").output


def test_bad_input_is_an_input_error(store, tmp_path):
    def refusal(*words: str) -> str:
        found = command(tmp_path, *words)
        assert isinstance(found.exception, InputError), found.output
        return str(found.exception)

    assert "no record of a matrix" in refusal()
    save_matrix(record(cells=()), tmp_path / "table.json")
    assert "is finished yet" in refusal()
    assert "unknown format 'pdf'" in refusal("--out", str(tmp_path / "a.pdf"))
    assert not (tmp_path / "a.pdf").exists()

"""The database of results and the tables made from it."""

from __future__ import annotations

import csv
import io
import sqlite3
from concurrent.futures import ThreadPoolExecutor

import pytest

from detection.store import Result, Store
from detection.table import render, tables
from policy_search.cells.errors import InputError


def result(**changes) -> Result:
    values = {
        "source": "A172", "policy_hash": "p1", "policy": "none", "seed": 0, "config_hash": "c1", "cell_type": "BT474",
        "seen": False, "ap": 0.2, "ap50": 0.5, "ap75": 0.1, "aps": None, "apm": 0.3, "apl": 0.4, "ar": 0.6, "images": 1,
        "cells": 9, "detections": 12, "train_fingerprint": "t", "test_fingerprint": "u", "synthetic": False,
        "note": "", "date": "2026-01-01T00:00:00+00:00", "seconds": 1.5, "versions": "{}",
    }  # fmt: skip
    return Result(**{**values, **changes})


def test_rows_come_back_as_they_went_in_and_a_second_put_replaces(tmp_path):
    store = Store(tmp_path / "deep" / "r.sqlite")
    rows = [result(), result(seed=1, seen=True, ap50=None)]
    store.put(rows)
    assert Store(tmp_path / "deep" / "r.sqlite", create=False).all() == rows
    store.put([result(ap50=0.75)])
    assert [r.ap50 for r in store.all()] == [0.75, None]
    with sqlite3.connect(store.path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


@pytest.mark.parametrize("key", ["source", "policy_hash", "policy", "config_hash", "cell_type"])
def test_each_part_of_the_key_makes_another_row(tmp_path, key):
    store = Store(tmp_path / "r.sqlite")
    store.put([result(), result(**{key: "other"})])
    assert len(store.all()) == 2


def test_all_rows_are_written_or_none(tmp_path):
    store = Store(tmp_path / "r.sqlite")

    class Broken(Result):
        def model_dump(self, **_):
            return {"source": "A172"}

    with pytest.raises(InputError, match="database of results"):
        store.put([result(), Broken(**result(seed=5).model_dump())])
    assert store.all() == []


def test_find_goes_by_content_not_by_the_policys_name(tmp_path):
    store = Store(tmp_path / "r.sqlite")
    store.put([result(), result(policy_hash="p2"), result(seed=3), result(config_hash="c2"), result(source="B")])
    assert store.find("A172", "p1", 0, "c1") == [result()]


def test_what_is_no_database_is_said_so(tmp_path):
    with pytest.raises(InputError, match="no results at"):
        Store(tmp_path / "missing.sqlite", create=False)
    assert not (tmp_path / "missing.sqlite").exists()
    (tmp_path / "text.sqlite").write_text("this is a text, no database at all" * 50)
    with pytest.raises(InputError, match="cannot be used as a database"):
        Store(tmp_path / "text.sqlite")
    with sqlite3.connect(tmp_path / "newer.sqlite") as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(InputError, match="version 99"):
        Store(tmp_path / "newer.sqlite")


# As the first program made it: its statements, word for word.
SCHEMA_1 = (
    "ap", "ap50", "ap75", "aps", "apm", "apl", "ar", "images", "cells", "detections", "source", "policy_hash",
    "policy", "seed", "config_hash", "cell_type", "seen", "train_fingerprint", "test_fingerprint", "synthetic",
    "note", "date", "seconds", "versions",
)  # fmt: skip


def old_file(path, rows) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS results ({', '.join(SCHEMA_1)}, "
            "PRIMARY KEY (source, policy_hash, policy, seed, config_hash, cell_type))"
        )
        connection.execute("PRAGMA user_version = 1")
        for row in rows:
            values = [getattr(row, name) for name in SCHEMA_1]
            connection.execute(f"INSERT INTO results VALUES ({', '.join('?' * len(values))})", values)
    connection.close()


@pytest.mark.parametrize("create", [True, False])
def test_results_of_the_first_schema_are_read_and_added_to(tmp_path, create):
    path = tmp_path / "r.sqlite"
    old = [result(), result(seed=1, ap50=None)]
    old_file(path, old)
    store = Store(path, create=create)
    assert store.all() == old
    assert store.find("A172", "p1", 1, "c1") == [old[1]]
    new = result(seed=2, ar100=0.25, ar500=0.5)
    store.put([new])
    assert Store(path).all() == [*old, new]
    store.put([result(ar100=0.125, ar500=0.25)])
    assert [r.ar100 for r in store.all()] == [0.125, None, 0.25]
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone()[0] == 3


def test_reading_an_old_file_does_not_change_it(tmp_path):
    old_file(tmp_path / "r.sqlite", [result()])
    before = (tmp_path / "r.sqlite").read_bytes()
    assert Store(tmp_path / "r.sqlite", create=False).all() == [result()]
    assert (tmp_path / "r.sqlite").read_bytes() == before


def test_several_processes_may_bring_one_file_up_to_date(tmp_path):
    for attempt in range(5):
        path = tmp_path / f"{attempt}.sqlite"
        old_file(path, [result()])
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda seed: Store(path).put([result(seed=seed, ar100=0.5)]), range(1, 9)))  # noqa: B023
        assert len(Store(path).all()) == 9


@pytest.fixture
def rows() -> list[Result]:
    """Two policies, two seeds, one seen and two unseen types; `flip` lacks SKOV3 for seed 1."""
    made = []
    for policy, base in (("none", 0.2), ("flip", 0.3)):
        for seed in (0, 1):
            for cell_type, more in (("SKOV3", 0.3), ("A172", 0.1), ("BT474", 0.0)):
                if (policy, seed, cell_type) != ("flip", 1, "SKOV3"):
                    ap50 = base + more + 0.02 * seed
                    made.append(result(policy=policy, policy_hash=policy, seed=seed, cell_type=cell_type,
                                       ap50=ap50, seen=cell_type == "A172"))  # fmt: skip
    return made


def test_values_order_and_means(rows):
    (table,) = tables(rows)
    assert table.types == ("A172", "BT474", "SKOV3")
    assert table.policies == ("none", "flip")
    assert table.seen == {"A172"}
    cell = table.cells["BT474", "none"]
    assert (cell.mean, cell.sd, cell.seeds) == (pytest.approx(21.0), pytest.approx(2**0.5), 2)
    assert table.cells["SKOV3", "flip"] == (pytest.approx(60.0), None, 1)
    mean = table.cells["mean of unseen", "none"]
    assert (mean.mean, mean.seeds) == (pytest.approx((20 + 50 + 22 + 52) / 4), 2)
    assert table.cells["mean of unseen", "flip"] == (pytest.approx(45.0), None, 1)  # seed 1 lacks a type


def test_markdown(rows):
    text = render(rows, "md")
    assert "trained on A172" in text
    assert "SYNTHETIC" not in text
    lines = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("|")}
    assert [v.strip() for v in lines["A172 (seen)"].split("|")[2:4]] == ["31.0 ± 1.4", "41.0 ± 1.4"]
    assert [v.strip() for v in lines["SKOV3"].split("|")[2:4]] == ["51.0 ± 1.4", "60.0"]
    assert len({len(line) for line in lines.values()}) == 1


def test_synthetic_and_notes_are_shown_in_every_format(rows):
    marked = [r.model_copy(update={"synthetic": True, "note": "one image" if r.policy == "flip" else ""}) for r in rows]
    for form in ("md", "tex"):
        text = render(marked, form)
        assert "SYNTHETIC" in text
        assert "flip: one image" in text
    parsed = list(csv.DictReader(io.StringIO(render(marked, "csv"))))
    assert {row["synthetic"] for row in parsed} == {"1"}
    assert {row["note"] for row in parsed if row["policy"] == "flip"} == {"one image"}
    assert {row["note"] for row in parsed if row["policy"] == "none"} == {""}


def test_csv_and_tex_hold_the_same_numbers(rows):
    parsed = {(r["cell_type"], r["policy"]): r for r in csv.DictReader(io.StringIO(render(rows, "csv")))}
    assert float(parsed["A172", "none"]["ap50_mean"]) == pytest.approx(31.0)
    assert float(parsed["A172", "none"]["ap50_sd"]) == pytest.approx(2**0.5, abs=1e-4)
    assert parsed["A172", "none"]["seen"] == "1"
    assert parsed["SKOV3", "flip"]["ap50_sd"] == ""
    tex = render([r.model_copy(update={"policy": "a_b"}) for r in rows if r.policy == "none"], "tex")
    assert "a\\_b" in tex
    assert "A172 (seen) & 31.0 $\\pm$ 1.4 \\\\" in tex
    assert tex.count("{") == tex.count("}")


def test_what_cannot_be_compared_is_kept_apart(rows):
    assert len(tables([*rows, result(config_hash="c2"), result(source="demo/A172")])) == 3
    (table,) = tables([*rows, result(policy="flip", policy_hash="fffffff9")])
    assert table.policies == ("none", "flip [ffffff]", "flip [flip]")
    assert render([result(), result(config_hash="c2")], "md").count("trained on") == 2


def test_no_results_and_unknown_formats_are_said_so(rows):
    with pytest.raises(InputError, match="no results yet"):
        render([], "md")
    with pytest.raises(InputError, match="md, csv, tex"):
        render(rows, "html")

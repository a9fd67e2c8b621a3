"""The page of a finished run: its numbers against the study's own database."""

from __future__ import annotations

import hashlib
import io
import json
import math
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from policy_search.augment import load_policy
from policy_search.config import RunConfig
from policy_search.study import runner
from policy_search.study.finals import fresh_seeds
from policy_search.study.reports.writer import write_run_report
from policy_search.study.runner import run_study
from tests.study.report_page import Page, log
from tests.study.rules import Rule, Twofold, fake_learning


def final_scores(folder: Path, seeds: int) -> dict[str, list[float]]:
    """Policy hash → scores on the fresh seeds, straight from the database."""
    with sqlite3.connect(folder / "study.db") as connection:
        found = {}
        for trial, value in connection.execute(
            "SELECT v.trial_id, v.value FROM trial_values v JOIN trials t USING (trial_id) JOIN studies s "
            "USING (study_id) WHERE s.study_name = 'A172 seed 0 second round' AND t.state = 'COMPLETE'"
        ).fetchall():
            attrs = dict(
                connection.execute("SELECT key, value_json FROM trial_user_attributes WHERE trial_id = ?", (trial,))
            )
            found[json.loads(attrs["hash"]), int(attrs["seed"])] = value
    return {digest: [found[digest, seed] for seed in fresh_seeds(0, seeds)] for digest, _ in found}


def interval(values: np.ndarray, level: float) -> tuple[float, float, float]:
    """Mean and t interval by SciPy's own function."""
    low, high = stats.t.interval(level, len(values) - 1, loc=values.mean(), scale=stats.sem(values))
    return float(values.mean()), float(low), float(high)


def test_the_page_needs_nothing_but_itself(page: Page) -> None:
    assert page.references == []
    assert not page.tags & {"script", "link", "iframe", "object", "embed", "video"}
    assert len(page.images) == 5, "second round, history, operations, two contact sheets"
    for data in page.images:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            assert min(image.size) > 150
    assert "http" not in page.words


def test_second_round_is_recomputed_from_the_database(page: Page, finished: Path) -> None:
    rows = page.table("Second round: fresh seeds")
    hashes = {row["name"]: row["hash"] for row in log(finished)}
    scores = {name: np.array(values) for name, h in hashes.items() if (values := final_scores(finished, 4).get(h))}
    assert [row["policy"].removesuffix(" *") for row in rows] == sorted(scores, key=lambda n: -scores[n].mean())
    naive = {r["name"] for r in log(finished) if r["baseline"]}
    best = max(naive & set(scores), key=lambda n: scores[n].mean())
    learnt = len(set(scores) - naive)
    assert learnt == 2
    for row in rows:
        name = row["policy"].removesuffix(" *")
        assert row["policy"].endswith(" *") == (name in naive)
        mean, low, high = interval(scores[name], 0.95)
        assert (row["mean"], row["95 % interval of the mean"]) == (f"{mean:.3f}", f"{low:.3f} … {high:.3f}")
        for other in {best, "none"}:
            expected = "–"
            if name != other:
                mean, low, high = interval(scores[name] - scores[other], 1 - 0.05 / learnt)
                expected = f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"
            assert row[f"better than {other} by"] == expected


def test_first_round_has_every_trial_with_its_score_and_its_error(page: Page, finished: Path) -> None:
    rows = {int(row["trial"]): row for row in page.table("First round: all trials, one seed")}
    lines = log(finished)
    assert sorted(rows) == [line["trial"] for line in lines] == list(range(len(lines)))
    assert sum(line["state"] == "complete" for line in lines) == 15
    best = max(line["score"] for line in lines if line["baseline"] and line["score"] is not None)
    name = next(line["name"] for line in lines if line["score"] == best and line["baseline"])
    for line in lines:
        row = rows[line["trial"]]
        assert row["score"] == ("–" if line["score"] is None else f"{line['score']:.3f}")
        if line["score"] is not None and line["name"] != name:
            assert row[f"minus {name}"] == f"{line['score'] - best:+.3f}"
        repeats = "" if line["repeats"] is None else f"same policy as trial {line['repeats']}"
        assert row["remark"] == (line["error"] or repeats or ("pruned" if line["state"] == "pruned" else ""))
    assert rows[8]["remark"] == "RuntimeError: out of luck"
    assert rows[3]["settings"] == "p 0.5"
    assert rows[6]["settings"] == "flip 1.00"


def test_costs_are_the_trials_seconds(page: Page, finished: Path) -> None:
    rows = page.table("cost")
    assert rows[-1]["family"] == "all"
    assert float(rows[-1]["seconds"]) == pytest.approx(sum(line["seconds"] for line in log(finished)), abs=0.15)
    for row in rows[:-1]:
        own = [line["seconds"] for line in log(finished) if line["family"] == row["family"]]
        assert int(row["trials"]) == len(own)
        assert float(row["seconds"]) == pytest.approx(sum(own), abs=0.15)


def test_the_verdict_and_the_versions_are_those_of_best_json(page: Page, finished: Path) -> None:
    facts = json.loads((finished / "best.json").read_text())["policy_search"]
    assert facts["verdict"] in page.words
    assert facts["validation"] in page.words
    assert {row["package"]: row["version"] for row in page.table("versions")} == facts["versions"]
    assert "policy-search run --data A172" in page.words
    assert "synthetic" not in page.words


def test_operations_are_those_of_the_policy_that_is_named(page: Page) -> None:
    assert "Shown is searched_t002, the best searched policy;" in page.words
    rows = page.table("What was learnt: operations and their ranges")
    found = {(row["step"], row["operation"]): (row["images"], row["ranges"]) for row in rows}
    # By hand from `two_sub_policies`: weight of the sub-policy · gate of the step · weight in the step.
    assert found == {
        ("step 1", "HorizontalFlip"): (f"{100 * (0.25 * 0.5 + 0.75 * 0.8):.1f} %", ""),
        ("step 1", "Affine"): (f"{100 * (0.25 * 0.5 + 0.75 * 0.2):.1f} %", "rotate -10 … 30"),
        ("step 2", "RandomGamma"): (f"{100 * (0.25 * 0.4 + 0.75 * 0.8):.1f} %", "gamma_limit 70 … 120"),
    }


def test_a_report_only_reads_the_run_and_is_the_same_every_time(copy: Path) -> None:
    def digests() -> dict[str, str]:
        files = [p for p in copy.rglob("*") if p.is_file() and p.name not in ("report.html", "report.md")]
        return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}

    before, written = digests(), (copy / "report.md").read_text()
    html, markdown, _ = write_run_report(copy)
    first = html.read_bytes(), markdown.read_bytes()
    write_run_report(copy)
    assert (html.read_bytes(), markdown.read_bytes()) == first
    assert digests() == before
    assert markdown == copy / "report.md"
    assert markdown.read_text().startswith(written.rstrip("\n")), "what the run wrote stays, reasons included"
    for piece in ("## Cost of the first round", "## How it was made", "$ policy-search run --data A172", "- optuna "):
        assert markdown.read_text().count(piece) == 1


def test_several_metrics_have_a_column_each_and_a_front(
    tmp_path: Path, report_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "judge_of", lambda objective, config, data: Rule(0.1))
    config = RunConfig(
        data="A172",
        root=report_root,
        out=tmp_path,
        trials=8,
        final_seeds=2,
        finalists=1,
        objective="affinity-diversity",
    )
    run_study(config, objective=Twofold(), learn=fake_learning)
    html, markdown, said = write_run_report(tmp_path)
    page = Page(html.read_text())
    assert said.startswith("Finished: 8 complete trials")
    values = {row["trial"]: row["values"] for row in log(tmp_path)}
    rows = page.table("First round: all trials, one seed")
    assert {int(r["trial"]): (r["affinity"], r["diversity"]) for r in rows} == {
        k: (f"{v[0]:.3f}", f"{v[1]:.3f}") for k, v in values.items()
    }
    front = {
        k for k, v in values.items()
        if not any(all(a >= b for a, b in zip(w, v, strict=True)) and w != v for w in values.values())
    }  # fmt: skip
    assert {int(r["trial"]) for r in rows if r["remark"] == "on the Pareto front"} == front
    assert [int(r["trial"]) for r in rows[: len(front)]] == [int(r["trial"]) for r in rows if int(r["trial"]) in front]
    assert "The second round is decided by another one: rule" in page.words
    assert "Several metrics have no one importance" in page.words
    assert "| affinity | diversity |" in markdown.read_text()
    assert f"second round took {seconds_of_second_round(tmp_path):.1f} seconds" in page.words


def seconds_of_second_round(folder: Path) -> float:
    """Straight from the database."""
    with sqlite3.connect(folder / "study.db") as connection:
        found = connection.execute(
            "SELECT a.value_json FROM trial_user_attributes a JOIN trials USING (trial_id) "
            "JOIN studies USING (study_id) WHERE study_name LIKE '% second round' AND key = 'seconds'"
        ).fetchall()
    return sum(float(value) for (value,) in found)


def test_the_winner_is_marked_and_is_best_json(page: Page, finished: Path) -> None:
    name = load_policy(finished / "best.json").name
    assert f"{name}: the winner" in page.words
    assert "searched_t002: the best searched policy" in page.words
    assert math.isfinite(float(page.table("Second round: fresh seeds")[0]["mean"]))

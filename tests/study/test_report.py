"""The report of a run folder: its numbers against the study's own, finished and not, and what it refuses."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import random
import shutil
import sqlite3
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import albumentations as A
import numpy as np
import pytest
from PIL import Image
from scipy import stats

from policy_search.augment import PolicyDocument, load_policy
from policy_search.cells.errors import InputError
from policy_search.config import RunConfig, SearchConfig
from policy_search.study import runner
from policy_search.study.data import StudyData
from policy_search.study.finals import fresh_seeds
from policy_search.study.making import Learnt
from policy_search.study.objective import Report, Score
from policy_search.study.report_writer import write_run_report
from policy_search.study.runner import run_study
from policy_search.study.space import Knobs
from tests.conftest import write_livecell
from tests.study.test_runner import Rule, Twofold, fake_learning

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """What a browser would find: tables as texts by their label, pictures, references, unclosed elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.images: list[bytes] = []
        self.tags: set[str] = set()
        self.references: list[str] = []
        self.words = ""
        self._open: list[str] = []
        self._label = ""
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.add(tag)
        if tag not in VOID:
            self._open.append(tag)
        if tag == "div" and values.get("aria-label"):
            self._label = str(values["aria-label"])
        if tag == "tr":
            self.tables.setdefault(self._label, []).append([])
        if tag in ("td", "th"):
            self.tables[self._label][-1].append("")
        if tag == "img":
            head, _, data = str(values["src"]).partition(",")
            assert head == "data:image/png;base64"
            assert values["alt"]
            self.images.append(base64.b64decode(data, validate=True))
        elif "src" in values or "href" in values:
            self.references.append(str(values.get("src") or values.get("href")))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in ("td", "th"):
            self.tables[self._label][-1][-1] += data
        elif self._open and self._open[-1] != "style":
            self.words += data + " "

    def table(self, label: str) -> list[dict[str, str]]:
        head, *rows = self.tables[label]
        return [dict(zip(head, row, strict=True)) for row in rows]


class SearchedLast(Rule):
    """Learnt policies are better than naive ones, but searched ones are worse: winner and best searched one differ."""

    def score(self, document: PolicyDocument, *, seed: int, report: Report | None = None) -> Score:
        if document.provenance.family == "searched":
            report = None  # never given up
        found = super().score(document, seed=seed, report=report)
        luck = random.Random(f"{document.content_hash} {seed}").uniform(-0.004, 0.004)
        value = found.value + luck - 0.02 * (document.provenance.family == "searched")
        return Score((value,), {"one": value - 0.1, "other": value + 0.1})


def two_sub_policies(data: StudyData, knobs: Knobs, steps: int, seed: int) -> Learnt:
    """Stands in for the inner search: a policy in the form of a searched one, with ranges and weights known here."""

    def sub_policy(
        weight: float, turn: tuple[float, float], share: float, gate: float, gamma: tuple[float, float]
    ) -> Any:
        pose = A.OneOf([A.Affine(rotate=turn, p=share), A.HorizontalFlip(p=1 - share)], p=1.0)
        return A.Sequential([pose, A.OneOf([A.RandomGamma(gamma_limit=gamma, p=1.0)], p=gate)], p=weight)

    first = sub_policy(0.25, (-10.0, 20.0), 0.5, 0.4, (70.0, 110.0))
    second = sub_policy(0.75, (-5.0, 30.0), 0.2, 0.8, (90.0, 120.0))
    return Learnt(PolicyDocument.from_compose(A.Compose([A.OneOf([first, second], p=1.0)])))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_livecell(tmp_path_factory.mktemp("data"), {"A172": {"train": 2, "val": 1}}, cells=4, size=(64, 72))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    """A finished run; tests that change it take a copy."""
    out = tmp_path_factory.mktemp("runs") / "finished"
    config = RunConfig(data="A172", root=root, out=out, trials=15, final_seeds=4, finalists=2)
    run_study(config, objective=SearchedLast(0.01, fail="crop"), learn=two_sub_policies)
    return out


@pytest.fixture(scope="module")
def page(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Page:
    out = tmp_path_factory.mktemp("page") / "page.html"
    write_run_report(finished, out)
    return Page(out.read_text(encoding="utf-8"))


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


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


@pytest.mark.parametrize(
    ("stop_at", "state"),
    [
        (0, "Not finished: 0 of 4 trials are done, and the second round has not been run."),
        (3, "Not finished: 3 of 4 trials are done, and the second round has not been run."),
        (7, "Not finished: all 4 trials are done, but the second round has 3 of 8 scores."),
    ],
)
def test_an_interrupted_run_says_how_far_it_is(tmp_path: Path, root: Path, stop_at: int, state: str) -> None:
    config = RunConfig(data="A172", root=root, out=tmp_path, trials=4, final_seeds=2)
    with pytest.raises(KeyboardInterrupt):
        run_study(config, objective=Rule(0.1, stop_at=stop_at), learn=fake_learning)
    html, markdown, said = write_run_report(tmp_path)
    words = Page(html.read_text()).words
    assert said == state
    assert state in words
    assert state in markdown.read_text()
    assert "beats the best baseline" not in words + markdown.read_text()
    outcome = run_study(config, objective=Rule(0.1), learn=fake_learning)
    assert outcome.verdict.sentence in Page(write_run_report(tmp_path)[0].read_text()).words


def test_several_metrics_have_a_column_each_and_a_front(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "judge_of", lambda objective, config, data: Rule(0.1))
    config = RunConfig(
        data="A172", root=root, out=tmp_path, trials=8, final_seeds=2, finalists=1, objective="affinity-diversity"
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


def test_a_longer_run_does_not_pass_off_the_old_winner(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "trials": 20}))
    html, _, said = write_run_report(copy)
    assert said.startswith("Not finished: 15 of 20 trials are done")
    assert "earlier end of this run" in said
    assert json.loads((copy / "best.json").read_text())["policy_search"]["verdict"] not in html.read_text()


def test_without_the_data_the_report_says_so(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "root": str(copy / "gone")}))
    found = Page(write_run_report(copy)[0].read_text())
    assert "No pictures: the data cannot be read any more" in found.words
    assert len(found.images) == 3


def test_data_that_has_moved_is_found_by_root(copy: Path, root: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "root": str(copy / "gone")}))
    assert len(Page(write_run_report(copy, root=root)[0].read_text()).images) == 5


def _spoil(folder: Path, what: str) -> Path:
    config = folder / "config.json"
    if what == "no folder":
        return folder / "nowhere"
    if what == "no run":
        config.unlink()
    elif what == "damaged":
        config.write_text(config.read_text()[:40])
    elif what == "a list":
        config.write_text("[]")
    elif what == "unknown key":
        config.write_text(json.dumps({**json.loads(config.read_text()), "colour": 3}))
    elif what == "a search":
        config.write_text(json.dumps(SearchConfig(data="A172", out=folder).model_dump(mode="json")))
    elif what == "no storage":
        (folder / "study.db").unlink()
    elif what == "empty storage":
        (folder / "study.db").write_bytes(b"")
    elif what == "damaged storage":
        (folder / "study.db").write_bytes(b"this is no database" * 500)
    elif what == "another seed":
        config.write_text(json.dumps({**json.loads(config.read_text()), "seed": 7}))
    elif what == "other data":
        config.write_text(json.dumps({**json.loads(config.read_text()), "fingerprint": "f" * 16}))
    elif what == "damaged best":
        (folder / "best.json").write_text("{")
    return folder


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("no folder", "nowhere is not a folder"),
        ("no run", "is not a run folder, it has no config.json"),
        ("damaged", "config.json is damaged"),
        ("a list", "config.json is damaged"),
        ("unknown key", "config.json is damaged .*colour"),
        ("a search", "which has no trials"),
        ("no storage", "study.db, which is not there"),
        ("empty storage", "cannot be read as a study database"),
        ("damaged storage", "cannot be read as a study database"),
        ("another seed", "holds no study named 'A172 seed 7'"),
        ("other data", "holds a study of other data: it is not"),
        ("damaged best", "best.json is damaged"),
    ],
)
def test_what_is_no_run_is_refused_in_one_sentence(copy: Path, what: str, message: str) -> None:
    folder = _spoil(copy, what)
    with pytest.raises(InputError, match=message) as caught:
        write_run_report(folder)
    assert "\n" not in str(caught.value)
    assert not (folder / "report.html").exists()


INTERRUPTED_WRITER = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size=2")  # so that pages reach the file before the transaction ends
connection.execute("BEGIN")
connection.execute("UPDATE study_user_attributes SET value_json='0'")
connection.execute("CREATE TABLE filler (text)")
for _ in range(300):
    connection.execute("INSERT INTO filler VALUES (?)", ("x" * 2000,))
os._exit(0)
"""


def test_a_run_killed_within_a_transaction_is_read_as_it_was_before(copy: Path, page: Page) -> None:
    database = copy / "study.db"
    subprocess.run([sys.executable, "-c", INTERRUPTED_WRITER, str(database)], check=True, timeout=60)
    before = {p: p.read_bytes() for p in copy.glob("study.db*")}
    assert len(before) == 2, "the journal is there"
    found = Page(write_run_report(copy)[0].read_text())
    assert found.tables == page.tables
    assert {p: p.read_bytes() for p in copy.glob("study.db*")} == before


def test_the_winner_is_marked_and_is_best_json(page: Page, finished: Path) -> None:
    name = load_policy(finished / "best.json").name
    assert f"{name}: the winner" in page.words
    assert "searched_t002: the best searched policy" in page.words
    assert math.isfinite(float(page.table("Second round: fresh seeds")[0]["mean"]))

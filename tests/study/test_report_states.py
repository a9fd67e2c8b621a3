"""Reports of runs that are not finished, have moved, were killed, or are no runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from policy_search.augment import PolicyDocument
from policy_search.cells.errors import InputError
from policy_search.config import RunConfig, SearchConfig
from policy_search.study.objective import Report, Score
from policy_search.study.reports.writer import write_run_report
from policy_search.study.runner import run_study
from tests.conftest import write_livecell
from tests.study.report_page import Page
from tests.study.rules import Rule, fake_learning


@pytest.mark.parametrize(
    ("stop_at", "state"),
    [
        (0, "Not finished: 0 of 4 trials are done, and the second round has not been run."),
        (3, "Not finished: 3 of 4 trials are done, and the second round has not been run."),
        (7, "Not finished: all 4 trials are done, but the second round has 3 of 8 scores."),
    ],
)
def test_an_interrupted_run_says_how_far_it_is(tmp_path: Path, report_root: Path, stop_at: int, state: str) -> None:
    config = RunConfig(data="A172", root=report_root, out=tmp_path, trials=4, final_seeds=2)
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


def test_data_that_has_moved_is_found_by_root(copy: Path, report_root: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "root": str(copy / "gone")}))
    assert len(Page(write_run_report(copy, root=report_root)[0].read_text()).images) == 5


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


def test_a_targeted_policy_is_a_learnt_one(tmp_path: Path) -> None:
    """What is shown as learnt is of the best policy that a search has found, in whatever mode."""
    root = write_livecell(tmp_path / "data", {"A172": {"train": 2, "val": 1}, "BV2": {"train": 1}}, cells=4)

    class TargetedBest(Rule):
        def score(self, document: PolicyDocument, *, seed: int, report: Report | None = None) -> Score:
            found = super().score(document, seed=seed, report=report)
            return Score((found.value + 0.1 * (document.provenance.family == "targeted"),), found.domains)

    config = RunConfig(data="A172", root=root, out=tmp_path / "r", trials=4, final_seeds=2, target=("BV2",))
    run_study(config, objective=TargetedBest(), learn=fake_learning)
    words = Page(write_run_report(tmp_path / "r")[0].read_text()).words
    assert "Shown is targeted_t003, the winner and the best searched policy." in words
    assert "targeted: flips, the recognised size" in words

"""What a study of the tests of workers has left: its results, and its trials as the server has them."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from policy_search.study.finals import SUFFIX, scores_of
from policy_search.study.reports.storage import stored_study
from policy_search.study.worker import slots_of
from tests.postgres import Server
from tests.study.players import Player

psycopg2 = pytest.importorskip("psycopg2")


def results(folder: Path, url: str) -> dict[str, Any]:
    """All that a study has found, without what it took: log, best policy, report, the second round's scores."""
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    best = json.loads((folder / "best.json").read_text())
    for found in (*log, best["policy_search"]):
        del found["seconds"]
    with stored_study(url, "x" + SUFFIX) as second:
        scores = scores_of(slots_of(second))
    report, _, _ = (folder / "report.md").read_text().partition("## Cost")
    return {
        "log": log,
        "best": best,
        "report": re.sub(r"(?<![\d.])\d+\.\d(?!\d)", "(seconds)", report),
        "policies": {path.parent.name: json.loads(path.read_text()) for path in folder.glob("trials/*/policy.json")},
        "second round": scores.values,
        "second round's errors": scores.errors,
    }


def table(server: Server, url: str) -> dict[str, list[tuple[int | None, str, set[str]]]]:
    """The table of trials as the server has it: study -> (slot, state, names of attributes) of each trial."""
    found: dict[str, list[tuple[int | None, str, set[str]]]] = {}
    rows = server.execute(
        "SELECT study_name, state::text, array_agg(key), max(CASE WHEN key = 'slot' THEN value_json END) "
        "FROM trials JOIN studies USING (study_id) LEFT JOIN trial_user_attributes USING (trial_id) "
        "GROUP BY trial_id, study_name, state ORDER BY trial_id",
        url.rpartition("/")[2],
    )
    for study, state, keys, slot in rows:
        entry = (None if slot is None else int(str(slot)), str(state), set(keys))  # type: ignore[call-overload]
        found.setdefault(str(study), []).append(entry)
    return found


def assert_every_slot_once(server: Server, url: str, *, complete: int = 14) -> Counter[str]:
    """Each slot has exactly one result and no gap is left; how many trials were cut off, by study."""
    cut: Counter[str] = Counter()
    for study, trials in table(server, url).items():
        results = [
            (slot, state) for slot, state, keys in trials
            if state in ("COMPLETE", "PRUNED") or (state == "FAIL" and "error" in keys)
        ]  # fmt: skip
        assert sorted(slot for slot, _ in results if slot is not None) == list(range(len(results))), study
        if not study.endswith(SUFFIX):
            assert sum(state == "COMPLETE" for _, state in results) == complete
        rest = [state for _, state, keys in trials if state == "RUNNING" or state == "WAITING"]
        assert rest == [], study
        cut[study] = len(trials) - len(results)
    return cut


def await_study(server: Server, url: str, *, trials: int = 1) -> None:
    """Until the study has begun so many trials."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with suppress(psycopg2.errors.UndefinedTable):
            if sum(len(rows) for rows in table(server, url).values()) >= trials:
                return
        time.sleep(0.05)
    raise AssertionError("no study was begun")


def ended(*those: Player) -> Counter[str]:
    """Scorings that were done, by policy and seed."""
    return Counter(line.removeprefix("end ") for player in those for line in player.lines if line.startswith("end"))

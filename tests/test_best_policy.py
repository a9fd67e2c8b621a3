"""Which row of the tables `policies/best.json` is: the largest mean over data sets, of rows that are whole in each."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "experiments"))
from best_policy import gains_of, ranking, strategy_of

from policy_search.augment import load_policy

ROOT = Path(__file__).resolve().parents[1]


def value(row: str, gain: float, seeds: str = "0 1 2", **changed: str) -> dict[str, str]:
    whole = {
        "quantity": "gain", "cell_type": "mean of unseen", "against": "none", "row": row, "seeds": seeds,
        "value": str(gain), "low": str(gain - 1), "high": str(gain + 2),
    }  # fmt: skip
    return whole | changed


def test_data_sets_weigh_the_same_and_rows_that_are_not_whole_are_left_out():
    first = gains_of([value("a", 8), value("b", 6), value("c", 9), value("d", 20), value("a", 99, cell_type="BV2")])
    second = gains_of([value("a", 0), value("b", 3), value("c", 9, seeds="0 1"), value("b", 99, against="a")])
    assert first["a"] == (8, 7, 10, 3)
    assert ranking([first, second]) == [("b", 4.5), ("a", 4.0)]
    assert ranking([first])[0] == ("d", 20)


def test_a_row_is_a_naive_strategy_or_told_to_be_none():
    assert [strategy_of(row) for row in ("stacked 0.8", "color jitter", "simple copy-paste", "flip")] == [
        "stacked_p0.8", "color_jitter", "simple_copy_paste", "flip",
    ]  # fmt: skip
    with pytest.raises(SystemExit, match="ours, target is best"):
        strategy_of("ours, target")


def test_the_policy_of_the_repository_is_what_the_committed_tables_say():
    results = ROOT / "experiments" / "results"
    document = load_policy(ROOT / "policies" / "best.json")
    files = [results / name for name in document.provenance.gains]
    order = ranking([gains_of(json.loads(path.read_text())["values"]) for path in files])
    assert order[0][0] == "stacked 0.8"
    assert document.content_hash == load_policy("stacked_p0.8").content_hash
    assert document.provenance.ranking == {row: pytest.approx(mean, abs=0.05) for row, mean in order}

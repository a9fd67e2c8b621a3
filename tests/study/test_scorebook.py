"""The book of scores: what is in it comes back, whatever happened to the file's end."""

from __future__ import annotations

from pathlib import Path

from policy_search.study.objective import Score
from policy_search.study.scorebook import Entry, ScoreBook

SCORE = Score((0.25, 0.5), {"blur": 0.1}, 3.5, {"probe": (2.0, 1.0)})


def test_scores_come_back_with_all_their_parts(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    book = ScoreBook(path)
    book.put("abc", 7, SCORE, [(0.25, 0.1), (0.5, 0.2)])
    for found in (book, ScoreBook(path)):
        assert found.get("abc", 7) == Entry(SCORE, ((0.25, 0.1), (0.5, 0.2)))
        assert found.get("abc", 8) is None
        assert found.get("abd", 7) is None


def test_a_cut_line_costs_its_own_entry_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    book = ScoreBook(path)
    book.put("one", 1, SCORE, [])
    whole = path.read_bytes()
    book.put("two", 1, SCORE, [])
    path.write_bytes(path.read_bytes()[: len(whole) + 40])  # as after a power cut
    again = ScoreBook(path)
    assert again.get("one", 1) is not None
    assert again.get("two", 1) is None
    again.put("three", 1, SCORE, [])
    last = ScoreBook(path)
    assert last.get("one", 1) is not None
    assert last.get("three", 1) == Entry(SCORE, ())

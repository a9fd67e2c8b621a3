"""The book of scores: what is in it comes back, whatever happened to the file's end."""

from __future__ import annotations

from pathlib import Path

from policy_search.study.objective import Score
from policy_search.study.scorebook import Entry, ScoreBook

SCORE = Score((0.25, 0.5), {"blur": 0.1}, 3.5, {"probe": (2.0, 1.0)})


def test_scores_come_back_with_all_their_parts(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    book = ScoreBook(path, "study")
    book.put("abc", 7, SCORE, [(0.25, 0.1), (0.5, 0.2)])
    for found in (book, ScoreBook(path, "study")):
        assert found.get("abc", 7) == Entry(SCORE, ((0.25, 0.1), (0.5, 0.2)))
        assert found.get("abc", 8) is None
        assert found.get("abd", 7) is None


def test_a_cut_line_costs_its_own_entry_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    book = ScoreBook(path, "study")
    book.put("one", 1, SCORE, [])
    whole = path.read_bytes()
    book.put("two", 1, SCORE, [])
    path.write_bytes(path.read_bytes()[: len(whole) + 40])  # as after a power cut
    again = ScoreBook(path, "study")
    assert again.get("one", 1) is not None
    assert again.get("two", 1) is None
    again.put("three", 1, SCORE, [])
    last = ScoreBook(path, "study")
    assert last.get("one", 1) is not None
    assert last.get("three", 1) == Entry(SCORE, ())


def test_a_full_disk_is_told_once_and_costs_no_score(tmp_path: Path) -> None:
    told: list[str] = []
    path = tmp_path / "gone" / "scores.jsonl"  # a folder that is missing stands for all that can be wrong with it
    book = ScoreBook(path, "study", told.append)
    book.put("one", 1, SCORE, [])
    book.put("two", 1, SCORE, [])
    assert told == [f"{path} cannot be written (No such file or directory): scores are kept in the storage alone"]
    assert book.get("one", 1) == book.get("two", 1) == Entry(SCORE, ())
    path.parent.mkdir()
    book.put("three", 1, SCORE, [])
    assert ScoreBook(path, "study").get("three", 1) == Entry(SCORE, ())
    assert len(told) == 1


def test_scores_of_another_study_are_not_ones_own(tmp_path: Path) -> None:
    """A worker's folder may serve two studies, whose naive policies and seeds are the same."""
    path = tmp_path / "scores.jsonl"
    ScoreBook(path, "study").put("abc", 7, SCORE, [])
    other = ScoreBook(path, "other")
    assert other.get("abc", 7) is None
    other.put("abc", 7, Score((9.0,)), [])
    for of, value in (("study", 0.25), ("other", 9.0)):
        found = ScoreBook(path, of).get("abc", 7)
        assert found is not None
        assert found.score.values[0] == value

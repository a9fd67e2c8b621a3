"""A worker's own book of scores: what was measured is not measured again, even where the storage was lost before it
could be told.

One line of JSON per (policy, seed), appended and flushed. A line that a crash has cut is passed over.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from policy_search.study.objective import Score


@dataclass(frozen=True)
class Entry:
    """A scoring: its result, and what it reported on the way as (share, score so far)."""

    score: Score
    reports: tuple[tuple[float, float], ...]


class ScoreBook:
    """The scores in a file.

    A worker's folder may serve one study after another, whose policies and seeds can be the same ones: scores of
    another study are passed over.

    Args:
        path: of the file; made when the first score is kept.
        of: digest of all that a score depends on besides policy and seed.
        tell: is given one line when the file cannot be written any more. No score is lost by that: it is in the
            storage.
    """

    def __init__(self, path: Path, of: str, tell: Callable[[str], None] = lambda line: None) -> None:
        self._path, self._of, self._tell, self._failing = path, of, tell, False
        self._entries: dict[tuple[str, int], Entry] = {}
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else ():
            try:
                row = json.loads(line)
                if row["of"] != of:
                    continue
                score = Score(tuple(row["values"]), row["domains"], row["seconds"],
                              {name: tuple(values) for name, values in row["losses"].items()})  # fmt: skip
                self._entries[row["hash"], row["seed"]] = Entry(score, tuple((s, v) for s, v in row["reports"]))
            except (ValueError, KeyError, TypeError):
                continue

    def get(self, content_hash: str, seed: int) -> Entry | None:
        """The scoring of this policy at this seed, if there was one."""
        return self._entries.get((content_hash, seed))

    def put(self, content_hash: str, seed: int, score: Score, reports: Sequence[tuple[float, float]]) -> None:
        """Keep a scoring: in memory always, in the file if it can be written."""
        self._entries[content_hash, seed] = Entry(score, tuple(reports))
        row = {
            "of": self._of, "hash": content_hash, "seed": seed, "values": list(score.values),
            "domains": dict(score.domains), "seconds": score.seconds,
            "losses": {name: list(values) for name, values in score.losses.items()},
            "reports": [list(report) for report in reports],
        }  # fmt: skip
        try:
            self._append(json.dumps(row))
            self._failing = False
        except OSError as error:
            if not self._failing:
                self._tell(f"{self._path} cannot be written ({error.strerror}): scores are kept in the storage alone")
            self._failing = True

    def _append(self, line: str) -> None:
        with self._path.open("ab+") as file:  # writes go to the end, wherever was read
            cut = file.tell() > 0 and file.seek(-1, os.SEEK_END) >= 0 and file.read(1) != b"\n"
            file.write((("\n" if cut else "") + line + "\n").encode())
            file.flush()
            os.fsync(file.fileno())

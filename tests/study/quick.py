"""`policy-search` with an objective that costs nothing and a hook at each scoring, to see what the command does when
things go wrong. Also a program: python -m tests.study.quick FILE:WHEN ARGUMENTS kills itself with -9 as it renames a
new FILE into place for the WHEN-th time.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from policy_search import cli
from policy_search.augment import PolicyDocument, choice
from policy_search.study import runner
from policy_search.study.making import Learnt
from policy_search.study.objective import Report, Score

Hook = Callable[[int, PolicyDocument], None]


class Quick:
    """Scores by the policy's hash and the seed; the policy named `no_number` gets NaN. Calls its hook before each
    scoring with how many there were."""

    name, metrics, directions, prunable = "quick", ("quick",), ("maximize",), False

    def __init__(self, hook: Hook = lambda count, document: None) -> None:
        self.count, self.hook, self.no_number = 0, hook, ""
        self.scored: list[tuple[str, int]] = []

    def score(self, document: PolicyDocument, *, seed: int, report: Report | None = None) -> Score:
        self.hook(self.count, document)
        self.count += 1
        self.scored.append((document.name, seed))
        value = int(document.content_hash[:4], 16) / 65535 + seed % 7 / 100
        return Score((float("nan") if document.name == self.no_number else value,), {"all": value})


def learn(data: Any, knobs: Any, steps: int, seed: int) -> Learnt:
    """Stands in for the inner search."""
    return Learnt(choice({"flip": knobs.sub_policies, "crop": 1 + seed % 5}))


def _kill_at(name: str, when: int) -> None:
    replace, seen = os.replace, 0

    def killing(source: Any, target: Any, **options: Any) -> None:
        nonlocal seen
        seen += Path(target).name == name
        if seen == when and Path(target).name == name:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target, **options)

    os.replace = killing


if __name__ == "__main__":
    file, _, number = sys.argv.pop(1).partition(":")
    _kill_at(file, int(number))
    runner.build_objective = lambda config, data: Quick()
    runner._relaxed_search = learn
    cli.main()

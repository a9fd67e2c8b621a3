"""The second round: the best learnt policies and the best baselines scored again on fresh seeds, in pairs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import optuna

from policy_search.augment import PolicyDocument, baseline
from policy_search.cells.errors import InputError
from policy_search.study import report
from policy_search.study.folder import RunFolder
from policy_search.study.objectives import Objective
from policy_search.study.report import TrialRow
from policy_search.study.verdict import Finalist, Verdict, judge, ranked


@dataclass(frozen=True)
class SecondRound:
    """The judgement, the finalists from best to worst, and why others failed (name → reason)."""

    verdict: Verdict
    finalists: tuple[Finalist, ...]
    failures: Mapping[str, str]


def second_round(
    study: optuna.Study,
    folder: RunFolder,
    objective: Objective,
    *,
    seeds: Sequence[int],
    places: int,
    tell: Callable[[int, int, str], None],
) -> SecondRound:
    """Score finalists on every seed and judge them. One that fails on a seed is out.

    Scores are kept in the study under (policy, seed): a run that is continued does not score twice.

    Args:
        study: with the first round finished.
        folder: holds the policies.
        objective: of the first round.
        seeds: none of them used in the first round.
        places: how many learnt policies, and how many baselines (`none` always among them).
        tell: called after each score with (done, total, a line).

    Raises:
        InputError: no baseline could be scored; says why.
    """
    chosen = choose(report.leaderboard(study), places)
    documents = [_document(row, folder) for row in chosen]
    scores: list[list[float]] = [[] for _ in chosen]
    failures: dict[str, str] = {}
    total, done = len(chosen) * len(seeds), 0
    for seed in seeds:
        for row, document, values in zip(chosen, documents, scores, strict=True):
            done += 1
            if row.name in failures:
                continue
            try:
                values.append(_score(study, objective, document, seed))
                tell(done, total, f"{row.name}: {values[-1]:.3f}")
            except Exception as error:
                failures[row.name] = f"{type(error).__name__}: {error}"
                tell(done, total, f"{row.name}: fail – {failures[row.name]}")
    finalists = [
        Finalist(row.name, row.family, document.content_hash, row.baseline, tuple(values))
        for row, document, values in zip(chosen, documents, scores, strict=True)
        if row.name not in failures
    ]
    if not any(f.baseline for f in finalists):
        reasons = "; ".join(f"{name}: {reason}" for name, reason in failures.items())
        raise InputError(
            f"no naive strategy could be scored in the second round, so nothing can be compared ({reasons})"
        )
    ordered = ranked(finalists, objective.direction)
    return SecondRound(judge(finalists, objective.direction), tuple(ordered), failures)


def _score(study: optuna.Study, objective: Objective, document: PolicyDocument, seed: int) -> float:
    key = f"final {document.content_hash} {seed}"
    value = study.user_attrs.get(key)
    if value is None:
        value = objective.score(document, seed=seed).value
        if not math.isfinite(value):
            raise ValueError(f"the policy's score is {value}")
        study.set_user_attr(key, value)
    return float(value)


def choose(rows: Sequence[TrialRow], places: int) -> list[TrialRow]:
    """The best `places` learnt policies and `places` baselines (`none` always one of them), each policy once.

    Args:
        rows: the leaderboard, best first.
        places: at least 1.
    """
    learnt: dict[str, TrialRow] = {}
    naive: dict[str, TrialRow] = {}
    for row in rows:
        if row.score is None or row.content_hash is None:
            continue
        group = naive if row.baseline else learnt
        if row.content_hash not in naive and row.content_hash not in learnt:
            group[row.content_hash] = row
    none = [row for row in naive.values() if row.name == "none"]
    others = [row for row in naive.values() if row.name != "none"]
    if not none:
        # `none` was cut off by a small number of trials or failed: it is the reference all the same.
        document = baseline("none")
        none = [TrialRow(-1, "complete", "none", "naive", True, document.content_hash, None, {}, 0.0, None, None)]
    return [*list(learnt.values())[:places], *others[: max(places - 1, 1)], *none]


def _document(row: TrialRow, folder: RunFolder) -> PolicyDocument:
    return baseline("none") if row.number < 0 else folder.policy(row.number)

"""The second round: the best learnt policies and the best baselines scored again on fresh seeds, in pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import optuna

from policy_search.augment import PolicyDocument, baseline
from policy_search.study import report
from policy_search.study.folder import RunFolder
from policy_search.study.objectives import Objective
from policy_search.study.report import TrialRow
from policy_search.study.verdict import Finalist, Verdict, judge, ranked


def second_round(
    study: optuna.Study,
    folder: RunFolder,
    objective: Objective,
    *,
    seeds: Sequence[int],
    places: int,
    tell: Callable[[int, int, str], None],
) -> tuple[Verdict, list[Finalist]]:
    """Score finalists on every seed and judge them.

    Scores are kept in the study under (policy, seed): a run that is continued does not score twice.

    Args:
        study: with the first round finished.
        folder: holds the policies.
        objective: of the first round.
        seeds: none of them used in the first round.
        places: how many learnt policies, and how many baselines (`none` always among them).
        tell: called after each score with (done, total, a line).
    """
    chosen = choose(report.leaderboard(study), places)
    scores: dict[str, list[float]] = {}
    documents = {row.content_hash: _document(row, folder) for row in chosen}
    total, done = len(chosen) * len(seeds), 0
    for seed in seeds:
        for row in chosen:
            document = documents[row.content_hash]
            key = f"final {document.content_hash} {seed}"
            value = study.user_attrs.get(key)
            if value is None:
                value = objective.score(document, seed=seed).value
                study.set_user_attr(key, value)
            scores.setdefault(document.content_hash, []).append(value)
            done += 1
            tell(done, total, f"{row.name}: {value:.3f}")
    finalists = [
        Finalist(row.name, row.family, document.content_hash, row.baseline, tuple(scores[document.content_hash]))
        for row in chosen
        for document in (documents[row.content_hash],)
    ]
    return judge(finalists, objective.direction), ranked(finalists, objective.direction)


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

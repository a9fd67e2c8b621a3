"""What best.json says about where it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from policy_search.augment import PolicyDocument, baseline
from policy_search.config import RunConfig
from policy_search.study.data import StudyData
from policy_search.study.folder import RunFolder
from policy_search.study.report import TrialRow
from policy_search.study.verdict import Verdict, paired_interval

PACKAGES = ("policy-search", "albumentations", "numpy", "opencv-python-headless", "optuna", "torch")


def best_document(
    config: RunConfig,
    data: StudyData,
    validation: str,
    metric: str,
    study_name: str,
    rows: Sequence[TrialRow],
    verdict: Verdict,
    folder: RunFolder,
) -> PolicyDocument:
    """The winner's document with its full provenance."""
    winner = verdict.winner
    row = next((r for r in rows if r.content_hash == winner.content_hash and r.name == winner.name), None)
    document = folder.policy(row.number) if row is not None else baseline(winner.name)
    mean, low, high = paired_interval(winner.scores)
    return document.with_provenance(
        name=winner.name,
        family=winner.family,
        data=data.name,
        fingerprint=data.fingerprint,
        synthetic=data.synthetic,
        seed=config.seed,
        study=study_name,
        trial=row.number if row is not None else None,
        score=mean,
        metric=metric,
        validation=validation,
        score_interval=[low, high],
        final_scores=list(winner.scores),
        first_round_score=row.score if row is not None else None,
        against={
            "baseline": verdict.reference.name,
            "score": verdict.reference.mean,
            "margin": verdict.margin,
            "interval": [verdict.low, verdict.high],
            "beats": verdict.beats,
        },
        verdict=verdict.sentence,
        settings=config.identity(),
        seconds=round(sum(r.seconds for r in rows), 1),
        versions=versions(),
    )


def versions() -> dict[str, str]:
    """Versions of what decides a policy's behaviour; a package that runs from its source tree has none."""
    found: dict[str, Any] = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found

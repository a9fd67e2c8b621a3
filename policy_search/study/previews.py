"""Pictures of what a run found: one contact sheet per finalist, and one of the winner."""

from __future__ import annotations

from pathlib import Path

from policy_search.augment import baseline, load_policy
from policy_search.augment.preview import save_preview
from policy_search.cells import resolve
from policy_search.config import RunConfig
from policy_search.study.runner import StudyOutcome


def save_run_previews(outcome: StudyOutcome, config: RunConfig) -> Path:
    """Write `previews/best.png` and a sheet per finalist into the run folder; return the folder of pictures."""
    dataset = resolve(config.data, "train", config.root)
    folder = outcome.folder / "previews"
    save_preview(outcome.best, dataset, folder / "best.png", seed=config.seed)
    policies = {row.content_hash: row.number for row in outcome.rows if row.content_hash}
    for finalist in outcome.finalists:
        number = policies.get(finalist.content_hash)
        document = (
            load_policy(outcome.folder / "trials" / f"{number:03d}" / "policy.json")
            if number is not None
            else baseline(finalist.name)
        )
        save_preview(document, dataset, folder / f"{document.name}.png", seed=config.seed)
    return folder

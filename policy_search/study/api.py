"""`policy_search.search`: the study as one call from Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from policy_search.config import RunConfig
from policy_search.study.runner import Listener, StudyOutcome, run_study


def search(
    data: str, *, out: str | Path, root: str | Path | None = None, progress: Listener | None = None, **options: Any
) -> StudyOutcome:
    """Find the policy that helps most where nobody labelled.

    Args:
        data: dataset with labelled cells: `A172`, `demo/A172`, `path/to/coco.json[:images_dir]`.
        out: run folder; naming the folder of an interrupted run continues it.
        root: LIVECell's folder.
        progress: called at every trial.
        **options: further fields of `RunConfig`: trials, steps, seed, storage, validate_on, …

    Returns:
        The outcome; `outcome.best.compose()` is the winning policy as an Albumentations transform, and
        `outcome.verdict.sentence` says whether it beats the naive strategies.

    Raises:
        InputError: an option, the data, the folder or the storage cannot be used.
    """
    return run_study(RunConfig(data=data, out=out, root=root, **options), progress=progress)

"""The objective `ap50`: a real, short `detect finetune` under the policy, scored by mask AP50."""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from policy_search.augment import PolicyDocument
from policy_search.cells.errors import InputError
from policy_search.cells.files import replacing
from policy_search.study.ap50_command import DetectError, detect, require_detect
from policy_search.study.ap50_files import Exported, export
from policy_search.study.data import StudyData
from policy_search.study.objective import Report, Score
from policy_search.study.verdict import Direction


@dataclass(frozen=True)
class Ap50Settings:
    """The budget of a scoring.

    Attributes:
        iterations: of a fine-tune.
        base_iterations: of the base model, which is trained once where none is given.
        base_seed: of that base model.
        images: scored of every domain: testing an image costs as much as three iterations.
        checks: shares of the iterations for which a shorter fine-tune is made and scored first, where somebody asks for
            reports. Each is a fine-tune of its own with its own schedule, as in Hyperband, not a part of the long one.
    """

    iterations: int = 150
    base_iterations: int = 300
    base_seed: int = 0
    images: int = 2
    checks: tuple[float, ...] = (0.25,)


@dataclass
class Ap50Objective:
    """Mask AP50 of a fine-tuned Cascade Mask R-CNN (preset tiny, frozen backbone), mean over the validation domains.

    The fine-tune is a process that is given two exported datasets, the training images and the validation domains of
    the study: it cannot see a test split, and not the dataset that these come from either.

    Args:
        data: what is exported.
        folder: for the export and the base model; can be shared, as equal inputs give equal files there.
        weights: base model; None: one is trained on the training images, untouched, and kept in `folder`.
        settings: the budget.

    Raises:
        InputError: `detect` is not installed, the weights are missing, or a domain has no cell to be found.
    """

    data: StudyData
    folder: Path
    weights: Path | None = None
    settings: Ap50Settings = field(default_factory=Ap50Settings)
    name: str = "ap50"
    metrics: tuple[str, ...] = ("mask AP50",)
    directions: tuple[Direction, ...] = ("maximize",)
    prunable: bool = True

    def __post_init__(self) -> None:
        require_detect()
        if self.weights is not None and not self.weights.is_file():
            raise InputError(f"--weights {self.weights}: no such file; make one with `detect pretrain`")
        empty = [d.name for d in self.data.domains if not any(len(s.instances) for s in d.samples)]
        if empty:
            raise InputError(f"--objective ap50: no cell is labelled in {empty[0]}, so no AP50 is defined there")

    def score(self, document: PolicyDocument, *, seed: int, report: Report | None = None) -> Score:
        """See `Objective`. What it reports is the score of a shorter fine-tune (`Ap50Settings.checks`).

        Raises:
            DetectError: the fine-tune failed.
        """
        started = time.perf_counter()
        for share in self.settings.checks if report is not None else ():
            report(share, _mean(self._finetune(document, share, seed)[0]))
        found, losses = self._finetune(document, 1.0, seed)
        return Score(
            (_mean(found),), found, time.perf_counter() - started, {"fine-tune: loss": losses} if losses else {}
        )

    def prepare(self) -> tuple[Exported, Path]:
        """The exported data, and the base model: what all policies have in common, made now unless it is there."""
        s = self.settings
        exported = export(self.data, self._home / f"{s.images} images", images=s.images)
        if self.weights is not None:
            return exported, self.weights
        base = self._home / f"base {s.base_iterations} iterations seed {s.base_seed}.pth"
        if not base.is_file():
            with tempfile.TemporaryDirectory(prefix="base-", dir=self._home) as scratch:
                detect(
                    "pretrain", "--data", exported.source, "--out", scratch,
                    "--iterations", str(s.base_iterations), "--seed", str(s.base_seed),
                )  # fmt: skip
                with replacing(base) as place:
                    Path(scratch, "model.pth").replace(place)
        return exported, base

    @property
    def _home(self) -> Path:
        return self.folder / self.data.fingerprint

    def _finetune(
        self, document: PolicyDocument, share: float, seed: int
    ) -> tuple[dict[str, float], tuple[float, ...]]:
        """AP50 by domain after a fine-tune of this share of the iterations, and the losses on the way."""
        exported, base = self.prepare()
        iterations = max(1, round(self.settings.iterations * share))
        with tempfile.TemporaryDirectory(prefix="run-", dir=self._home) as folder:
            scratch = Path(folder)
            document.save(scratch / "policy.json")
            detect(
                "finetune", "--policy", str(scratch / "policy.json"), "--data", exported.source, "--weights", str(base),
                "--out", str(scratch / "out"), "--results", str(scratch / "results.sqlite"), "--eval", exported.domains,
                "--iterations", str(iterations), "--seed", str(seed),
            )  # fmt: skip
            rows = json.loads((scratch / "out" / "results.json").read_text(encoding="utf-8"))
            found = {exported.names[row["cell_type"]]: row["ap50"] for row in rows}
            lacking = [name for name in exported.names.values() if found.get(name) is None]
            if lacking:
                raise DetectError(f"`detect finetune` gave no AP50 for {lacking[0]}")
            return found, _losses(scratch / "out" / "tensorboard")


def _mean(found: dict[str, float]) -> float:
    return float(np.mean(list(found.values())))


def _losses(folder: Path) -> tuple[float, ...]:
    """The training loss, every few iterations, from the log of the fine-tune; nothing where it left none."""
    if not folder.is_dir():
        return ()
    from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
        EventAccumulator,  # slow to load
    )

    log = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    log.Reload()
    if "train/loss" not in log.Tags()["scalars"]:
        return ()
    return tuple(float(event.value) for event in log.Scalars("train/loss"))

"""Choosing among the weights of one training by AP50 on validation images. Test images are never read here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from detectron2.modeling import GeneralizedRCNN

from detection.evaluate import evaluate
from detection.resume import Standing
from policy_search.cells import CellDataset, resolve
from policy_search.cells.errors import InputError

BEST = "best.pth"


class Validation(NamedTuple):
    """Attributes:
    every: iterations between two validations; there is one at the end, too.
    patience: validations without a better AP50 after which training stops; 0 never stops.
    score: mean AP50 in 0 … 1 of a model; may leave it in another mode of training.
    keep: called with (model, iteration, AP50) when it is the best so far.
    """

    every: int
    patience: int
    score: Callable[[GeneralizedRCNN], float]
    keep: Callable[[GeneralizedRCNN, int, float], None]

    def due(self, done: int, total: int) -> bool:
        """Whether there is a validation after `done` iterations."""
        return done % self.every == 0 or done == total


def validation_images(data: str, root: Path | None) -> CellDataset:
    """The labelled images of the validation split.

    Raises:
        InputError: unknown data, or none is there.
    """
    usable = resolve(data, "val", root, missing_ok=True).where(lambda record: record.annotated)
    if len(usable) == 0:
        raise InputError(f"--validate-on {data}: it has no labelled validation image. Name data that has a val split")
    return usable


def mean_ap50(model: GeneralizedRCNN, images: CellDataset) -> float:
    """AP50 of the masks, the mean over cell types that have a cell.

    Raises:
        InputError: there is no cell at all.
    """
    found = [scores.ap50 for scores in evaluate(model, images).values() if scores.ap50 is not None]
    if not found:
        raise InputError(f"the validation images of {images.name} hold no cell: AP50 is not defined on them")
    return sum(found) / len(found)


def after_validation(standing: Standing, ap50: float, patience: int) -> Standing:
    """The standing after a validation at its iteration; an equal AP50 is no improvement."""
    if standing.best_ap50 is None or ap50 > standing.best_ap50:
        return standing._replace(best_ap50=ap50, best_iteration=standing.iteration, stale=0)
    stale = standing.stale + 1
    return standing._replace(stale=stale, stopped=0 < patience <= stale)


def about(standing: Standing, images: CellDataset) -> dict[str, Any]:
    """What a file of weights says on how it was chosen."""
    return {
        "iteration": standing.best_iteration,
        "ap50": standing.best_ap50,
        "images": len(images),
        "fingerprint": images.fingerprint(),
    }

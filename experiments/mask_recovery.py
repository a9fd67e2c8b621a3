"""Does a mask beside the image help to find a planted shift? The runs behind weak_masks.md and instance_channels.md.

    python experiments/mask_recovery.py --root DIR --out runs/masks [--only NAME]

Three comparisons, all on the planted shifts of planted.py and with fewer steps than recovery.py:

* *statistics*: target mode, its critic of fixed statistics without masks ("none"), with statistics of the weak mask
  ("rerun": of whatever image it is shown), and without, but with as many more steps as these cost ("longer").
* *network*: the network critic in matching mode; no masks, weak masks of the raw images ("carried": the policy takes
  the source's along), or the weak mask of whatever image the critic is shown ("rerun").
* *labels*: the network critic with true masks on both sides, as foreground alone or as instance channels.

Each run is a file in OUT, so that it can be ended at any time. experiments/weak.py makes the tables.
"""

from __future__ import annotations

import argparse
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import recovery
import torch
from planted import CASES, Case, Image, found_by, verdicts
from recovery import commit
from weak_statistics import MaskedStatistics, soft_foreground

from policy_search.cells import resolve
from policy_search.cells.files import write_json
from policy_search.cells.weak import weak_foreground
from policy_search.relaxed import CropSampler, Search, SearchSettings
from policy_search.relaxed import target as target_mode
from policy_search.relaxed.operations import simple_plan
from policy_search.relaxed.statistics import ImageStatistics

CHOSEN = ("brightness +0.25", "contrast x0.6", "scale 0.6", "scale 1.6", "stretch x 1.5", "blur 2")
LABELLED = ("scale 0.6", "scale 1.6", "blur 2")
STATISTICS = recovery.FORMS["full"].model_copy(update={"sub_policies": 8, "steps": 240, "crop": 96, "margin": 48})
LONGER = 440  # steps without masks, for the CPU time of 240 with them
# Simple form: one gate and one range an operation, geometry before tone before texture.
OPERATIONS = ("rotate", "scale", "stretch_x", "stretch_y", "brightness", "contrast", "gamma", "gaussian_blur")
NETWORK = SearchSettings(
    operation_names=OPERATIONS, plan=simple_plan(OPERATIONS), sub_policies=1, steps=400, crop=96, margin=48
)


class Run(NamedTuple):
    """One run: which comparison, which of its variants, on which data, planted shift and seed."""

    comparison: str
    variant: str
    data: str
    case: Case
    seed: int

    @property
    def name(self) -> str:
        """Of its file."""
        words = f"{self.comparison}-{self.variant}-{self.data}-{self.case.name}-seed{self.seed}"
        return words.replace(" ", "_").replace("/", "_")


def plan() -> list[Run]:
    """All runs, the most telling first; the variants of a case beside each other."""
    known = {case.name: case for case in CASES}
    equal_cost = ("longer", "rerun")
    return [
        Run(comparison, variant, data, known[case], seed)
        for comparison, data, cases, variants, seeds in (
            ("statistics", "demo", CHOSEN, ("none", *equal_cost), (0,)),
            ("statistics", "real", CHOSEN, equal_cost, (0,)),
            ("statistics", "demo", CHOSEN, equal_cost, (1,)),
            ("network", "demo", CHOSEN, ("none", "carried", "rerun"), (0,)),
            ("labels", "demo", LABELLED, ("foreground", "instances"), (0, 1)),
            ("statistics", "real", CHOSEN, equal_cost, (1,)),
        )
        for seed in seeds
        for case in cases
        for variant in variants
    ]


def planted(case: Case, images: list[Image]) -> list[Image]:
    """The target, the same at every seed."""
    rng = np.random.default_rng(zlib.crc32(case.name.encode()))
    return [case.change(np.ascontiguousarray(image), rng) for image in images]


def by_statistics(run: Run, source: list[Image], target: list[Image]) -> dict[str, Any]:
    """Target mode; it has no setting for its statistics, so they are exchanged in its module."""
    target_mode.ImageStatistics = MaskedStatistics if run.variant == "rerun" else ImageStatistics
    settings = STATISTICS.model_copy(update={"steps": LONGER}) if run.variant == "longer" else STATISTICS
    try:
        return recovery.search(run.case, settings, source, target, run.seed)
    finally:
        target_mode.ImageStatistics = ImageStatistics


def by_network(run: Run, source: list[Image], target: list[Image]) -> dict[str, Any]:
    """The network critic with weak masks."""
    shown = planted(run.case, target)
    started = time.process_time()
    without = run.variant == "none"
    pairs, real = ([(i, None if without else weak_foreground(i)) for i in images] for images in (source, shown))
    search = Search(CropSampler(pairs), CropSampler(real), NETWORK, run.seed)
    if run.variant == "rerun":
        show = search.critic.standardise
        search.critic.standardise = lambda image, mask: show(image, soft_foreground(image))
    return _finished(search, CropSampler(pairs), source, started)


def by_labels(run: Run, source: list[Image], labels: list[Image], target: list[Image], others: list[Image]) -> Any:
    """The network critic with the true instances of both sides."""
    shown = planted(run.case, target)
    moved = [_like(label, image) for label, image in zip(others, shown, strict=True)]
    instances = run.variant == "instances"
    started = time.process_time()
    pairs = CropSampler(list(zip(source, labels, strict=True)), instance_channels=instances)
    real = CropSampler(list(zip(shown, moved, strict=True)), instance_channels=instances)
    settings = NETWORK.model_copy(update={"instance_channels": instances})
    return _finished(Search(pairs, real, settings, run.seed), pairs, source, started)


def _like(label: Image, image: Image) -> Image:
    """Instance ids, resized like their image: no other of the chosen shifts moves a cell."""
    return np.asarray(cv2.resize(label, image.shape[::-1], interpolation=cv2.INTER_NEAREST))


def _finished(search: Search, sampler: CropSampler, source: list[Image], started: float) -> dict[str, Any]:
    begun = time.process_time()
    while search.done < search.settings.steps:
        search.step()
    now = time.process_time()
    found = found_by(search.average, sampler, search.settings.crop)
    steps = search.settings.steps + search.settings.warmup
    mean = float(np.mean([image.mean() for image in source])) / 255
    return {"found": found, "mean": mean, "cpu_seconds": now - started, "step_ms": 1000 * (now - begun) / steps}


def labelled_halves() -> tuple[list[Image], list[Image], list[Image], list[Image]]:
    """Images and instance ids of the source, and of the target: labelled demo images, every second one."""
    parts = [resolve("demo/A172", split) for split in ("train", "val")]
    images = [dataset.image(record) for dataset in parts for record in dataset]
    labels = [dataset.instances(record).label_image() for dataset in parts for record in dataset]
    return images[::2], labels[::2], images[1::2], labels[1::2]


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--root", type=Path, help="LIVECell's folder")
    parser.add_argument("--out", type=Path, default=Path("runs/masks"))
    parser.add_argument("--only", default="", help="runs whose name contains this")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    at = commit()
    halves: dict[str, tuple[list[Image], list[Image]]] = {}
    for run in plan():
        path = arguments.out / f"{run.name}.json"
        if path.exists() or arguments.only not in run.name:
            continue
        if run.comparison == "labels":
            result = by_labels(run, *labelled_halves())
        else:
            if run.data not in halves:
                halves[run.data] = recovery.images(run.data, arguments.root)
            make: Callable[..., dict[str, Any]] = by_statistics if run.comparison == "statistics" else by_network
            result = make(run, *halves[run.data])
        write_json(path, {**run._asdict(), "case": run.case.name, "commit": at, **result})
        rows = verdicts(run.case, result["found"], result["mean"])
        text = "  ".join(f"{key} {b:.3f}/{a:.3f}{'' if ok else ' MISS'}" for key, (a, b, ok) in rows.items())
        print(f"{run.name}: {result['cpu_seconds']:.0f} s  {text}", flush=True)


if __name__ == "__main__":
    main()

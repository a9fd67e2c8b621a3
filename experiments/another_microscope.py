"""What is matching good for? Unseen cell types under another microscope: target mode beside naive strategies.

    python experiments/another_microscope.py --out OUT

As quality.py on the synthetic culture, but the unseen types' images (those that score and those that are searched on,
without labels) are changed by a known blur, contrast and brightness: the cells *and* the pictures of them differ from
the source's. Rows: none, naive strategies, random, target mode's size alone, and all of target mode.

Writes experiments/results/another_microscope.md and .json.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from quality import PROBE
from quality_data import Culture, load_culture
from quality_policies import EACH, SIZED, Searches, policy
from quality_report import difference
from steps import commit, environment, write_result

from policy_search.relaxed import SearchSettings
from policy_search.relaxed.sized import without_size
from policy_search.relaxed.target import TargetSettings
from policy_search.relaxed.threads import one_thread
from policy_search.study.objectives_probe import ProbeObjective
from policy_search.study.trivial import NAME as TRIVIAL

BLUR, CONTRAST, BRIGHTNESS = 1.5, 0.6, 20  # sigma in pixels, factor about the mean, grey levels
TYPES = ("BV2", "HUH7", "MCF7")
ROWS = ("none", "flip", "color_jitter", "stacked_p0.5", "random_choice", TRIVIAL, SIZED, EACH)
BUDGET = 300.0


def other_microscope(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W) as another microscope would show it: less sharp, fainter, brighter."""
    blurred = cv2.GaussianBlur(image, (0, 0), BLUR).astype(np.float32)
    changed = blurred.mean() + BRIGHTNESS + CONTRAST * (blurred - blurred.mean())
    return np.clip(np.round(changed), 0, 255).astype(np.uint8)


def changed_culture() -> Culture:
    """The demo culture with some unseen types, all their images changed; the source is as it was."""
    culture = load_culture("demo", None, None)
    domains = tuple(
        replace(d, samples=tuple(replace(s, image=other_microscope(s.image)) for s in d.samples))
        for d in culture.study.domains
        if d.name in TYPES
    )
    targets = {name: tuple(other_microscope(image) for image in culture.targets[name]) for name in TYPES}
    fingerprint = f"{culture.study.fingerprint}-{BLUR}-{CONTRAST}-{BRIGHTNESS}"
    study = replace(culture.study, domains=domains, fingerprint=fingerprint)
    return replace(culture, name="demo-other-microscope", study=study, targets=targets)


def measure(culture: Culture, objective: ProbeObjective, row: str, seed: int, folder: Path) -> dict[str, Any]:
    """AP50 by type and CPU seconds of one row at one seed."""
    target = TargetSettings(operation_names=without_size(()))
    found = policy(
        row, culture, seed=seed, searches=Searches(SearchSettings(), target, BUDGET), folder=folder, peer=None
    )
    assert found is not None  # only AutoAlbument's may be
    if found.by_type is None:
        ap50: Mapping[str, float] = objective.probe(found.document, seed=seed).ap50
    else:
        ap50 = {
            name: objective.restricted(name).probe(document, seed=seed).ap50[name]
            for name, document in found.by_type.items()
        }
    facts = {"policy": row, "seed": seed, "ap50": dict(ap50), "search_cpu_s": found.search_cpu_s}
    if found.by_type is not None and row == EACH:
        facts["sizes"] = {name: d.provenance.model_dump()["size"] for name, d in found.by_type.items()}
    return facts


def report(facts: dict[str, Any]) -> str:
    """The result file."""
    by_row: dict[str, dict[int, dict[str, float]]] = {}
    for cell in facts["cells"]:
        by_row.setdefault(cell["policy"], {})[cell["seed"]] = cell["ap50"]
    seeds = sorted(by_row["none"])
    means = {
        row: {s: float(np.mean(list(ap50.values()))) for s, ap50 in found.items()} for row, found in by_row.items()
    }
    lines = [
        "# Unseen types under another microscope (synthetic cells)",
        "",
        f"{facts['date']}, commit {facts['commit']}, one thread, torch {facts['versions']['torch']}, "
        f"{facts['cpu_seconds']:.0f} CPU seconds. Written by `{facts['command']}`.",
        "",
        f"As [quality.md](quality.md) on the synthetic culture, {len(seeds)} seeds. The source is as it was;",
        f"all images of the unseen types are blurred (sigma {BLUR} pixels), fainter (x{CONTRAST} about the mean) and",
        f"brighter (+{BRIGHTNESS} grey levels). Probe's AP50; differences to none are paired over seeds, t intervals",
        "at 95 %. The rows named *each* have a policy and a training for each type; *ours_size_each* is flip and",
        "recognised size alone.",
        "",
        f"| policy | AP50 | against none | {' | '.join(TYPES)} |",
        f"|---|---:|---:|{'---:|' * len(TYPES)}",
    ]
    for row, found in by_row.items():
        gap = None if row == "none" else difference(means[row], means["none"])
        against = "–" if gap is None else "{:+.3f} [{:+.3f}, {:+.3f}]".format(*gap)
        types = " | ".join(f"{np.mean([found[s][t] for s in seeds]):.3f}" for t in TYPES)
        lines.append(f"| {row} | {np.mean(list(means[row].values())):.3f} | {against} | {types} |")
    sizes = "; ".join(
        f"seed {cell['seed']}: " + ", ".join(f"{name} {size:.2f}" for name, size in cell["sizes"].items())
        for cell in facts["cells"]
        if "sizes" in cell
    )
    return "\n".join([*lines, "", f"Recognised sizes: {sizes}.", ""])


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True, help="folder of the searched policies")
    options = parser.parse_args()
    at, started, cells = commit(), time.process_time(), []
    with one_thread():
        culture = changed_culture()
        objective = ProbeObjective(culture.study, PROBE)
        for seed in range(options.seeds):
            for row in ROWS:
                cells.append(measure(culture, objective, row, seed, options.out))
                print(f"seed {seed}, {row}: {cells[-1]['ap50']}", flush=True)
    facts = {
        **environment(threads=1),
        "commit": at,
        "command": f"python experiments/another_microscope.py --seeds {options.seeds} --out OUT",
        "cpu_seconds": time.process_time() - started,
        "shift": {"blur": BLUR, "contrast": CONTRAST, "brightness": BRIGHTNESS},
        "cells": cells,
    }
    write_result("another_microscope", report(facts), facts)


if __name__ == "__main__":
    main()

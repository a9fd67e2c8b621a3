"""How large are the cells of a type nobody labelled? By the size at which a network of the source is most sure.

    python experiments/recognised_size.py --root LIVECELL_FOLDER

A network is trained on the labelled source. Unlabelled images of another type are shown to it enlarged and reduced; at
the size at which its cells look most like cells of the source, it should be most sure of them. That size is compared
with the true one, for which alone the labels of train and val images are read. Whole-image statistics, by which target
mode goes, do not show the size of cells; this asks what would. It is not part of any search.

Writes experiments/results/recognised_size.md and .json.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from quality import PROBE
from quality_data import Culture, load_culture
from sizes import IMAGES, SIZES, best, confidence
from steps import commit, environment, write_result

from policy_search.study.probe import ProbeSample, train_base

CULTURES = {"demo": "demo culture (synthetic)", "livecell": "LIVECell (real)"}


def median_length(samples: Sequence[ProbeSample]) -> float:
    """Root of the median area of the labelled cells, pixels."""
    areas = np.concatenate([np.bincount(s.instances.label_image().ravel())[1:] for s in samples])
    return float(np.sqrt(np.median(areas[areas > 0])))


def measure(culture: Culture, seed: int) -> dict[str, Any]:
    """Per unseen type: the true size, and the confidence at every size tried."""
    base = train_base(culture.study.train, seed=seed, settings=PROBE)
    own = median_length(culture.study.train)
    sure = confidence(base, [s.image for s in culture.study.train[:IMAGES]], 1.0)
    types = {}
    for domain in culture.study.domains:
        images = culture.targets[domain.name][:IMAGES]
        types[domain.name] = {
            "true": median_length(domain.samples) / own,
            "confidence": {size: confidence(base, images, size) for size in SIZES},
        }
    return {"source_confidence": sure, "types": types}


def report(facts: dict[str, Any]) -> str:
    """The result file."""
    lines = [
        "# The size of unlabelled cells, by what a network of the source recognises",
        "",
        f"{facts['date']}, commit {facts['commit']}, one thread, torch {facts['versions']['torch']}, "
        f"{facts['cpu_seconds']:.0f} CPU seconds. Written by `{facts['command']}`.",
        "",
        f"A probe's network ({PROBE.base_steps} steps on the labelled source) looks at up to {IMAGES} unlabelled",
        "images of another type, resized so that their cells would have the size of the source's if they were *size*",
        "times as large. Cells: its mean confidence (deepest depth of an instance); the highest is **bold**. *True*:",
        "ratio of the roots of the median labelled areas. One seed. Not part of any search.",
        "",
    ]
    for name, found in facts["cultures"].items():
        lines += [
            f"## {CULTURES[name]}, source A172",
            "",
            f"On the source itself: {found['source_confidence']:.3f}.",
            "",
            f"| type | true | {' | '.join(f'{size:g}' for size in SIZES)} |",
            f"|---|---:|{'---:|' * len(SIZES)}",
        ]
        for cell_type, row in found["types"].items():
            top = best(row["confidence"])
            cells = [f"**{c:.3f}**" if size == top else f"{c:.3f}" for size, c in row["confidence"].items()]
            lines.append(f"| {cell_type} | {row['true']:.2f} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--root", default=os.environ.get("LIVECELL_ROOT"), help="LIVECell's folder; none: demo alone")
    options = parser.parse_args()
    torch.set_num_threads(1)
    at, started = commit(), time.process_time()
    names = [name for name in CULTURES if name == "demo" or options.root]
    root = Path(options.root) if options.root else None
    cultures = {name: measure(load_culture(name, root, None), seed=0) for name in names}
    facts = {
        **environment(threads=1),
        "commit": at,
        "command": "python experiments/recognised_size.py --root LIVECELL_FOLDER",
        "cpu_seconds": time.process_time() - started,
        "cultures": cultures,
    }
    write_result("recognised_size", report(facts), facts)


if __name__ == "__main__":
    main()

"""How large are the cells of a type nobody labelled? By the size at which networks of the source are surest.

    python experiments/recognised_size.py --root LIVECELL_FOLDER

Networks are trained on the labelled source. Unlabelled images of another type are shown to them enlarged and reduced;
at the size at which its cells look most like cells of the source, they should be surest. That size is compared with
the true one, for which alone the labels of train and val images are read. Target mode begins with this: what it
matches after that, statistics of whole images, does not show the size of cells.

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
from quality_data import Culture, load_culture
from steps import commit, environment, write_result

from policy_search.config import SearchConfig
from policy_search.study.probe import ProbeSample
from policy_search.study.sizes import IMAGES, NETWORKS, SIZES, knows, recognise, train_networks

STEPS: int = SearchConfig.model_fields["recognise_steps"].default
CULTURES = {"demo": "demo culture (synthetic)", "livecell": "LIVECell (real)"}


def median_length(samples: Sequence[ProbeSample]) -> float:
    """Root of the median area of the labelled cells, pixels."""
    areas = np.concatenate([np.bincount(s.instances.label_image().ravel())[1:] for s in samples])
    return float(np.sqrt(np.median(areas[areas > 0])))


def measure(culture: Culture, seed: int) -> dict[str, Any]:
    """Whether the network knows its own source, and per unseen type the true size, the one found, and why."""
    networks = train_networks(culture.study.train, seed=seed, steps=STEPS)
    own, length = recognise(networks, [s.image for s in culture.study.train]), median_length(culture.study.train)
    types = {}
    for domain in culture.study.domains:
        seen = recognise(networks, culture.targets[domain.name])
        types[domain.name] = {
            "true": median_length(domain.samples) / length, "found": seen.size, "confidence": dict(seen.confidence)
        }  # fmt: skip
    return {"seed": seed, "knows": knows(own), "own": dict(own.confidence), "types": types}


def report(facts: dict[str, Any]) -> str:
    """The result file."""
    lines = [
        "# The size of unlabelled cells, by what networks of the source recognise",
        "",
        f"{facts['date']}, commit {facts['commit']}, one thread, torch {facts['versions']['torch']}, "
        f"{facts['cpu_seconds']:.0f} CPU seconds. Written by `{facts['command']}`.",
        "",
        f"{NETWORKS} networks ({STEPS} steps on the labelled source) look at the middles of up to {IMAGES} unlabelled",
        "images of another type, resized so that their cells would have the size of the source's if they were *size*",
        "times as large. *Found*: where they are surest (mean deepest depth of an instance), 1 where no other size is",
        "clearly better. *True*: ratio of the roots of the median labelled areas, of which the search knows nothing.",
        "Networks that do not know the size of their own source are not asked: all sizes count as 1 (in brackets: what",
        "they would have said). The rules of study/sizes.py were set while looking at these same seeds.",
        "",
    ]
    for name, runs in facts["cultures"].items():
        lines += [
            f"## {CULTURES[name]}, source A172",
            "",
            "| type | true | " + " | ".join(f"found, seed {run['seed']}" for run in runs) + " |",
            f"|---|---:|{'---:|' * len(runs)}",
        ]
        for cell_type, first in runs[0]["types"].items():
            found = [(run["types"][cell_type]["found"], run["knows"]) for run in runs]
            cells = [f"{size:.2f}" if known else f"1.00 ({size:.2f})" for size, known in found]
            lines.append(f"| {cell_type} | {first['true']:.2f} | {' | '.join(cells)} |")
        lines += [
            "",
            f"Mean confidence at seed {runs[0]['seed']}, the highest **bold**:",
            "",
            f"| type | {' | '.join(f'{size:g}' for size in SIZES)} |",
            f"|---|{'---:|' * len(SIZES)}",
            f"| A172 (source) | {_row(runs[0]['own'])} |",
            *(f"| {cell_type} | {_row(one['confidence'])} |" for cell_type, one in runs[0]["types"].items()),
            "",
        ]
    return "\n".join(lines)


def _row(by_size: dict[float, float]) -> str:
    top = max(by_size.values())
    return " | ".join(f"**{value:.3f}**" if value == top else f"{value:.3f}" for value in by_size.values())


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--root", default=os.environ.get("LIVECELL_ROOT"), help="LIVECell's folder; none: demo alone")
    parser.add_argument("--usiigaci", help="a folder in LIVECell's layout: one more unseen type")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    at, started = commit(), time.process_time()
    names = [name for name in CULTURES if name == "demo" or options.root]
    root, other = (Path(folder) if folder else None for folder in (options.root, options.usiigaci))
    cultures = {name: load_culture(name, root, other) for name in names}
    found = {name: [measure(culture, seed) for seed in range(options.seeds)] for name, culture in cultures.items()}
    facts = {
        **environment(threads=1),
        "commit": at,
        "command": "python experiments/recognised_size.py --root LIVECELL_FOLDER --usiigaci USIIGACI_FOLDER",
        "cpu_seconds": time.process_time() - started,
        "cultures": found,
    }
    write_result("recognised_size", report(facts), facts)


if __name__ == "__main__":
    main()

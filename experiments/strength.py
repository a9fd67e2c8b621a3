"""Source mode: how strong the policy found is, against the critic distance that it was allowed.

    python experiments/strength.py --root LIVECELL_FOLDER

Searches with the constraint at several distances, and once with it switched off: the same search, but the policy only
lowers the critic's distance, for which doing nothing is best. Each data set and distance is one command, run only once
(OUT/steps.json is the journal). Writes experiments/results/strength.md, .json and .png.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
from peer import training_pairs
from steps import ROOT, Steps, environment, write_result
from strength_report import chart, report

from policy_search.relaxed import CropSampler, RelaxedPolicy, Search, SearchSettings
from policy_search.relaxed.application import apply
from policy_search.relaxed.catalogue import operations
from policy_search.relaxed.losses import spread
from policy_search.relaxed.strengths import carries, operation_effects

DISTANCES = ("0.3", "0.75", "1.5", "3", "6")
OFF = "off"
SEEDS = (0, 1)
CROP, MARGIN = 96, 36
PROBES = 64  # images under the policy found, twice each, by which its spread is measured


def settings_for(distance: str) -> SearchSettings:
    """The defaults but for the crop (its cost), and the constraint at this distance or off."""
    settings = SearchSettings(crop=CROP, margin=MARGIN)
    change = {"constrained": False} if distance == OFF else {"distance": float(distance)}
    return settings.model_copy(update=change)


def before_learning() -> dict[str, Any]:
    """What every operation does in the policy that searches begin with, without its random offsets."""
    plain = RelaxedPolicy(operations(), sub_policies=1, generator=torch.Generator().manual_seed(0), spread=0.0)
    return {name: effect._asdict() for name, effect in operation_effects(plain).items()}


def measure(search: Search, policy: RelaxedPolicy) -> dict[str, Any]:
    """Strengths of the groups, spread between two draws of one image, and what every operation does."""
    s, generator = search.settings, torch.Generator().manual_seed(7)
    with torch.no_grad():
        image, mask = search.source.sample(PROBES, s.crop + 2 * s.margin, generator)
        pairs = [
            search.critic.standardise(
                *apply(policy, image, mask, generator, fill=search.statistics.median / 255, size=s.crop)
            )
            for _ in range(2)
        ]
        return {
            "spread": spread(search.features(torch.cat(pairs))).mean().item(),
            "strengths": {name: value.item() for name, value in search.floors.strengths(policy).items()},
            "operations": {name: effect._asdict() for name, effect in operation_effects(policy).items()},
        }


def run_one(data: str, root: Path | None, distance: str, out: Path) -> None:
    """The searches of one data set and distance, all seeds, into `out`."""
    sampler = CropSampler(training_pairs(data, root))
    settings = settings_for(distance)
    runs = []
    for seed in SEEDS:
        search = Search(sampler, None, settings, seed)
        before = measure(search, search.policy)
        started = time.process_time()
        reports = [search.step() for _ in range(settings.warmup + settings.steps)]
        spent = time.process_time() - started
        last = reports[-settings.steps // 4 :]
        runs.append(
            {
                "data": data,
                "asked": distance,
                "seed": seed,
                "reached": float(np.mean([step.distance for step in last])),
                "multiplier": last[-1].multiplier,
                "cpu_s": round(spent, 1),
                "start": before,
                **measure(search, search.average),
            }
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(runs, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", help="as for policy-search; demo/A172 and, with --root, A172")
    parser.add_argument("--root", default=os.environ.get("LIVECELL_ROOT"), help="LIVECell's folder")
    parser.add_argument("--out", default="runs/strength")
    parser.add_argument("--distance", choices=(*DISTANCES, OFF), help="only this one; the result files are not written")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = options.data or ["demo/A172", *(["A172"] if options.root else [])]
    out = ROOT / options.out
    root = Path(options.root) if options.root else None

    def file(name: str, distance: str) -> Path:
        return out / f"{name.replace('/', '_')}-{distance}.json"

    if options.distance:
        for name in data:
            run_one(name, root, options.distance, file(name, options.distance))
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    steps = Steps(out / "steps.json")
    where = ("--root", options.root) if options.root else ()
    runs: list[dict[str, Any]] = []
    for name in data:
        for distance in (OFF, *DISTANCES):
            steps.run(
                "python", "experiments/strength.py", "--data", name, *where, "--distance", distance,
                "--out", options.out,
            )  # fmt: skip
            runs += json.loads(file(name, distance).read_text())
    settings = settings_for(OFF)
    facts = {
        **environment(threads=1),
        "commits": sorted({step["commit"] for step in steps.done}),
        "settings": settings.model_dump(mode="json", exclude={"constrained", "distance"}),
        "floors": {"group": settings.floor, "operation": settings.operation_floor, "abrupt": settings.abrupt},
        "carriers": [operation.name for operation in operations() if carries(operation)],
        "before": before_learning(),
        "runs": runs,
    }
    chart(facts, ROOT / "experiments" / "results" / "strength.png")
    write_result("strength", report(facts), facts)


if __name__ == "__main__":
    main()

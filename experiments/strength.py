"""Source mode: how strong the policy found is, against the critic distance that it was allowed.

    python experiments/strength.py --root LIVECELL_FOLDER

Searches with the constraint at several distances, and without it (the augmented images are to be like the source's own,
and nothing asks for spread): there, doing nothing is best. Each data set and distance is one command, run only once
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

from policy_search.relaxed import CropSampler, RelaxedPolicy, Search, SearchSettings
from policy_search.relaxed.application import apply
from policy_search.relaxed.catalogue import CATALOGUE
from policy_search.relaxed.losses import group_strengths, operation_effects, spread

DISTANCES = ("0.3", "0.75", "1.5", "3", "6")
OFF = "off"
SEEDS = (0, 1)
STEPS, CROP, MARGIN = 150, 96, 36
PROBES = 64  # images under the policy found, twice each, by which its spread is measured
# A degradation: acts on nearly every image, always with nearly the same effect.
OFTEN, CONSTANT = 0.75, 0.75
GROUPS = ("pose", "shape", "tone", "texture", "occlusion")


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
            "strengths": {name: value.item() for name, value in group_strengths(policy).items()},
            "operations": {name: effect._asdict() for name, effect in operation_effects(policy).items()},
        }


def run_one(data: str, root: Path | None, distance: str, out: Path) -> None:
    """The searches of one data set and distance, all seeds, into `out`."""
    sampler = CropSampler(training_pairs(data, root))
    settings = SearchSettings(steps=STEPS, crop=CROP, margin=MARGIN)
    if distance != OFF:
        settings = settings.model_copy(update={"distance": float(distance)})
    runs = []
    for seed in SEEDS:
        search = Search(sampler, sampler if distance == OFF else None, settings, seed)
        before = measure(search, search.policy)
        started = time.process_time()
        reports = [search.step() for _ in range(settings.warmup + settings.steps)]
        spent = time.process_time() - started
        reached = float(np.mean([report.distance for report in reports[-STEPS // 4 :]]))
        runs.append(
            {
                "data": data,
                "asked": distance,
                "seed": seed,
                "reached": reached,
                "cpu_s": round(spent, 1),
                "start": before,
                **measure(search, search.average),
            }
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(runs, indent=1))


def constant(run: dict[str, Any]) -> list[str]:
    """Operations that have become constant degradations."""
    effects = run["operations"].items()
    return [name for name, e in effects if e["chance"] > OFTEN and e["constancy"] > CONSTANT]


def most_constant(run: dict[str, Any]) -> str:
    """The operation nearest to a constant degradation, by chance times constancy."""
    name, e = max(run["operations"].items(), key=lambda item: item[1]["chance"] * item[1]["constancy"])
    return f"{name} {e['chance']:.2f} x {e['constancy']:.2f}"


def chart(runs: list[dict[str, Any]], path: Path) -> None:
    """Strength of each group against the distance reached; one panel per data set."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(dict.fromkeys(run["data"] for run in runs))
    figure, axes = pyplot.subplots(1, len(names), figsize=(5 * len(names), 3.6), squeeze=False, sharey=True)
    for axis, name in zip(axes[0], names, strict=True):
        for group, colour in zip(GROUPS, pyplot.rcParams["axes.prop_cycle"].by_key()["color"], strict=False):
            for off, marker in ((False, "o"), (True, "x")):
                own = [r for r in runs if r["data"] == name and (r["asked"] == OFF) == off]
                own.sort(key=lambda r: r["reached"])
                axis.plot(
                    [r["reached"] for r in own], [r["strengths"][group] for r in own],
                    marker=marker, color=colour, linestyle="none" if off else "-", linewidth=0.8, markersize=4,
                    label=None if off else group,
                )  # fmt: skip
        axis.set(title=name, xlabel="critic distance reached")
    axes[0][0].set_ylabel("strength (x: without the constraint)")
    axes[0][0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})


def table(runs: list[dict[str, Any]]) -> list[str]:
    """One row a distance, the mean of the seeds, and one for the policy before learning."""
    lines = [
        "| distance asked | reached | spread | " + " | ".join(GROUPS) + " | nearest to constant: chance x constancy |",
        "|---|---:|---:|" + "---:|" * len(GROUPS) + "---|",
    ]

    def row(name: str, reached: str, measured: list[dict[str, Any]]) -> None:
        strengths = [np.mean([m["strengths"][g] for m in measured]) for g in GROUPS]
        worst = max(measured, key=lambda m: max(e["chance"] * e["constancy"] for e in m["operations"].values()))
        cells = [name, reached, f"{np.mean([m['spread'] for m in measured]):.2f}", *(f"{s:.2f}" for s in strengths)]
        lines.append(f"| {' | '.join(cells)} | {most_constant(worst)} |")

    row("(before learning)", "", [run["start"] for run in runs if run["asked"] != OFF][: len(SEEDS)])
    for asked in dict.fromkeys(run["asked"] for run in runs):
        own = [run for run in runs if run["asked"] == asked]
        row("no constraint" if asked == OFF else asked, " / ".join(f"{run['reached']:.2f}" for run in own), own)
    return lines


def off_table(runs: list[dict[str, Any]]) -> list[str]:
    """What is left of every operation without the constraint: chance x displacement, beside the start's."""
    own = [run for run in runs if run["asked"] == OFF]
    wide = [run for run in runs if run["asked"] == "1.5"]

    def moved(measured: list[dict[str, Any]], name: str) -> float:
        return float(
            np.mean([m["operations"][name]["chance"] * m["operations"][name]["displacement"] for m in measured])
        )

    lines = ["| operation | before learning | no constraint | distance 1.5 |", "|---|---:|---:|---:|"]
    for operation in CATALOGUE:
        if operation.name in own[0]["operations"]:
            values = (moved(m, operation.name) for m in ([run["start"] for run in own], own, wide))
            lines.append(f"| {operation.name} | " + " | ".join(f"{value:.3f}" for value in values) + " |")
    return lines


def report(runs: list[dict[str, Any]], facts: dict[str, Any]) -> str:
    """The result file."""
    found = [f"{r['data']}, {r['asked']}, seed {r['seed']}: {', '.join(constant(r))}" for r in runs if constant(r)]
    lines = [
        "# Source mode: strength against critic distance",
        "",
        f"{facts['date']}, one thread, torch {facts['versions']['torch']}. Written by `experiments/strength.py`; all",
        "figures also in `strength.json`.",
        "",
        f"{STEPS} steps, crops of {CROP} x {CROP}, seeds {', '.join(map(str, SEEDS))}. *reached*: by the search's own",
        "critic, mean of the last quarter of the steps, one figure a seed. *spread*: between two draws of one image",
        "under the policy found, in the frozen feature space (another one for each seed). Groups: strengths, the",
        "deviation of the displacement in half-widths of the bounds. *no constraint*: the source matched with itself.",
        "",
        f"A constant degradation acts with a chance above {OFTEN} and does the same each time (constancy above",
        f"{CONSTANT}: the share of the mean square displacement that all images have in common).",
        f"Found: {'; '.join(found) if found else 'none'}.",
        "",
        "![Strength of each group against the distance reached](strength.png)",
    ]
    for data in dict.fromkeys(run["data"] for run in runs):
        own = [run for run in runs if run["data"] == data]
        kind = "synthetic" if data.startswith("demo/") else "real LIVECell, a small subset"
        lines += ["", f"## {data} ({kind})", "", *table(own), "", "Chance x displacement of each operation:", ""]
        lines += off_table(own)
    return "\n".join([*lines, ""])


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
    chart(runs, ROOT / "experiments" / "results" / "strength.png")
    facts = {
        **environment(threads=1),
        "commits": sorted({step["commit"] for step in steps.done}),
        "steps": STEPS,
        "crop": CROP,
        "margin": MARGIN,
        "runs": runs,
    }
    write_result("strength", report(runs, facts), facts)


if __name__ == "__main__":
    main()

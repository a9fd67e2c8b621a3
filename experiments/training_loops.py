"""Whether this project's training loop costs AP50: detectron2's own loop and ours, same network, batches and seeds.

    python experiments/training_loops.py --root LIVECELL_FOLDER [--out FOLDER] [--record]

`tiny` from fresh weights with flips for as long as the preset takes, tested on every type's test images. Every training
is a process of its own and kept as a file in FOLDER, so the command goes on where it was ended. `detection_speed.md`
holds the same for shorter trainings, and what an iteration costs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from bench_detection import LIVECELL_TRAIN, measure
from scipy import stats
from steps import ROOT, commit, environment, write_result

from detection.presets import preset

# detectron2's, ours, and ours in detectron2's arithmetic.
LOOPS = {"theirs": "detectron2's, fp32", "ours": "ours, 16 bits where the processor has them", "fp32": "ours, fp32"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="LIVECell's folder")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "training_loops")
    parser.add_argument("--iterations", type=int, default=preset("tiny").iterations)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--loops", default="theirs,ours", help=f"some of {', '.join(LOOPS)}")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--tiny-preset", type=Path, help="take ours from this OUT of tiny_preset.py: the same training, bit for bit"
    )
    parser.add_argument("--record", action="store_true", help="write experiments/results/training_loops.md and .json")
    options = parser.parse_args()
    found: dict[str, dict[str, Any]] = {}
    for seed in options.seeds.split(","):
        for loop in options.loops.split(","):
            request = {
                "threads": options.threads, "root": options.root, "data": LIVECELL_TRAIN, "test": "all", "side": loop,
                "seed": int(seed), "iterations": options.iterations,
            }  # fmt: skip
            if loop == "ours" and options.tiny_preset:
                answer = pretrained(options.tiny_preset, seed, request)
            else:
                answer = measure(f"{loop}_{options.iterations}_{seed}", "quality", request, options.out)
            found.setdefault(loop, {})[seed] = answer
            print(f"{LOOPS[loop]}, seed {seed}: mean AP50 {mean(answer['ap50']):.3f}", flush=True)
    if options.record:
        for by_seed in found.values():
            for answer in by_seed.values():
                answer["request"].pop("root", None)
        facts = {**environment(options.threads), "commit": commit(), "iterations": options.iterations,
                 "ours_is_pretrain": bool(options.tiny_preset), "runs": found}  # fmt: skip
        write_result("training_loops", report(facts), facts)


def pretrained(folder: Path, seed: str, request: dict[str, Any]) -> dict[str, Any]:
    """What `detect pretrain` reached for tiny_preset.py with the same images, seed and number of iterations."""
    run = folder / f"seed{seed}"
    iterations = json.loads((run / "config.json").read_text())["iterations"]
    if iterations != request["iterations"]:
        raise SystemExit(f"{run} has {iterations} iterations, {request['iterations']} were asked for")
    scores = json.loads((run / "test" / "scores.json").read_text())["scores"]
    steps = json.loads((folder / "steps.json").read_text())
    step = next(step for step in steps if "pretrain" in step["command"] and step["command"][-1] == str(run))
    return {
        "ap50": {name: found["ap50"] for name, found in scores.items()}, "cpu": step["cpu"],
        "seconds": step["seconds"], "commit": step["commit"], "request": request,
    }  # fmt: skip


def mean(ap50: dict[str, float]) -> float:
    """Over the tested types."""
    return statistics.fmean(ap50.values())


def difference(runs: dict[str, Any], loop: str) -> tuple[list[float], float, tuple[float, float] | None]:
    """A loop minus detectron2's: of each seed, the mean, and Student's 95 % interval (None with one seed)."""
    each = [mean(answer["ap50"]) - mean(runs["theirs"][seed]["ap50"]) for seed, answer in runs[loop].items()]
    middle = statistics.fmean(each)
    if len(each) < 2:
        return each, middle, None
    half = float(stats.t.ppf(0.975, len(each) - 1)) * statistics.stdev(each) / len(each) ** 0.5
    return each, middle, (middle - half, middle + half)


def report(facts: dict[str, Any]) -> str:
    """The result file."""
    runs = facts["runs"]
    types = list(next(iter(runs["theirs"].values()))["ap50"])
    seeds = list(runs["theirs"])
    lines = [
        "# AP50 after training in detectron2's loop and in ours",
        "",
        f"{facts['date']}, commit {facts['commit']}, torch {facts['versions']['torch']}, one process of "
        f"{facts['threads']} thread a training.",
        "Written by `python experiments/training_loops.py --root LIVECELL_FOLDER --record`.",
        "",
        "Real LIVECell images: six train, one of each type is tested; splits are not LIVECell's own. `tiny` from fresh",
        f"weights, {facts['iterations']:,} iterations of two crops of 256 × 256, flips only. Within a seed both loops "
        "get the same",
        "first weights, batches, learning rates and random numbers.",
        "",
        "| seed | loop | " + " | ".join(types) + " | mean | CPU s |",
        "|---|---|" + "---:|" * (len(types) + 2),
    ]
    for seed in seeds:
        for loop, by_seed in runs.items():
            if seed in by_seed:
                ap50 = by_seed[seed]["ap50"]
                values = " | ".join(f"{ap50[name]:.3f}" for name in types)
                lines.append(
                    f"| {seed} | {LOOPS[loop]} | {values} | {mean(ap50):.3f} | {by_seed[seed]['cpu']:.0f} |"
                )  # fmt: skip
    for loop in runs:
        if loop == "theirs":
            continue
        each, middle, interval = difference(runs, loop)
        text = f"{LOOPS[loop].capitalize()}, minus detectron2's, mean over types: "
        text += ", ".join(f"{value:+.3f}" for value in each) + f"; on average {middle:+.3f}"
        if interval:
            text += f", 95 % interval {interval[0]:+.3f} to {interval[1]:+.3f} (Student, {len(each)} seeds)"
        lines += ["", text + "."]
    if facts["ours_is_pretrain"]:
        lines += [
            "",
            "Ours are runs of `detect pretrain` itself (tiny_preset.md): their CPU seconds are those of the whole",
            "command, detectron2's those of the iterations alone.",
        ]
    lines += [
        "",
        "Trainings of the same seed part after some hundred iterations by rounding alone, so single differences are",
        "mostly chance; the interval says how large a loss these seeds would still allow.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()

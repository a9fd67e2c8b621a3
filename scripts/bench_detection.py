"""`make bench-detection`: what detection costs, beside plain detectron2, Albumentations and pycocotools.

    python scripts/bench_detection.py [--root LIVECELL_FOLDER] [--out FOLDER] [--rows policy,…] [--record]

Each row runs both sides in one process of its own and prints the ratio; its figures are kept in FOLDER, so that a
bench that is started again measures what is missing. Without LIVECELL_ROOT or --root: synthetic cells, and it says so.
With --record: experiments/results/detection_speed.md and .json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from detection_report import report, summary
from steps import ROOT, commit, environment, write_result

SEEDS = (0, 1, 2, 3)
ROWS = ("policy", "evaluation", "iteration", "cache", "tiny", "memory", "quality")
LIVECELL_TRAIN, DEMO_TRAIN = "A172,BT474,Huh7,MCF7,SKOV3", "demo/A172"


def parts(row: str, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """The measurements of a row, by name: what `detection_rows.py` is asked."""
    real = bool(options.root)
    common = {
        "threads": options.threads, "root": options.root, "data": LIVECELL_TRAIN if real else DEMO_TRAIN,
        "test": "all" if real else "demo/all",
    }  # fmt: skip
    if row == "policy":
        # One thread, as in a worker of a data loader.
        return {"policy": {**common, "threads": 1, "repeats": 45}}
    if row == "evaluation":
        return {"evaluation": {**common, "images": 200, "cells": 300}}
    if row == "iteration":
        return {
            "iteration": {**common, "side": "both", "repeats": options.repeats},
            # Memory of one side alone.
            "iteration_ours": {**common, "side": "ours", "repeats": 1},
            "iteration_theirs": {**common, "side": "theirs", "repeats": 1},
        }
    if row == "quality":
        return {
            f"quality_{side}_{seed}": {**common, "side": side, "seed": seed, "iterations": options.iterations}
            for seed in SEEDS
            for side in ("theirs", "fp32", "ours")
        }
    return {row: {**common, "repeats": 50 if row == "tiny" else options.repeats}}


def measure(name: str, row: str, request: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A measurement, from its file if it was made before with the same request."""
    path = folder / f"{name}.json"
    if path.is_file():
        known: dict[str, Any] = json.loads(path.read_text())
        if known["request"] == request:
            return known
    words = [sys.executable, str(ROOT / "scripts" / "detection_rows.py"), row, json.dumps(request)]
    folder.mkdir(parents=True, exist_ok=True)
    answer = folder / "answer.json"
    if row == "memory":
        words = [sys.executable, str(ROOT / "scripts" / "bench_inference_memory.py"), "--out", str(answer)]
    threads = str(request["threads"])
    at = commit()
    done = subprocess.run(
        words, cwd=ROOT, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"the row {row} failed with exit code {done.returncode}")
    text = answer.read_text() if row == "memory" else done.stdout.splitlines()[-1]
    found = {
        **json.loads(text), "request": request, "commit": at, "loadavg": os.getloadavg(),
        **environment(request["threads"]),
    }  # fmt: skip
    path.write_text(json.dumps(found, indent=1))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default=os.environ.get("LIVECELL_ROOT"), help="LIVECell's folder")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "bench_detection")
    parser.add_argument("--rows", default=",".join(ROWS), help="which of them, by commas")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--repeats", type=int, default=3, help="iterations of the large networks")
    parser.add_argument("--iterations", type=int, default=800, help="of each training that compares AP50")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    wanted = options.rows.split(",")
    unknown = [row for row in wanted if row not in ROWS]
    if unknown:
        parser.error(f"unknown rows {', '.join(unknown)}: expected some of {', '.join(ROWS)}")
    found: dict[str, Any] = {}
    for row in wanted:
        for name, request in parts(row, options).items():
            found[name] = measure(name, row, request, options.out)
        print(summary(row, found), flush=True)
    if options.record:
        # The folder is the reader's own business.
        command = (
            "make bench-detection RECORD=1" if not options.root else "LIVECELL_ROOT=… make bench-detection RECORD=1"
        )
        for value in found.values():
            value["request"].pop("root", None)
        facts = {**environment(options.threads), "commit": commit(), "command": command, "rows": found}
        write_result("detection_speed", report(facts, synthetic=not options.root), facts)


if __name__ == "__main__":
    main()

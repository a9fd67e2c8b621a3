"""`make demo`: the whole path on the built-in synthetic culture, no data and no network needed. About ten minutes.

Searches a policy on demo/A172, trains a small Cascade Mask R-CNN on it, fine-tunes that with the policy found and with
two naive ones, tests on three synthetic cell types, and prints the table. Everything lands in runs/demo; finished steps
are skipped when it is run again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
SOURCE = "demo/A172"
TESTS = "demo/A172,BV2,SHSY5Y"


def run(*command: str) -> None:
    """Print a command as a user would type it, and run it."""
    print(f"\n$ {' '.join(command)}", flush=True)
    started = time.perf_counter()
    done = subprocess.run([str(BIN / command[0]), *command[1:]], cwd=ROOT)
    if done.returncode:
        sys.exit(f"{command[0]} {command[1]} failed with exit code {done.returncode}")
    print(f"({time.perf_counter() - started:.0f} s)", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="runs/demo", help="folder of the results")
    parser.add_argument("--seed", default="0")
    options = parser.parse_args()
    out, seed = options.out, ["--seed", options.seed]
    started = time.perf_counter()
    best, base, results = f"{out}/policy/best.json", f"{out}/base/model.pth", f"{out}/results.sqlite"
    run("policy-search", "run", "--data", SOURCE, "--trials", "5", "--steps", "120", "--final-seeds", "2",
        "--out", f"{out}/policy", *seed)  # fmt: skip
    run("policy-search", "show", best)
    run("policy-search", "preview", "--policy", best, "--data", SOURCE, "--out", f"{out}/preview.png", *seed)
    if not (ROOT / base).is_file():
        run("detect", "pretrain", "--data", SOURCE, "--preset", "tiny", "--iterations", "500", "--out", f"{out}/base", *seed)
    for policy in (best, "none", "random_choice"):
        run("detect", "finetune", "--policy", policy, "--data", SOURCE, "--weights", base, "--iterations", "150",
            "--eval", TESTS, "--results", results, "--out", f"{out}/finetune/{Path(policy).stem}", *seed)  # fmt: skip
    run("detect", "table", "--results", results)
    print(f"\nAll figures are on SYNTHETIC cells. Preview: {out}/preview.png; report: {out}/policy/report.md")
    print(f"whole demo: {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()

"""`make demo`: the whole path on the built-in synthetic culture, no data and no network needed. Under ten minutes.

Searches a policy on demo/A172, trains a small Cascade Mask R-CNN on it, fine-tunes that with the policy found and with
two naive ones, tests on three synthetic cell types, and prints the table. Everything lands in runs/demo; finished steps
are skipped when it is run again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from steps import ROOT, Steps, capture, environment, stored_results, write_result

SOURCE = "demo/A172"
TESTS = "demo/A172,BV2,SHSY5Y"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="runs/demo", help="folder of the results")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--record", action="store_true", help="write experiments/results/demo.md and .json")
    options = parser.parse_args()
    out, seed = options.out, ["--seed", options.seed]
    best, base, results = f"{out}/policy/best.json", f"{out}/base/model.pth", f"{out}/results.sqlite"
    steps = Steps(ROOT / out / "steps.json")
    steps.run(
        "policy-search", "run", "--data", SOURCE, "--trials", "5", "--steps", "100", "--final-seeds", "2",
        "--finalists", "2", "--probe-steps", "60", "--probe-base-steps", "200", "--out", f"{out}/policy", *seed,
    )  # fmt: skip
    steps.run("policy-search", "show", best, always=True)
    steps.run("policy-search", "preview", "--policy", best, "--data", SOURCE, "--out", f"{out}/preview.png", *seed)
    steps.run(
        "detect", "pretrain", "--data", SOURCE, "--preset", "tiny", "--iterations", "500", "--out", f"{out}/base", *seed
    )
    for policy in (best, "none", "random_choice"):
        steps.run(
            "detect", "finetune", "--policy", policy, "--data", SOURCE, "--weights", base, "--iterations", "150",
            "--eval", TESTS, "--results", results, "--out", f"{out}/finetune/{Path(policy).stem}", *seed,
        )  # fmt: skip
    steps.run("detect", "table", "--results", results, always=True)
    print(f"\nAll figures are on SYNTHETIC cells. Preview: {out}/preview.png; report: {out}/policy/report.md")
    print(f"whole demo: {steps.seconds():.0f} s")
    if options.record:
        record(out, results, best, steps)


def record(out: str, results: str, best: str, steps: Steps) -> None:
    """Keep what came out as a result file."""
    facts = environment()
    finds = "\n".join(f"| `{' '.join(s['command'])}` | {s['seconds']:.0f} |" for s in steps.done)
    text = f"""# `make demo`: the whole path on synthetic cells

{facts["date"]}, {facts["cores"]} cores, torch {facts["versions"]["torch"]}.
Written by `python scripts/demo.py --record`.

**Synthetic cells** and budgets made for ten minutes: this shows that the path works, not which policy is better.

{capture("detect", "table", "--results", results)}

```
{capture("policy-search", "show", best)}
```

{(ROOT / out / "policy" / "report.md").read_text().split(chr(10), 1)[1].strip()}

| command | seconds |
|---|---:|
{finds}
| all | {steps.seconds():.0f} |
"""
    write_result("demo", text, {**facts, "synthetic": True, "commands": steps.done,
                                "results": stored_results(ROOT / results)})  # fmt: skip


if __name__ == "__main__":
    main()

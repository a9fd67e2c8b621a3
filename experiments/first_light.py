"""The whole path on real LIVECell images: search on A172, fine-tune with the policy found and with two naive ones.

    python experiments/first_light.py --root LIVECELL_FOLDER

Runs the commands, each only once (runs/first_light/steps.json is the journal), and writes
experiments/results/first_light.md and .json from what they left behind.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
from steps import ROOT, Steps, capture, environment, stored_results, write_result

from policy_search.cells import resolve

OUT = "runs/first_light"


def commands(root: str, seed: str, steps: Steps) -> None:
    """Run what is not yet done: base model and naive strategies beside the search, then the policies found.

    Each command has one thread, and two run at a time: on two cores that is faster than two threads in turn.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    best, base, results = f"{OUT}/policy/best.json", f"{OUT}/base/model.pth", f"{OUT}/results.sqlite"
    where = ("--data", "A172", "--root", root, "--seed", seed)

    def finetune(policy: str, name: str) -> None:
        steps.run(
            "detect", "finetune", "--policy", policy, *where, "--weights", base, "--results", results,
            "--out", f"{OUT}/finetune/{name}",
        )  # fmt: skip

    def naive() -> None:
        steps.run("detect", "pretrain", *where, "--preset", "tiny", "--out", f"{OUT}/base")
        for policy in ("none", "random_choice"):
            finetune(policy, policy)

    def search() -> None:
        steps.run("policy-search", "run", *where, "--trials", "18", "--final-seeds", "3", "--out", f"{OUT}/policy")

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(naive), pool.submit(search)]:
            future.result()
        jobs = [pool.submit(finetune, best, "best")]
        learnt = best_learnt()
        if learnt is not None:  # the winner may be a naive strategy; then the best searched policy is tested as well
            jobs.append(pool.submit(finetune, learnt, "searched"))
        for future in jobs:
            future.result()


def trials() -> list[dict[str, object]]:
    """The lines of the study's log."""
    return [json.loads(line) for line in (ROOT / OUT / "policy" / "log.jsonl").read_text().splitlines()]


def best_learnt() -> str | None:
    """File of the best policy that was searched by gradient, unless it won."""
    searched = [t for t in trials() if t["family"] == "searched" and t["score"] is not None]
    if not searched:
        return None
    top = max(searched, key=lambda t: float(str(t["score"])))
    winner = json.loads((ROOT / OUT / "policy" / "best.json").read_text())["policy_search"]["name"]
    return None if top["name"] == winner else f"{OUT}/policy/trials/{int(str(top['trial'])):03d}/policy.json"


def incomplete(root: str) -> str:
    """A sentence on test images whose annotators left cells out."""
    records = [r for r in resolve("all", "test", root) if not r.complete]
    if not records:
        return ""
    types = ", ".join(dict.fromkeys(r.cell_type for r in records))
    return f"{types}: the test image lacks annotated cells, so correct detections count as false there."


def write(root: str, seed: str, steps: Steps) -> None:
    """The result files, from the journal, the store and the policy."""
    best = json.loads((ROOT / OUT / "policy" / "best.json").read_text())
    table = capture("detect", "table", "--results", f"{OUT}/results.sqlite")
    rows = stored_results(ROOT / OUT / "results.sqlite")
    learnt = best_learnt()
    # Where the images lie is the reader's own business.
    shown = [{**s, "command": " ".join(s["command"]).replace(root, "$LIVECELL_ROOT")} for s in steps.done]
    facts = {
        **environment(threads=1),
        "data": "A172 of a small real LIVECell subset (15 annotated images)",
        "seed": int(seed),
        "commands": shown,
        "policy": best["policy_search"],
        "results": rows,
        "trials": trials(),
    }
    text = "\n".join(
        [
            "# First light: the whole path on real cells",
            "",
            f"{facts['date']}, one thread a command, two commands at a time on {facts['cores']} cores, "
            f"torch {facts['versions']['torch']}, seed {seed}.",
            "Written by `experiments/first_light.py`; all figures also in `first_light.json`.",
            "",
            "Data: 15 annotated real LIVECell images, of which one A172 image (147 cells) trains everything here and",
            "each type is tested on one image. **Far too little to say which policy is better**: this file shows that",
            "the path works, and what came out. Splits are not LIVECell's own; do not compare with published scores.",
            "",
            "## AP50",
            "",
            table,
            "",
            incomplete(root),
            "",
            "## The policies",
            "",
            best["policy_search"].get("verdict", ""),
            "",
            f"The best policy that was searched by gradient ({'its AP50 is above' if learnt else 'it is best.json'}):",
            "",
            "```",
            capture("policy-search", "show", learnt or f"{OUT}/policy/best.json"),
            "```",
            "",
            "## The study",
            "",
            *(ROOT / OUT / "policy" / "report.md").read_text().splitlines()[4:],
            "",
            "## Commands and wall time",
            "",
            "| command | seconds |",
            "|---|---:|",
            *(f"| `{s['command']}` | {s['seconds']:.0f} |" for s in shown),
            "",
        ]
    )
    write_result("first_light", text, facts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default=os.environ.get("LIVECELL_ROOT"), help="LIVECell's folder")
    parser.add_argument("--seed", default="0")
    options = parser.parse_args()
    if not options.root:
        parser.error("give --root or set LIVECELL_ROOT")
    steps = Steps(ROOT / OUT / "steps.json")
    commands(options.root, options.seed, steps)
    write(options.root, options.seed, steps)


if __name__ == "__main__":
    main()

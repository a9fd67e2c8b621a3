"""`make bench-search`: what a step of the search costs, beside AutoAlbument's where its environment is at hand.

    python scripts/bench_search.py [--peer FOLDER]

One thread, CPU seconds, both sides in turn in one call; each figure of memory comes from a fresh process. FOLDER holds
the peer's recipe and its Python 3.8 environment (`peer.py`); without it the report says that the peer is missing.
Writes experiments/results/search_speed.md and .json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from peer import ONE_THREAD, Peer, training_pairs, write_pairs
from steps import ROOT, commit, environment, write_result

from policy_search.cells.errors import InputError
from policy_search.relaxed.catalogue import operations

WARM_UP = 3  # steps of the peer that are left out, as `bench_step.py` does with ours
PEER_CROPS, PEER_EPOCHS, SIZE, BATCH = 64, 2, 256, 16  # 8 steps a round, 5 of them counted

HEADLINE = "8 + 8 images, 256 x 256, 40 x 4"
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "identity": {"identity": True},
    "three channels": {"channels": 3},
    "network target": {"target": True},
}
GROWTH: dict[str, dict[str, dict[str, Any]]] = {
    "images a step": {f"{2 * n} ({n} + {n})": {"batch": n} for n in (2, 4, 8, 16)},
    "image side, pixels": {str(n): {"size": n} for n in (64, 128, 256, 512)},
    "operations, 40 x 4": {str(n or len(operations())): {"operations": n, "stages": 4} for n in (1, 5, 10, None)},
    "sub-policies x stages": {
        f"{p} x {s}": {"sub_policies": p, "stages": s} for p, s in ((1, 1), (8, 4), (40, 4), (40, 8))
    },
}
POLICY: dict[str, dict[str, Any]] = {
    **{f"{p} x {s}": {"sub_policies": p, "stages": s} for p, s in ((1, 1), (8, 4), (40, 4), (40, 8))},
    **{f"40 x 4, operations: {n}": {"operations": n, "stages": 4} for n in (1, 5, 10)},
    "1 x 1, free": {"sub_policies": 1, "stages": 1, "free": True},
}


def child(kind: str, cases: dict[str, dict[str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    """Measure in a fresh process of one thread, see `bench_step.measure`."""
    request = {
        "kind": kind, "data": options.data, "root": options.root, "repeats": options.repeats, "cases": cases
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "bench_step.py"), json.dumps(request)],
        cwd=ROOT, env={**os.environ, **ONE_THREAD}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"bench_step.py failed with exit code {done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def side_by_side(peer: Peer | None, options: argparse.Namespace) -> dict[str, list[float]]:
    """CPU seconds of single steps and peaks in MiB of both, ours and the peer's in turn."""
    found: dict[str, list[float]] = {"ours": [], "ours_peak": [], "peer": [], "peer_peak": []}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        overrides = []
        if peer is not None:
            root = Path(options.root) if options.root else None
            pairs = training_pairs(options.data, root)
            overrides = write_pairs(pairs, data, count=PEER_CROPS, size=SIZE, seed=0)
        for number in range(options.rounds):
            ours = child("steps", {"default": {}}, options)
            found["ours"] += ours["cpu_s"]["default"]
            found["ours_peak"].append(ours["peak_mb"])
            print(f"round {number + 1}: ours {show(ours['cpu_s']['default'])} CPU s", flush=True)
            if peer is None:
                continue
            out = Path(folder) / f"round{number}"
            run = peer.search(data, out, batch=BATCH, epochs=PEER_EPOCHS, seed=number, overrides=overrides)
            if run.timing is None:
                raise SystemExit("the peer's timer wrote nothing: is timing.StepTimer in its config/search.yaml?")
            found["peer"] += run.timing["steps_cpu"][WARM_UP:]
            found["peer_peak"].append(run.peak_mb)
            print(f"round {number + 1}: peer {show(run.timing['steps_cpu'][WARM_UP:])} CPU s", flush=True)
    return found


def show(values: list[float], factor: float = 1.0, digits: int = 3) -> str:
    """Median and range."""
    middle, low, high = (factor * f(values) for f in (statistics.median, min, max))
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def milliseconds(values: list[float]) -> str:
    """Median and range of seconds, in ms."""
    return show(values, 1000, 1)


def gather(options: argparse.Namespace) -> dict[str, Any]:
    """All figures."""
    peer = Peer(Path(options.peer)) if options.peer else None
    both = side_by_side(peer, options)
    variants = child("steps", VARIANTS, options)["cpu_s"]
    policy = child("policy", POLICY, options)["cpu_s"]
    growth = {what: child("steps", cases, options)["cpu_s"] for what, cases in GROWTH.items()}
    middle = statistics.median
    facts: dict[str, Any] = {
        **environment(threads=1),
        "loadavg": os.getloadavg(),
        "commit": commit(),
        "data": options.data,
        "case": HEADLINE,
        "operations": len(operations()),
        "ours_cpu_s": middle(both["ours"]),
        "ours_peak_mb": max(both["ours_peak"]),
        "policy_ms": 1000 * middle(policy["40 x 4"]),
        "policy_1x1_ms": 1000 * middle(policy["1 x 1"]),
        "policy_growth": middle(policy["40 x 4"]) / middle(policy["1 x 1"]),
        "policy_free_1x1_ms": 1000 * middle(policy["1 x 1, free"]),
        "policy_growth_same_operations": middle(policy["40 x 4"]) / middle(policy["1 x 1, free"]),
        "warp_ms": 1000 * middle(policy["warp"]),
        "policy_share": 1 - middle(variants["identity"]) / middle(variants["default"]),
        "three_channels_cpu_s": middle(variants["three channels"]),
        "network_target_cpu_s": middle(variants["network target"]),
        "measured": {"side_by_side": both, "variants": variants, "policy": policy, "growth": growth},
    }
    if peer is not None:
        facts |= {
            "peer": peer.versions(),
            "peer_cpu_s": middle(both["peer"]),
            "peer_peak_mb": max(both["peer_peak"]),
            "ratio": middle(both["peer"]) / middle(both["ours"]),
            "ratio_three_channels": middle(both["peer"]) / middle(variants["three channels"]),
        }
    return facts


def versus(facts: dict[str, Any]) -> list[str]:
    """The comparison, or the plain statement that there is none."""
    measured = facts["measured"]
    both, variants = measured["side_by_side"], measured["variants"]
    rows = [
        "| | CPU s a step | steps | peak memory, MB |",
        "|---|---:|---:|---:|",
        f"| ours | {show(both['ours'])} | {len(both['ours'])} | {facts['ours_peak_mb']:.0f} |",
        f"| ours, three equal channels | {show(variants['three channels'])} | {len(variants['three channels'])} | |",
        f"| ours, network critic, target | {show(variants['network target'])} | {len(variants['network target'])} | |",
    ]
    if not both["peer"]:
        return [*rows, "", "**The peer was not measured**: `--peer` was not given, so there is no ratio here."]
    versions = facts["peer"]
    return [
        *rows,
        f"| AutoAlbument {versions['autoalbument']} | {show(both['peer'], digits=2)} | {len(both['peer'])} "
        f"| {facts['peer_peak_mb']:.0f} |",
        "",
        f"Ratio of the medians: **{facts['ratio']:.0f}×** "
        f"({facts['ratio_three_channels']:.0f}× where ours has three channels too).",
        "",
        "**What differs beside the speed.** The peer trains a segmentation network in its step (Unet-resnet18: task",
        "loss on both halves, and its encoder is the critic); ours trains a small critic and no task network. The",
        f"peer blends all 14 operations softly in every stage; ours draws from {facts['operations']}. The peer crashes",
        f"on one channel and gets the grey images three times. It runs on torch {versions['torch']} and Python",
        f"{versions['python']}, which its pinned dependencies want. A step of one is not a step of the other: see",
        "what the policies do for a detector before calling either search better.",
    ]


def report(facts: dict[str, Any], command: str) -> str:
    """The result file."""
    measured = facts["measured"]
    policy, variants = measured["policy"], measured["variants"]
    synthetic = " (synthetic cells)" if facts["data"].startswith("demo/") else ""
    lines = [
        "# What a step of the search costs",
        "",
        f"{facts['date']}, commit {facts['commit']}, one thread, torch {facts['versions']['torch']}, {facts['machine']}"
        f" with {facts['cores']} cores, load {facts['loadavg'][2]:.1f}. Images: {facts['data']}{synthetic}.",
        f"Written by `{command}`; all figures also in `search_speed.json`.",
        "",
        f"CPU seconds, median (range) after {WARM_UP} steps of warm-up in which the policy learns. {HEADLINE} (sub-"
        f"policies x stages), all {facts['operations']} operations, source mode, unless stated.",
        "",
        "## The step",
        "",
        *versus(facts),
        "",
        "## The policy's part",
        "",
        f"With the identity in the policy's place a step takes {show(variants['identity'])} CPU s for "
        f"{show(variants['default'])} with it, measured in turn: the policy is "
        f"{100 * facts['policy_share']:.0f} % of the step.",
        "",
        "The policy application alone, forward and backward, 8 images of 256 x 256 with their context; the yardstick",
        "is one plain differentiable warp of image and mask by torch.",
        "",
        "| | CPU ms |",
        "|---|---:|",
        f"| one plain warp | {milliseconds(policy['warp'])} |",
        *(f"| {name} | {milliseconds(policy[name])} |" for name in POLICY),
        "",
        "A plan of 1 stage moves and does nothing else (one warp); one of 8 has each stage of the default plan twice.",
        "Stages without an operation are left out. *Free*: the one stage chooses from all operations, so that 1 x 1",
        "has as many of them as 40 x 4.",
        "",
        f"From 1 x 1 to 40 x 4, all {facts['operations']} operations in both: "
        f"{facts['policy_growth_same_operations']:.2f}×. From one warp alone: {facts['policy_growth']:.2f}×.",
        "",
        "## How a step grows",
    ]
    for what, cases in GROWTH.items():
        lines += ["", f"| {what} | CPU s a step |", "|---|---:|"]
        lines += [f"| {name} | {show(measured['growth'][what][name])} |" for name in cases]
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="folder with the peer's config and environment")
    parser.add_argument("--data", default="demo/A172", help="as for policy-search; the cost does not depend on it")
    parser.add_argument("--root", help="LIVECell's folder")
    parser.add_argument("--rounds", type=int, default=2, help="of ours and the peer in turn")
    parser.add_argument("--repeats", type=int, default=15, help="steps measured of each case")
    options = parser.parse_args()
    try:
        facts = gather(options)
    except InputError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from error
    # Where the peer lies is the reader's own business.
    command = "python scripts/bench_search.py" + (" --peer FOLDER" if options.peer else "")
    facts["command"] = command
    write_result("search_speed", report(facts, command), facts)


if __name__ == "__main__":
    main()

"""CPU seconds until an emitted policy reaches a planted shift, ours beside AutoAlbument's.

    python experiments/planted_shift.py --peer FOLDER --cpu-seconds 300 --out runs/planted

The target is the source made 64 grey levels brighter. Quality is the Wasserstein distance, in grey levels, between the
pixels of source images under the *emitted* policy and the target's pixels; doing nothing scores about 64. One thread,
crops of 64 x 64 (the peer's step takes 13 CPU seconds at 256 x 256). Ours is target mode, in the full form (40 x 4, 25
operations), 8 images a step; the peer takes 8 source and 8 target images a step.

AutoAlbument has no target of its own: its critic compares one half of a batch, augmented, with the other half as it
is. A loader in its configuration (`scripts/peer_side/halves.py`) puts the target into that other half, so nothing of
the peer itself is changed, and it gets the target's true masks.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
from peer import Peer, training_pairs, write_pairs
from steps import ROOT, commit, environment, write_result

from policy_search.cells.errors import InputError
from policy_search.relaxed import CropSampler, to_compose
from policy_search.relaxed.crops import Pair
from policy_search.relaxed.target import TargetSearch, TargetSettings, unlabelled

SHIFT = 64
SIZE, BATCH = 64, 16
CROPS = 80  # of the source, and as many of the target
DRAWS = 5
LENGTHS = (25, 50, 100, 200, 400)  # of our searches, steps
REACHED = 8.0  # grey levels


def histogram(images: list[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """(256,) shares."""
    total = sum(np.bincount(image.ravel(), minlength=256) for image in images)
    return np.asarray(total / np.sum(total))


def distance(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Wasserstein-1 distance of two histograms (256,), in grey levels."""
    return float(np.abs(np.cumsum(first - second)).sum())


def brighter(pairs: list[Pair]) -> list[Pair]:
    """The target."""
    return [(cv2.add(image, SHIFT), mask) for image, mask in pairs]


def ours(pairs: list[Pair], goal: NDArray[np.float64], images: list[NDArray[np.uint8]]) -> list[dict[str, float]]:
    """Distance of the exported policy of searches of several lengths, each begun anew, with all CPU seconds of each.

    A search in target mode plans its stretches by its length, so a long one is not a short one continued.
    """
    curve = []
    for steps in LENGTHS:
        settings = TargetSettings(sub_policies=40, batch=BATCH // 2, crop=SIZE, steps=steps)
        started = time.process_time()
        # Images alone on both sides: target mode reads no labels.
        source, target = (unlabelled([image for image, _ in side]) for side in (pairs, brighter(pairs)))
        search = TargetSearch(source, target, settings, seed=0)
        while search.done < steps:
            search.step()
        spent = time.process_time() - started
        policy = to_compose(search.average, search.statistics.median)
        policy.set_random_seed(0)
        out = [policy(image=image)["image"] for image in images for _ in range(DRAWS)]
        curve.append({"steps": steps, "cpu_s": spent, "distance": distance(histogram(out), goal)})
    return curve


def theirs(peer: Peer, pairs: list[Pair], goal: NDArray[np.float64], out: Path, budget: int) -> list[dict[str, float]]:
    """The same for the peer's policy after every epoch. Its CPU seconds are spread evenly over its epochs."""
    overrides = write_pairs(pairs, out / "data", count=CROPS, size=SIZE, seed=0)
    write_pairs(brighter(pairs), out / "target", count=CROPS, size=SIZE, seed=1)
    for kind in ("images", "masks"):
        for file in sorted((out / "target" / kind).iterdir()):
            file.rename(out / "data" / kind / f"target{file.name}")  # after all digits, so in the second half
    found = peer.search(
        out / "data", out / "search", batch=BATCH, epochs=100_000, seed=0, cpu_seconds=budget,
        overrides=[*overrides, "data.dataloader._target_=halves.Halves"],
        modules=[ROOT / "scripts" / "peer_side" / "halves.py"],
    )  # fmt: skip
    done = subprocess.run(
        [
            str(peer.command.parent / "python"), "-W", "ignore", str(ROOT / "scripts" / "peer_side" / "apply.py"),
            str(found.policy.parent), str(out / "data" / "images"), str(CROPS), str(DRAWS),
        ],
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    curves = {int(epoch): np.array(values) for epoch, values in json.loads(done.stdout).items()}
    steps = 2 * CROPS // BATCH
    return [
        {
            "steps": (epoch + 1) * steps,
            "cpu_s": found.cpu_s * (epoch + 1) / found.epochs,
            "distance": distance(curves[epoch], goal),
        }
        for epoch in sorted(curves)
    ]


def reached(curve: list[dict[str, float]]) -> str:
    """When the curve falls under the quality asked for, in words."""
    for point in curve:
        if point["distance"] <= REACHED:
            return f"{point['cpu_s']:.0f} CPU s ({point['steps']:.0f} steps)"
    best = min(curve, key=lambda point: point["distance"])
    last = curve[-1]
    return f"not within {last['cpu_s']:.0f} CPU s ({last['steps']:.0f} steps); best {best['distance']:.1f}"


def report(facts: dict[str, Any]) -> str:
    """The result file."""
    lines = [
        "# CPU seconds until a planted shift is found",
        "",
        f"{facts['date']}, commit {facts['commit']}, one thread, torch {facts['versions']['torch']}; AutoAlbument "
        f"{facts['peer']['autoalbument']} on torch {facts['peer']['torch']}. Synthetic cells ({facts['data']}).",
        f"Written by `{facts['command']}`; all figures also in `planted_shift.json`.",
        "",
        f"Source + {SHIFT} grey levels, crops of {SIZE} x {SIZE}, {BATCH // 2} source images a step, one seed.",
        "Ours is target mode, full form, every row a search of its own; the peer's rows are epochs of one search.",
        "Distance: Wasserstein, grey levels, between source pixels under the emitted policy and the target's pixels.",
        f"Doing nothing: {facts['nothing']:.1f}. The shift itself: {facts['floor']:.1f} (other crops).",
        "",
        f"| | within {REACHED:.0f} grey levels after |",
        "|---|---|",
        f"| ours | {reached(facts['ours'])} |",
        f"| AutoAlbument | {reached(facts['theirs'])} |",
        "",
        "AutoAlbument has no target. It got one through a loader that puts target images where its critic expects real",
        "ones; nothing of its own code was changed. Its other settings are its defaults.",
    ]
    for name in ("ours", "theirs"):
        lines += ["", f"| {name}: steps | CPU s | distance |", "|---:|---:|---:|"]
        lines += [f"| {p['steps']:.0f} | {p['cpu_s']:.1f} | {p['distance']:.1f} |" for p in facts[name]]
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", required=True, help="folder with the peer's config and environment")
    parser.add_argument("--data", default="demo/A172", help="as for policy-search")
    parser.add_argument("--root", help="LIVECell's folder")
    parser.add_argument("--cpu-seconds", type=int, default=300, help="of the peer")
    parser.add_argument("--out", required=True, help="new folder")
    options = parser.parse_args()
    torch.set_num_threads(1)
    out = Path(options.out)
    try:
        if out.exists():
            raise InputError(f"{out} is there already: name a new folder, or remove it first")
        peer = Peer(Path(options.peer))
        pairs = training_pairs(options.data, Path(options.root) if options.root else None)
        crops = [CropSampler(p).sample(CROPS, SIZE, torch.Generator().manual_seed(s))[0] * 255
                 for s, p in enumerate((pairs, brighter(pairs)))]  # fmt: skip
        images, targets = ([crop[0].round().to(torch.uint8).numpy() for crop in some] for some in crops)
        goal = histogram(targets)
        facts: dict[str, Any] = {
            **environment(threads=1),
            "commit": commit(),
            "command": "python experiments/planted_shift.py --peer FOLDER --out OUT --cpu-seconds "
            + str(options.cpu_seconds),
            "data": options.data,
            "peer": peer.versions(),
            "nothing": distance(histogram(images), goal),
            "floor": distance(histogram([cv2.add(image, SHIFT) for image in images]), goal),
            "ours": ours(pairs, goal, images),
        }
        facts["theirs"] = theirs(peer, pairs, goal, out, options.cpu_seconds)
    except InputError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from error
    write_result("planted_shift", report(facts), facts)


if __name__ == "__main__":
    main()

"""AutoAlbument's policy for our images, at a stated number of CPU seconds: what ours has to be compared with.

    python experiments/peer_search.py --peer FOLDER --data demo/A172 --cpu-seconds 300 --out runs/peer/demo
    python experiments/peer_search.py --peer FOLDER --data A172 --root LIVECELL_FOLDER --cpu-seconds 300 --out ...

FOLDER holds the peer's recipe and its Python 3.8 environment (`scripts/peer.py`). Writes OUT/policy.json, as the peer
emitted it, and OUT/facts.json with the CPU seconds. One thread.

The peer has no target: its critic compares one half of a batch, augmented, with the other half as it is, both from one
data set. What it gets here is the training images alone, as in the study this project implements.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
from peer import Peer, training_pairs, write_pairs
from steps import environment

from policy_search.cells.errors import InputError

CROPS = 32  # an epoch is two steps at a batch of 16: a policy file every 25 CPU seconds
SIZE = 256
MANY = 100_000  # epochs; the budget ends the search


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Write the images, search, keep the policy; the facts."""
    out = Path(options.out)
    peer = Peer(Path(options.peer))
    pairs = training_pairs(options.data, Path(options.root) if options.root else None)
    normalisation = write_pairs(pairs, out / "data", count=CROPS, size=SIZE, seed=options.seed)
    found = peer.search(
        out / "data",
        out / "search",
        batch=options.batch,
        epochs=MANY,
        seed=options.seed,
        cpu_seconds=options.cpu_seconds,
        overrides=normalisation,
    )
    shutil.copyfile(found.policy, out / "policy.json")
    return {
        **environment(threads=1),
        "data": options.data,
        "images": len(pairs),
        "crops": CROPS,
        "size": SIZE,
        "batch": options.batch,
        "seed": options.seed,
        "budget_cpu_s": options.cpu_seconds,
        "cpu_s": round(found.cpu_s, 1),
        "peak_mb": round(found.peak_mb),
        "epochs": found.epochs,
        "steps": found.epochs * (CROPS // options.batch),
        "settings": normalisation,
        "peer": peer.versions(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", required=True, help="folder with the peer's config and environment")
    parser.add_argument("--data", required=True, help="as for policy-search")
    parser.add_argument("--root", default=os.environ.get("LIVECELL_ROOT"), help="LIVECell's folder")
    parser.add_argument("--cpu-seconds", type=int, default=300, help="of the peer's process, its start included")
    parser.add_argument("--batch", type=int, default=16, help="half real, half augmented")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", required=True, help="new folder")
    options = parser.parse_args()
    try:
        if Path(options.out).exists():
            raise InputError(f"{options.out} is there already: name a new folder, or remove it first")
        facts = run(options)
    except InputError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from error
    (Path(options.out) / "facts.json").write_text(json.dumps(facts, indent=1) + "\n")
    print(f"{facts['steps']} steps, {facts['cpu_s']} CPU seconds, {facts['peak_mb']} MB: {options.out}/policy.json")


if __name__ == "__main__":
    main()

"""`make bench-data`: reading an annotation file of LIVECell's size, beside `json` and pycocotools.

    python scripts/bench_data.py [--images N] [--instances N] [--repeats N] [--folder FOLDER] [--record]

Writes a made-up file in LIVECell's form (scripts/livecell_like.py) into a temporary folder, which is removed at the
end, reads it in fresh processes, each with one thread, and prints time and peak memory. The other side needs about
seven times the file's size in memory.
With --record: experiments/results/data_speed.md and .json.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from data_report import report, table
from data_rows import union
from livecell_like import FULL_IMAGES, FULL_INSTANCES, LOOKS, write
from steps import ROOT, commit, environment, write_result

COMMAND = "make bench-data RECORD=1"
# Name in the report, row of data_rows.py, whether it is quick enough to be repeated. In this order: the first read
# makes the copy for those that follow.
PLAN = (
    ("imports", "nothing", False),
    ("first read", "ours", False),
    ("second read", "ours", True),
    ("every annotation", "every", False),
    ("digests", "keys", True),
    ("records of A172", "records", True),
    ("maps of A172", "maps", False),
    ("json", "json", False),
    ("pycocotools", "pycocotools", False),
    ("masks of A172, pycocotools", "masks", False),
)
_NEEDED = 10  # bytes of free memory a byte of the file, for the other side


def measure(row: str, root: Path, cache: Path) -> dict[str, Any]:
    """A row in a fresh process."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "data_rows.py"), row, str(root)],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(cache)},
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"the row {row} failed with exit code {done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def middle(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Of several runs: medians of the times, the highest peak."""
    return {
        **runs[0],
        "runs": len(runs),
        "seconds": statistics.median(run["seconds"] for run in runs),
        "cpu": statistics.median(run["cpu"] for run in runs),
        "peak_mb": max(run["peak_mb"] for run in runs),
    }


def available_bytes() -> int:
    """Memory that processes can still have."""
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) << 10


def gather(images: int, instances: int, repeats: int, folder: Path | None) -> dict[str, Any]:
    """All figures."""
    with tempfile.TemporaryDirectory(prefix="bench-data-", dir=folder) as name:
        root, cache = Path(name) / "livecell", Path(name) / "cache"
        print(f"writing {instances} instances on {images} images", flush=True)
        write(union(root), images, instances)
        size = union(root).stat().st_size
        if available_bytes() < _NEEDED * size:
            raise SystemExit(f"too little free memory for the other side: {_NEEDED * size >> 20} MB wanted")
        facts: dict[str, Any] = {"images": images, "instances": instances, "file_mb": size / 2**20, "rows": {}}
        for title, row, quick in PLAN:
            facts["rows"][title] = middle([measure(row, root, cache) for _ in range(repeats if quick else 1)])
            found = facts["rows"][title]
            print(f"{title}: {found['seconds']:.3f} s, {found['peak_mb']:.0f} MB", flush=True)
        facts["copy_mb"] = sum(path.stat().st_size for path in cache.rglob("*.pack")) / 2**20
    ours, theirs = facts["rows"]["maps of A172"], facts["rows"]["masks of A172, pycocotools"]
    for key in ("images", "cells", "pixels"):
        if ours[key] != theirs[key]:
            raise SystemExit(f"the sides do not agree: {ours[key]} {key} here, {theirs[key]} there")
    return facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=FULL_IMAGES)
    parser.add_argument("--instances", type=int, default=FULL_INSTANCES)
    parser.add_argument("--repeats", type=int, default=5, help="of the rows that take milliseconds")
    parser.add_argument("--folder", type=Path, help="where the temporary folder goes; default: that of temporary files")
    parser.add_argument("--record", action="store_true", help="write experiments/results/data_speed.md and .json")
    options = parser.parse_args()
    if options.images < len(LOOKS) or options.instances < options.images or options.repeats < 1:
        parser.error(f"expected at least {len(LOOKS)} images, no fewer instances, and one repeat or more")
    where = environment(threads=1)
    # Of what is measured; the rest has no part in it.
    where["versions"] = {name: importlib.metadata.version(name) for name in ("numpy", "pycocotools")}
    facts = {**where, "commit": commit(), "command": COMMAND, "loadavg": os.getloadavg()}
    facts |= gather(options.images, options.instances, options.repeats, options.folder)
    print("\n".join(["", *table(facts)]))
    if options.record:
        write_result("data_speed", report(facts), facts)


if __name__ == "__main__":
    main()

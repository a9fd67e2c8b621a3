"""Damaged files at random for a stated time: python scripts/fuzz.py --seconds 600 [--only policies]

The properties are those of tests/fuzz, which `make test` runs on fixed examples. Each kind of file is fuzzed in a
process of its own, so that a crash in native code or a hang is caught too. What failed is shrunk and kept; exit code 1.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

from hypothesis import Phase, seed, settings

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.fuzz.targets import FIXED, TARGETS, run  # noqa: E402

HANG = 60.0  # seconds without a new example
BATCH = 200  # examples from one seed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120, help="for all kinds of files together")
    parser.add_argument("--only", choices=sorted(TARGETS), help="one kind of file")
    parser.add_argument("--seed", type=int, help="of the first batch; default: another one each time")
    parser.add_argument("--out", type=Path, default=Path("runs/fuzz"), help="folder for what failed")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    first = random.SystemRandom().randrange(1 << 30) if args.seed is None else args.seed
    if args.child:
        return _fuzz(args.only, args.seconds, first, args.out)
    names = [args.only] if args.only else list(TARGETS)
    failed = [name for name in names if not _supervise(name, args.seconds / len(names), first, args.out / name)]
    print("failed: " + ", ".join(failed) if failed else "nothing failed")
    return bool(failed)


def _supervise(name: str, seconds: float, first: int, folder: Path) -> bool:
    """Fuzz in another process and watch that it goes on; whether nothing failed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = [sys.executable, __file__, "--child", "--only", name, "--seconds", str(seconds), "--seed", str(first),
               "--out", str(folder)]  # fmt: skip
    with subprocess.Popen(command, cwd=ROOT) as child:
        while child.poll() is None:
            time.sleep(1)
            if _rest(folder) > HANG:
                child.kill()
                print(f"{name}: no new example for {HANG:.0f} s")
    if child.returncode:
        print(f"{name}: exit code {child.returncode}; the file that failed is in {folder}")
    else:
        shutil.rmtree(folder)
    return child.returncode == 0


def _rest(folder: Path) -> float:
    """Seconds since a file was last written there."""
    try:
        return time.time() - max(path.stat().st_mtime for path in folder.iterdir())
    except (FileNotFoundError, ValueError):  # removed while it was looked at; none yet
        return 0.0


def _fuzz(name: str, seconds: float, first: int, folder: Path) -> int:
    began, batches = time.monotonic(), 0
    phases = [Phase.generate, Phase.shrink]
    while time.monotonic() - began < seconds:
        how = settings(FIXED, derandomize=False, max_examples=BATCH, phases=phases)
        run(TARGETS[name], folder, lambda test, how=how, number=first + batches: seed(number)(how(test)))
        batches += 1
    print(f"{name}: {batches * BATCH} files from seed {first} on in {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())

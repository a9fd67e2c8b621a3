"""Screenshots of a study in the dashboard: docs/dashboard_study.png, dashboard_note.png and dashboard_trial.png.

    python scripts/screenshots.py RUN_FOLDER [--out docs] [--trial NUMBER]

Needs Chromium or Chrome on the PATH. The trial shown is the best one that was learnt, unless --trial names another.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from PIL import Image

from policy_search.cells.errors import InputError
from policy_search.cells.files import replacing
from policy_search.study.dashboard import Opened, make_server_for, open_study
from policy_search.study.standing import standing

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDTH = 1280
MAX_BYTES = 250_000
RENDER_MS = 20_000  # virtual time: the page is one program that asks for its data after it has loaded


def main() -> None:
    """Make the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="run folder of policy-search run")
    parser.add_argument("--out", type=Path, default=Path("docs"), help="folder of the pictures")
    parser.add_argument("--trial", type=int, help="number of the trial to show")
    arguments = parser.parse_args()
    try:
        browser = find_browser()
        opened = open_study(arguments.run, None, None)
        number = best_learnt(opened) if arguments.trial is None else arguments.trial
        server = make_server_for(opened, 0)  # any free port
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = opened.url(server.server_port)
        for name, url, height in (
            ("study", page, 1800),
            ("note", f"{page}/note", 1000),
            ("trial", f"{page}/trials?numbers={number}", 1700),
        ):
            target = arguments.out / f"dashboard_{name}.png"
            shoot(browser, url, height, target)
            print(f"wrote {target} ({target.stat().st_size // 1000} kB)")
        server.shutdown()
    except InputError as error:
        sys.exit(f"error: {error}")


def find_browser() -> str:
    """A browser that can be run without a screen.

    Raises:
        InputError: there is none.
    """
    found = next((path for path in map(shutil.which, BROWSERS) if path), None)
    if found is None:
        raise InputError(f"no browser: install one of {', '.join(BROWSERS)}")
    return found


def best_learnt(opened: Opened) -> int:
    """The number of the best trial that is no naive strategy; of the best one where there is none."""
    trials = opened.storage.get_all_trials(opened.study_id)
    directions = tuple(d.name.lower() for d in opened.storage.get_study_directions(opened.study_id))
    stand = standing(trials, [""] * len(directions), directions)
    ranked = stand.ranked(baseline=False) or stand.ranked()
    if not ranked:
        raise InputError("no trial has a score yet: give the run some time, or name one with --trial")
    return ranked[0].number


def shoot(browser: str, url: str, height: int, target: Path) -> None:
    """A screenshot as a small PNG: 256 colours, less where it would still be too large."""
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "page.png"
        subprocess.run(
            [
                browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                f"--user-data-dir={folder}/profile", f"--window-size={WIDTH},{height}",
                f"--virtual-time-budget={RENDER_MS}", f"--screenshot={raw}", url,
            ],
            check=False, capture_output=True, timeout=180,
        )  # fmt: skip
        if not raw.is_file():
            raise InputError(f"{browser} made no picture of {url}")
        picture = Image.open(raw).convert("RGB")
    for colours in (256, 128, 64, 32):
        with replacing(target) as scratch:
            # Outlines are few pixels: the usual method would turn them grey.
            small = picture.quantize(colours, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
            small.save(scratch, "PNG", optimize=True)
        if target.stat().st_size < MAX_BYTES:
            return


if __name__ == "__main__":
    main()

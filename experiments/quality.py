"""Is the policy any good? A probe's AP50 on unseen cell types, ours beside naive, random and AutoAlbument's policies.

    python experiments/quality.py --data demo --peer-policies FOLDER --out runs/quality --record
    python experiments/quality.py --data demo livecell --root LIVECELL_FOLDER --usiigaci FOLDER --out runs/quality

One labelled type trains, labelled train and val images of the other types score; test splits are never read. Every
policy at one seed starts from the same network and sees the same crops for the same number of steps, so differences
are paired. Ours are searched anew for every seed.

Every (data, policy, seed) is a file in OUT/cells, every searched policy one in OUT/policies: the command can be ended
at any time and started again, and does what is missing. It writes OUT/quality.md and OUT/quality.json, and with
--record experiments/results/quality.md and .json.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from quality_data import Culture, load_culture
from quality_policies import FROM_TARGET, ROWS, TARGET, Found, Searches, forget, policy
from quality_report import report
from steps import commit, environment, write_result

from policy_search.cells.errors import InputError
from policy_search.cells.files import write_json
from policy_search.relaxed import SearchDivergedError, SearchSettings
from policy_search.relaxed.sized import without_size
from policy_search.relaxed.target import TargetSettings
from policy_search.relaxed.threads import one_thread
from policy_search.study.objectives_probe import ProbeObjective
from policy_search.study.probe import ProbeError, ProbeSettings

CULTURES = ("demo", "livecell")
# Longer than a study's: a start that is still learning gains more from any further step than from an augmentation.
PROBE = ProbeSettings(base_steps=400, steps=150)


@dataclass(frozen=True)
class Plan:
    """What one worker needs to know; see the options of the command."""

    out: Path
    root: Path | None
    usiigaci: Path | None
    peer: Path | None
    searches: Searches
    rows: tuple[str, ...] = ROWS
    probe: ProbeSettings = PROBE


def run_seed(plan: Plan, name: str, seed: int) -> None:
    """Every row of one culture at one seed that is not done yet."""
    with one_thread():
        culture = _culture(name, plan.root, plan.usiigaci)
        objective = ProbeObjective(culture.study, plan.probe)
        for row in plan.rows:
            run_cell(plan, culture, objective, row, seed)


@lru_cache(maxsize=2)
def _culture(name: str, root: Path | None, usiigaci: Path | None) -> Culture:
    return load_culture(name, root, usiigaci)


def run_cell(plan: Plan, culture: Culture, objective: ProbeObjective, row: str, seed: int) -> None:
    """Find one policy and score it, unless its file says that this has been done.

    What fails is written down; a search that failed is tried again by the next start.
    """
    file = cell_file(plan.out, culture.name, row, seed)
    policies = plan.out / "policies" / culture.name
    # Before a new search touches the policies: the commit is that of the code that runs.
    facts: dict[str, Any] = {"data": culture.name, "policy": row, "seed": seed, "commit": commit()}
    same = {"fingerprint": culture.study.fingerprint, "probe": json.loads(json.dumps(asdict(plan.probe)))}
    try:
        found = policy(row, culture, seed=seed, searches=plan.searches, folder=policies, peer=plan.peer)
        if found is None:
            return
        same["content_hash"] = found.key
        if _done(file, same):
            return
        # The common start belongs to no policy: it is trained outside of the measured time.
        objective.prepare(seed)
        started = time.process_time()
        ap50, matched = scores(objective, found, seed)
        facts |= {
            "search_cpu_s": found.search_cpu_s,
            "probe_cpu_s": round(time.process_time() - started, 2),
            "ap50": ap50,
            "matched": matched,
        }
    except (SearchDivergedError, ProbeError) as error:
        facts["error"] = str(error)
    write_json(file, facts | same)
    mean = "failed" if "error" in facts else f"AP50 {sum(facts['ap50'].values()) / len(facts['ap50']):.3f}"
    print(f"{culture.name}, seed {seed}, {row}: {mean}", flush=True)


def scores(objective: ProbeObjective, found: Found, seed: int) -> tuple[dict[str, float], dict[str, float]]:
    """AP50 and matched instances by unseen type: of one training, or of one a type where each has its own policy."""
    if found.by_type is None:
        score = objective.probe(found.document, seed=seed)
        return dict(score.ap50), dict(score.domains)
    ap50, matched = {}, {}
    for domain in objective.data.domains:
        alone = objective.restricted(domain.name)
        score = alone.probe(found.by_type[domain.name], seed=seed)
        ap50 |= score.ap50
        matched |= score.domains
    return ap50, matched


def cell_file(out: Path, culture: str, row: str, seed: int) -> Path:
    """Where one score is kept."""
    return out / "cells" / culture / f"{row}-{seed}.json"


def _done(file: Path, same: dict[str, Any]) -> bool:
    if not file.is_file():
        return False
    known = json.loads(file.read_text())
    return all(known.get(key) == value for key, value in same.items())


def cells(out: Path, cultures: tuple[str, ...], seeds: range) -> list[dict[str, Any]]:
    """All scores that are there, in the order of the rows."""
    files = [cell_file(out, name, row, seed) for name in cultures for row in ROWS for seed in seeds]
    return [json.loads(file.read_text()) for file in files if file.is_file()]


def remove(out: Path, rows: list[str]) -> None:
    """Forget rows, their searches included, so that changed code is run. What is built from a row goes with it."""
    unknown = sorted(set(rows) - set(ROWS))
    if unknown:
        raise InputError(f"--again {unknown[0]}: expected one of {', '.join(ROWS)}")
    for row in {*rows, *(FROM_TARGET if TARGET in rows else ())}:
        for folder in (out / "policies").glob("*"):
            forget(row, folder)
        for file in (out / "cells").glob(f"*/{row}-*.json"):
            file.unlink()


def _described(plan: Plan, cultures: tuple[str, ...]) -> dict[str, Any]:
    loaded = [_culture(name, plan.root, plan.usiigaci) for name in cultures]
    return {
        culture.name: {
            "source": culture.study.name,
            "synthetic": culture.study.synthetic,
            "train_images": len(culture.study.train),
            "unseen": {d.name: len(d.samples) for d in culture.study.domains},
            "cells": {d.name: sum(len(s.instances) for s in d.samples) for d in culture.study.domains},
            "target_images": {name: len(images) for name, images in culture.targets.items()},
            "left_out": culture.left_out,
        }
        for culture in loaded
    }


def run(options: argparse.Namespace) -> None:
    """All that the options ask for, and the tables."""
    out, cultures, seeds = Path(options.out), tuple(dict.fromkeys(options.data)), range(options.seeds)
    source = SearchSettings() if options.source_steps is None else SearchSettings(steps=options.source_steps)
    target = TargetSettings(operation_names=without_size(()))  # as the command does where it recognises the size
    if options.target_steps is not None:
        target = target.model_copy(update={"steps": options.target_steps})
    plan = Plan(
        out,
        Path(options.root) if options.root else None,
        Path(options.usiigaci) if options.usiigaci else None,
        Path(options.peer_policies) if options.peer_policies else None,
        Searches(source, target, options.budget),
        tuple(row for row in ROWS if not options.only or row in options.only),
    )
    if plan.peer is not None and not plan.peer.is_dir():
        raise InputError(f"--peer-policies {plan.peer}: expected a folder with demo.json or livecell.json in it")
    remove(out, options.again)
    jobs = [] if options.report else [(plan, name, seed) for seed in seeds for name in cultures]
    if options.jobs == 1 or not jobs:
        for job in jobs:
            run_seed(*job)
    else:
        with ProcessPoolExecutor(options.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
            for future in [pool.submit(run_seed, *job) for job in jobs]:
                future.result()
    facts = {
        **environment(threads=1),
        "commit": commit(),
        "command": f"python experiments/quality.py --data {' '.join(cultures)} --seeds {options.seeds} ...",
        "budget_cpu_s": options.budget,
        "source_settings": source.model_dump(mode="json"),
        "target_settings": target.model_dump(mode="json"),
        "probe": asdict(plan.probe),
        "data": _described(plan, cultures),
        "cells": cells(out, cultures, seeds),
    }
    if options.note is not None:
        facts["note"] = options.note.read_text().strip()
    text = report(facts)
    (out / "quality.md").write_text(text)
    write_json(out / "quality.json", facts)
    print(f"wrote {out}/quality.md and .json")
    if options.record:
        write_result("quality", text, facts)


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=CULTURES, default=["demo"])
    parser.add_argument("--root", default=os.environ.get("LIVECELL_ROOT"), help="LIVECell's folder")
    parser.add_argument("--usiigaci", help="a folder in LIVECell's layout: one more unseen domain beside livecell")
    parser.add_argument("--peer-policies", help="folder with demo.json, livecell.json and demo.facts.json, ...")
    parser.add_argument("--seeds", type=int, default=5, help="of probes and of our searches")
    parser.add_argument("--only", nargs="+", choices=ROWS, help="only these policies")
    parser.add_argument(
        "--again", nargs="+", default=[], metavar="POLICY", help="forget these first, searches included"
    )
    parser.add_argument("--budget", type=float, default=300, help="CPU seconds that the searches of a row may take")
    parser.add_argument("--source-steps", type=int, help="of the source-mode search; its default if not given")
    parser.add_argument("--target-steps", type=int, help="for every unseen type; target mode's default if not given")
    parser.add_argument("--jobs", type=int, default=1, help="processes of one thread each")
    parser.add_argument("--out", required=True, help="folder of the journal; a second start goes on in it")
    parser.add_argument("--record", action="store_true", help="write experiments/results/quality.* too")
    parser.add_argument("--note", type=Path, help="a file with remarks for the end of the result")
    parser.add_argument("--report", action="store_true", help="tables of what is there, without running anything")
    options = parser.parse_args(arguments)
    try:
        if options.seeds < 2 or options.jobs < 1:
            raise InputError("expected --seeds of 2 or more (there is no interval over one) and --jobs of 1 or more")
        run(options)
    except InputError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()

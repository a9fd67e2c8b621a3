"""`make bench-study`: what a study costs besides scoring and learning policies, as a share of a trial's time.

    python scripts/bench_study.py [--record]

Two studies of 2,000 trials, on SQLite and on a PostgreSQL server of its own, with stand-ins for the objective and the
inner search that take next to no time; all else is as in `policy-search run`: claims, planning, policies in the
storage, before/after sheets, notes, figures, log, book of scores. Above 200 trials those that are not measured are
copies in the storage (--whole: none are). One real study gives the time of a trial. One thread.
With --record: experiments/results/study_overhead.md and .json.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from postgres_server import NoServerError, Server
from stand_ins import SUB_POLICIES, Learner, Scorer, searched_policies
from steps import commit, environment, write_result
from study_clock import Clock, EnoughError, Journal, Seconds, Timed, server_seconds, timed_learning
from study_fill import fill
from study_report import report, table

from policy_search.cells.errors import InputError
from policy_search.config import RunConfig
from policy_search.study import learning
from policy_search.study.data import StudyData, load_study_data
from policy_search.study.making import Learn
from policy_search.study.objective import Objective
from policy_search.study.objectives import build_objective
from policy_search.study.objectives_probe import ProbeObjective
from policy_search.study.runner import Progress, run_study
from policy_search.study.seeds import probe_seed
from policy_search.study.storage import default_url

SIZES = (10, 50, 200, 500, 1000, 2000)
WHOLE = 200  # trials that are all made; above, those between the measured ones are copies


def measured(
    config: RunConfig, objective: Objective, learn: Learn, most: int, server: Callable[[], float] = lambda: 0.0
) -> Journal:
    """Run a study up to `most` finished trials; what each of them took."""
    clock = Clock()
    journal = Journal(clock, most, server)
    try:
        run_study(config, progress=journal.told, objective=Timed(objective, clock), learn=timed_learning(learn, clock))
    except EnoughError:
        return journal
    raise RuntimeError(f"the study ended after {len(journal.machinery)} trials, before {most}")


def finished(config: RunConfig, objective: Objective, learn: Learn) -> dict[str, Any]:
    """Continue a study that has all its trials to its end: opening it, the second round, the report."""
    clock, started, opened, scored = Clock(), Seconds.now(), [], []

    def told(event: Progress) -> None:
        if event.kind == "final" and event.message:
            opened.extend([] if opened else [Seconds.now() - started])
            scored.append(event)

    run_study(config, progress=told, objective=Timed(objective, clock), learn=timed_learning(learn, clock))
    whole = Seconds.now() - started - clock.total
    return {"until_first_score": asdict(opened[0]), "whole": asdict(whole), "scores": len(scored)}


def window(journal: Journal, size: int, start: int = 0) -> dict[str, Any]:
    """The mean trial among the last of the first `size`: a quarter of them, 5 to 50. The journal begins at `start`."""
    count = max(5, min(50, size // 4))
    end = size - start
    mean = sum(journal.machinery[end - count : end], Seconds()) / count
    served = journal.served[end - 1] - journal.served[end - count - 1]
    return {"trials": size, "mean_of": count, "cpu_s": mean.cpu, "wall_s": mean.wall, "server_cpu_s": served / count}


def mix(folder: Path) -> list[dict[str, Any]]:
    """The trials of a run folder, in order."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def counted(rows: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """How many trials of each family and state."""
    return {key: dict(Counter(row[key] for row in rows)) for key in ("family", "state")}


def overhead(
    url: str | None,
    folder: Path,
    policies: dict[int, Any],
    data: StudyData,
    options: argparse.Namespace,
    server: Callable[[], float] = lambda: 0.0,
) -> dict[str, Any]:
    """A study with stand-ins on one storage."""
    objective, learn = Scorer([domain.name for domain in data.domains]), Learner(policies)
    config = RunConfig(data=options.data, root=options.root, out=folder, storage=url, trials=10**6)
    before, journals = os.getloadavg()[0], []
    sizes = [size for size in SIZES if size <= options.trials]
    run = sizes[-1] if options.whole else min(WHOLE, sizes[-1])
    journals.append((0, measured(config, objective, learn, run, server)))
    found = [window(journals[0][1], size) for size in sizes if size <= run]
    for size in (size for size in sizes if size > run):
        start = size - 51  # the first trial after opening the study, which takes its time, is left out
        fill(url or default_url(folder), config.study_name, start)
        journals.append((start, measured(config, objective, learn, 51, server)))
        found.append(window(journals[-1][1], size, start))
    rows = mix(folder)
    ending = finished(config.model_copy(update={"trials": journals[-1][1].complete}), objective, learn)
    every = [m for _, journal in journals for m in journal.machinery]
    return {
        "windows": found, "copied": len(rows) - len(every), "mix": counted(rows), "ending": ending,
        "load": [before, os.getloadavg()[0]],
        "stand_ins": asdict(sum((w for _, journal in journals for w in journal.work), Seconds())),
        "each": {start: [[round(m.cpu, 5), round(m.wall, 5)] for m in j.machinery] for start, j in journals},
    }  # fmt: skip


def real(folder: Path, data: StudyData, options: argparse.Namespace) -> dict[str, Any]:
    """A real study of the same data by the defaults: what its trials take."""
    config = RunConfig(data=options.data, root=options.root, out=folder, trials=10**6)
    objective = build_objective(config, data)
    assert isinstance(objective, ProbeObjective)
    objective.prepare(probe_seed(config.seed, 0))  # once a study: no part of a trial
    learn = learning.Learner(config.seed, config.recognise_steps, config.target_steps)
    journal = measured(config, objective, learn, options.real)
    rows = mix(folder)
    kinds: dict[str, list[Seconds]] = {}
    for row, work in zip(rows, journal.work, strict=True):
        searched = "with a search" if row["family"] == "searched" else "without a search"
        ended = "given up (Hyperband)" if row["state"] == "pruned" else row["state"]
        kinds.setdefault(f"{searched}, {ended}", []).append(work)
    count = len(journal.work)
    return {
        "trials": count,
        "trial": asdict(sum(journal.work, Seconds()) / count),
        # The first one's contains reading the data and opening the study.
        "machinery": asdict(sum(journal.machinery[1:], Seconds()) / max(1, count - 1)),
        "kinds": {k: {"trials": len(v), **asdict(sum(v, Seconds()) / len(v))} for k, v in sorted(kinds.items())},
        "mix": counted(rows),
    }


@contextmanager
def durable_server(parent: Path) -> Iterator[Server | None]:
    """A PostgreSQL server that waits for the disk; None, and a line, where none can be started."""
    try:
        server = Server(durable=True, parent=parent)
    except NoServerError as error:
        print(f"PostgreSQL is not measured: {error}", file=sys.stderr)
        yield None
        return
    try:
        yield server
    finally:
        server.close()


def filesystem(folder: Path) -> str:
    """The kind of the file system that a folder lies in."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    inside = [(len(place), kind) for place, kind in mounts if folder.resolve().is_relative_to(place)]
    return max(inside)[1]


def gather(options: argparse.Namespace) -> dict[str, Any]:
    """All figures."""
    data = load_study_data(options.data, root=options.root)
    facts: dict[str, Any] = {
        **environment(threads=1), "commit": commit(), "data": options.data, "storages": {}, "loadavg": os.getloadavg()
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="bench-study-", dir=options.folder) as name:
        # A server of another user must be able to get through.
        (parent := Path(name)).chmod(0o755)
        facts["filesystem"] = filesystem(parent)
        print(f"in {facts['filesystem']}; a real study of {options.real} trials", flush=True)
        facts["real"] = real(parent / "real", data, options)
        policies = searched_policies(data, SUB_POLICIES)
        facts["policy_kb"] = {n: round(len(json.dumps(p.to_dict(), indent=2)) / 1000) for n, p in policies.items()}
        print(f"{options.trials} trials on SQLite", flush=True)
        facts["storages"]["SQLite"] = overhead(None, parent / "sqlite", policies, data, options)
        print("\n".join(table(facts)), flush=True)
        with durable_server(parent) as server:
            if server is not None:
                print(f"{options.trials} trials on PostgreSQL", flush=True)
                version = str(server.execute("SHOW server_version")[0][0])
                facts["postgresql"] = version
                first = server.process
                facts["storages"]["PostgreSQL"] = overhead(
                    server.fresh(), parent / "postgres", policies, data, options, lambda: server_seconds(first)
                )
    return facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="demo/A172", help="as for policy-search")
    parser.add_argument("--root", type=Path, help="LIVECell's folder")
    parser.add_argument("--trials", type=int, default=SIZES[-1], help="of the studies with stand-ins, at least 10")
    parser.add_argument("--whole", action="store_true", help="make all trials, none of them a copy: takes an hour")
    parser.add_argument("--real", type=int, default=14, help="trials of the real study")
    parser.add_argument("--folder", type=Path, help="on the disk to be measured; default: that of temporary files")
    parser.add_argument("--record", action="store_true", help="write experiments/results/study_overhead.md and .json")
    options = parser.parse_args()
    if options.trials < SIZES[0] or options.real < 2:
        parser.error(f"--trials: at least {SIZES[0]}; --real: at least 2")
    # Read by the libraries when they are imported, hence by a process of its own.
    if os.environ.get("OMP_NUM_THREADS") != "1":
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        facts = gather(options)
    except InputError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from error
    print("\n".join(["", *table(facts)]))
    if options.record:
        facts["command"] = "python scripts/bench_study.py --record"
        write_result("study_overhead", report(facts, facts["command"]), facts)


if __name__ == "__main__":
    main()

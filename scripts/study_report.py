"""What `bench_study.py` has measured, as a table and as a result file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

AT, TARGET = 200, 2.0  # trials, percent of a trial's time


def shares(window: Mapping[str, Any], trial: Mapping[str, float]) -> tuple[float, float]:
    """Percent of a real trial's CPU time and of its wall time; a server's CPU seconds count as CPU."""
    cpu = 100 * (window["cpu_s"] + window["server_cpu_s"]) / trial["cpu"]
    return cpu, 100 * window["wall_s"] / trial["wall"]


def table(facts: Mapping[str, Any]) -> list[str]:
    """At most 80 columns."""
    trial = facts["real"]["trial"]
    lines = [
        f"a real trial: {trial['cpu']:.1f} CPU s, {trial['wall']:.1f} s on the wall "
        f"(mean of {facts['real']['trials']})",
        "| storage    | trials | CPU ms | server's | wall ms | of CPU | of wall |",
        "|------------|-------:|-------:|---------:|--------:|-------:|--------:|",
    ]
    for name, found in facts["storages"].items():
        for window in found["windows"]:
            cpu, wall = shares(window, trial)
            lines.append(
                f"| {name:10} | {window['trials']:6,} | {1000 * window['cpu_s']:6.0f} "
                f"| {1000 * window['server_cpu_s']:8.0f} | {1000 * window['wall_s']:7.0f} | {cpu:4.1f} % "
                f"| {wall:5.1f} % |"
            )
    return lines


def verdicts(facts: Mapping[str, Any]) -> list[str]:
    """For each storage whether the target is met, and how it grows."""
    lines = []
    for name, found in facts["storages"].items():
        by_size = {window["trials"]: window for window in found["windows"]}
        sizes = sorted(by_size)
        at = by_size.get(AT, by_size[sizes[-1]])
        cpu, wall = shares(at, facts["real"]["trial"])
        least, most = (by_size[n]["cpu_s"] + by_size[n]["server_cpu_s"] for n in (sizes[0], sizes[-1]))
        lines.append(
            f"- {name}, {at['trials']} trials: {cpu:.1f} % of CPU (target {TARGET:.0f} %: "
            f"{'met' if cpu <= TARGET else 'not met'}), {wall:.1f} % of wall time "
            f"({'met' if wall <= TARGET else 'not met'}). From {sizes[0]} to {sizes[-1]:,} trials the CPU time of a "
            f"trial grows {most / least:.1f}-fold."
        )
    return lines


def trial_of_mix(real: Mapping[str, Any], mix: Mapping[str, Mapping[str, int]]) -> float | None:
    """CPU seconds of the mean trial if families and endings are as in `mix`; None where a kind was not measured.

    Families are taken to be given up equally often, as they are where scores are chance.
    """
    total = sum(mix["state"].values())
    searched, stopped = mix["family"].get("searched", 0) / total, mix["state"].get("pruned", 0) / total
    mean = 0.0
    for kind, share in (("with a search", searched), ("without a search", 1 - searched)):
        for ending, part in (("given up (Hyperband)", stopped), ("complete", 1 - stopped)):
            if share * part > 0:
                if f"{kind}, {ending}" not in real["kinds"]:
                    return None
                mean += share * part * real["kinds"][f"{kind}, {ending}"]["cpu"]
    return mean


def other_mix(facts: Mapping[str, Any]) -> list[str]:
    """The shares at `AT` trials if trials are as in the studies with stand-ins, where many are given up."""
    lines = []
    for name, found in facts["storages"].items():
        trial = trial_of_mix(facts["real"], found["mix"])
        window = next((window for window in found["windows"] if window["trials"] == AT), None)
        if trial is not None and window is not None:
            share = 100 * (window["cpu_s"] + window["server_cpu_s"]) / trial
            lines.append(
                f"- Were the kinds of trials mixed as in the study with stand-ins (see the end), a real one would take "
                f"{trial:.1f} CPU s on average, and {name} {share:.1f} % of it at {AT} trials."
            )
    return lines


def counts(mix: Mapping[str, Mapping[str, int]]) -> str:
    """Families and states of trials in words."""
    return "; ".join(", ".join(f"{count} {name}" for name, count in part.items()) for part in mix.values())


def report(facts: Mapping[str, Any], command: str) -> str:
    """The result file."""
    real, storages = facts["real"], facts["storages"]
    machinery = real["machinery"]
    sizes = ", ".join(f"{kb} kB ({count})" for count, kb in facts["policy_kb"].items())
    loads = "; ".join(f"{name} {found['load'][0]:.1f} to {found['load'][1]:.1f}" for name, found in storages.items())
    synthetic = " (synthetic cells)" if facts["data"].startswith("demo/") else ""
    server = f"PostgreSQL {facts['postgresql']}" if "postgresql" in facts else "no PostgreSQL server"
    lines = [
        "# What a study costs besides its policies",
        "",
        f"{facts['date']}, commit {facts['commit']}, one thread, optuna {facts['versions']['optuna']}, torch "
        f"{facts['versions']['torch']}, {facts['machine']} with {facts['cores']} cores, {server}.",
        f"Data: {facts['data']}{synthetic}. Databases and pictures lie on {facts['filesystem']}.",
        f"Written by `{command}`; all figures, those of every single trial too, in `study_overhead.json`.",
        "",
        "The machinery of a study is all but scoring policies and searching them: claims, planning, policies in the",
        "storage, before/after sheets, notes, figures, log, book of scores. It is measured in studies whose objective",
        "and inner search take next to no time and return what real ones do: policies of real searches, of",
        f"{sizes} as files (sub-policies), each changed a little, curves of losses, scores by domain and two",
        "reports on the way. One process, default configuration; the server waits for the disk.",
        *(
            [
                "Above 200 trials only the measured ones are made; those before them are copies, written straight into",
                "the storage with all that it holds of a trial, which the run takes up when it is continued.",
            ]
            if any(found["copied"] for found in storages.values())
            else []
        ),
        "",
        "## A real trial",
        "",
        "| | trials | CPU s | wall s |",
        "|---|---:|---:|---:|",
        *(f"| {name} | {k['trials']} | {k['cpu']:.2f} | {k['wall']:.2f} |" for name, k in real["kinds"].items()),
        f"| **all** | {real['trials']} | **{real['trial']['cpu']:.2f}** | **{real['trial']['wall']:.2f}** |",
        "",
        f"The first {real['trials']} trials of a real study on SQLite ({counts(real['mix'])}), without the common",
        "start of all probes, which is trained once. Shares below are of the mean. Naive strategies, which come first,",
        "are neither searched nor given up: later trials take longer or shorter. The machinery of this very study took "
        f"{1000 * machinery['cpu']:.0f} CPU ms",
        f"a trial, {100 * machinery['cpu'] / real['trial']['cpu']:.1f} %.",
        "",
        "## The machinery",
        "",
        *table(facts)[1:],
        "",
        "A row is the mean of a quarter of the trials up to that number, 5 to 50 of them. *Server's*: CPU time of all",
        "processes of the database server, on the same machine here, counted in *of CPU*.",
        "",
        *verdicts(facts),
        *other_mix(facts),
        "",
        f"**Load.** Other programs ran on the machine (load a minute, at start and end: {loads}), so that time on the",
        "wall is mostly waiting: for a core and for the disk, once for every transaction. CPU time is the figure to go",
        "by; wall time is an upper bound. Both sides of *of wall* were taken under such load.",
        "",
        "## The mix and the end",
        "",
    ]
    for name, found in storages.items():
        ending = found["ending"]
        lines += [
            f"- {name}: {counts(found['mix'])}. Opening the study again with all its trials took "
            f"{ending['until_first_score']['cpu']:.1f} CPU s up to the first score of the second round, with its "
            f"{ending['scores']} scores and the report {ending['whole']['cpu']:.1f} CPU s."
        ]
    return "\n".join([*lines, ""])

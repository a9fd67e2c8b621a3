"""The tables of experiments/quality.py: means over seeds, paired differences to doing nothing and to the best naive."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from policy_search.augment import BASELINES
from policy_search.study.verdict import paired_interval

NONE = "none"
NAIVE = tuple(name for name in BASELINES if name != NONE)
_PEER = "autoalbument_"

Scores = dict[str, dict[int, dict[str, float]]]  # policy → seed → unseen type → score


def table(cells: Iterable[dict[str, Any]], metric: str) -> Scores:
    """Scores of one culture, "ap50" or "matched"; what failed is left out."""
    found: Scores = {}
    for cell in cells:
        if metric in cell:
            found.setdefault(cell["policy"], {})[cell["seed"]] = cell[metric]
    return found


def over_types(scores: dict[int, dict[str, float]]) -> dict[int, float]:
    """Seed → mean over the unseen types, each weighing the same."""
    return {seed: float(np.mean(list(by_type.values()))) for seed, by_type in scores.items()}


def best_naive(scores: Scores) -> str | None:
    """The naive strategy with the highest mean over types and seeds; doing nothing is not one."""
    means = {name: np.mean(list(over_types(scores[name]).values())) for name in NAIVE if name in scores}
    return max(means, key=lambda name: means[name]) if means else None


def difference(first: dict[int, float], second: dict[int, float]) -> tuple[float, float, float] | None:
    """Mean of the paired differences over the seeds that both have, and its 95 % t interval; None under two seeds."""
    seeds = sorted(set(first) & set(second))
    return paired_interval([first[seed] - second[seed] for seed in seeds]) if len(seeds) > 1 else None


def report(facts: dict[str, Any]) -> str:
    """The result file: a head, and for every culture a table of policies and one of unseen types."""
    lines = [
        "# Quality beside speed: AP50 on unseen cell types",
        "",
        f"{facts['date']}, one thread, torch {facts['versions']['torch']}. Commits of the runs: "
        f"{', '.join(sorted({c['commit'] for c in facts['cells'] if 'commit' in c})) or facts['commit']}.",
        f"Written by `{facts['command']}`; all figures also in `quality.json`.",
        "",
        "One labelled cell type trains a small network, labelled train and val images of other types score it; test",
        f"splits are not read. {facts['probe']['base_steps']} steps on untouched images, the same start for every "
        f"policy of a seed, then {facts['probe']['steps']}",
        "under the policy. AP50 as COCO defines it (IoU 0.5, 101 recalls, no limit on detections), instances ranked by",
        "the network's deepest depth; *matched* is TP/(TP+FP+FN) at IoU over 0.5, by which the study chooses.",
        "Differences are paired over seeds; intervals are t intervals at 95 %, over seeds and not over images, without",
        "correction for the number of comparisons. The best naive strategy is picked on these same seeds: this favours",
        "it.",
        "",
        "*ours_target* is one policy for all unseen types (one of as many searched ones, at random) and one training,",
        "like every other row. *ours_target_each* is what the command is for, one target at a time: a policy and a",
        "training for each type, scored on that type alone; its probe seconds are those of all these trainings.",
        "",
        "Target mode first recognises the size of a type's cells (by networks of the source, in its search seconds),",
        "then matches the rest: flips, scaling, and for half of the images what was matched. *ours_size_each* leaves",
        "out what was matched: the difference to *ours_target_each* is what the gradient search adds.",
        "",
        "Ours are searched anew for every seed; AutoAlbument's policy is one search. In target mode the images of the",
        "unseen types that are searched on, without labels, include the train images that are scored on. Search: CPU",
        f"seconds of all searches of a row, at most {facts['budget_cpu_s']:.0f}; probe: CPU seconds of a policy's "
        "training and scoring.",
        "",
    ]
    for name, data in facts["data"].items():
        lines += _culture(name, data, [c for c in facts["cells"] if c["data"] == name])
    if facts.get("note"):
        lines += [facts["note"], ""]
    return "\n".join(lines)


def _culture(name: str, data: dict[str, Any], cells: list[dict[str, Any]]) -> list[str]:
    kind = "synthetic cells" if data["synthetic"] else "real cells"
    unseen = ", ".join(
        f"{t} ({count} images, {data['cells'][t]} cells, {data['target_images'][t]} unlabelled)"
        for t, count in data["unseen"].items()
    )
    lines = [
        f"## {data['source']}: {kind}",
        "",
        f"Source: {data['train_images']} training image(s). Unseen: {unseen}.",
        *([f"Without a labelled train or val image: {', '.join(data['left_out'])}."] if data["left_out"] else []),
        "",
    ]
    scores, matched = table(cells, "ap50"), table(cells, "matched")
    if not scores:
        return [*lines, "Nothing has been scored yet.", ""]
    best = best_naive(scores)
    lines += [
        f"Best naive strategy: {best or 'none was run'}.",
        "",
        "| policy | seeds | AP50 | against none | against best naive | matched | search CPU s | probe CPU s |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    references = [over_types(scores[key]) if key in scores else {} for key in (NONE, best)]
    for row, by_seed in scores.items():
        own = over_types(by_seed)
        differences = [
            "–" if row == key else _interval(difference(own, reference))
            for key, reference in zip((NONE, best), references, strict=True)
        ]
        mine = [cell for cell in cells if cell["policy"] == row and "ap50" in cell]
        lines.append(
            f"| {row} | {len(own)} | {_mean(own.values()):.3f} | {differences[0]} | {differences[1]} "
            f"| {_mean(over_types(matched[row]).values()):.3f} | {_seconds(c['search_cpu_s'] for c in mine)} "
            f"| {_seconds(c['probe_cpu_s'] for c in mine)} |"
        )
    if not any(row.startswith(_PEER) for row in scores):
        lines.append("| AutoAlbument | not run | | | | | | |")
    failed = [cell for cell in cells if "error" in cell]
    lines += ["", *(f"Failed: {c['policy']}, seed {c['seed']}: {c['error']}" for c in failed)]
    return [*lines, "", *_by_type(name, data, scores, best), ""]


def _by_type(name: str, data: dict[str, Any], scores: Scores, best: str | None) -> list[str]:
    types = list(data["unseen"])
    lines = [
        f"AP50 by unseen type ({name}{', synthetic' if data['synthetic'] else ''}); * the interval of the difference "
        "to none excludes 0.",
        "",
        f"| policy | {' | '.join(types)} |",
        f"|---|{'---:|' * len(types)}",
    ]
    for row, by_seed in scores.items():
        values = []
        for unseen in types:
            own = {seed: by_type[unseen] for seed, by_type in by_seed.items()}
            none = {seed: by_type[unseen] for seed, by_type in scores.get(NONE, {}).items()}
            change = difference(own, none) if row != NONE else None
            mark = "*" if change is not None and (change[1] > 0 or change[2] < 0) else ""
            values.append(f"{_mean(own.values()):.3f}{mark}")
        lines.append(f"| {row}{' (best naive)' if row == best else ''} | {' | '.join(values)} |")
    return lines


def _interval(found: tuple[float, float, float] | None) -> str:
    return "–" if found is None else f"{found[0]:+.3f} [{found[1]:+.3f}, {found[2]:+.3f}]"


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _seconds(values: Iterable[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{_mean(known):.1f}" if known else "not recorded"

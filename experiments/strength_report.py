"""The tables and the picture of experiments/strength.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

OFF = "off"
GROUPS = ("pose", "shape", "tone", "texture", "occlusion")
VISIBLE = ("brightness", "contrast", "gamma", "illumination")
MIDDLE = "1.5"  # the distance that is shown operation by operation: the default
# A degradation: acts on nearly every image, always with nearly the same effect.
OFTEN, CONSTANT = 0.75, 0.75
GONE = 0.25  # of the strength before learning, below which an operation has collapsed

Runs = list[dict[str, Any]]


def kept(facts: dict[str, Any], runs: Runs, name: str) -> list[float]:
    """What each run leaves of an operation's strength, of what it was before learning."""
    start = facts["before"][name]["strength"]
    return [run["operations"][name]["strength"] / start for run in runs]


def chance(runs: Runs, names: list[str]) -> float:
    """That one of these operations acts, mean over runs."""
    return float(np.mean([sum(run["operations"][name]["chance"] for name in names) for run in runs]))


def worst(runs: Runs) -> str:
    """The operation nearest to a constant degradation, by chance times constancy."""
    name, e = max(
        (item for run in runs for item in run["operations"].items()),
        key=lambda item: item[1]["chance"] * item[1]["constancy"],
    )
    return f"{name} {e['chance']:.2f} x {e['constancy']:.2f}"


def constant(run: dict[str, Any]) -> list[str]:
    """Operations that have become constant degradations."""
    effects = run["operations"].items()
    return [name for name, e in effects if e["chance"] > OFTEN and e["constancy"] > CONSTANT]


def gone(facts: dict[str, Any], runs: Runs) -> dict[str, int]:
    """Operations that carry their group and have collapsed, and in how many of these runs."""
    counts = {name: sum(value < GONE for value in kept(facts, runs, name)) for name in facts["carriers"]}
    return {name: count for name, count in counts.items() if count}


def distances_table(facts: dict[str, Any], runs: Runs) -> list[str]:
    """One row a distance, and one for the policy before learning."""
    others = [name for name in facts["before"] if name not in facts["carriers"]]
    lines = [
        "| distance asked | reached | spread | " + " | ".join(GROUPS) + " | weakest operation | abrupt | nearest to "
        "constant: chance x constancy |",
        "|---|---:|---:|" + "---:|" * len(GROUPS) + "---|---:|---|",
    ]

    def row(name: str, reached: str, measured: Runs) -> None:
        strengths = [np.mean([m["strengths"][g] for m in measured]) for g in GROUPS]
        least, weakest = min((min(kept(facts, measured, n)), n) for n in facts["carriers"])
        cells = [name, reached, f"{np.mean([m['spread'] for m in measured]):.2f}", *(f"{s:.2f}" for s in strengths)]
        cells += [f"{weakest} {least:.2f}", f"{chance(measured, others):.2f}", worst(measured)]
        lines.append(f"| {' | '.join(cells)} |")

    asked = [run["asked"] for run in runs]
    first = [run for run in runs if run["asked"] == asked[0]]
    row("(before learning)", "", [run["start"] for run in first])
    for distance in dict.fromkeys(asked):
        own = [run for run in runs if run["asked"] == distance]
        name = "**constraint off**" if distance == OFF else distance
        row(name, " / ".join(f"{run['reached']:.2f}" for run in own), own)
    return lines


def operations_table(facts: dict[str, Any], runs: Runs) -> list[str]:
    """What is left of every operation, with the constraint and without."""
    off, on = ([run for run in runs if (run["asked"] == OFF) == without] for without in (True, False))
    middle = [run for run in on if run["asked"] == MIDDLE]

    def cell(own: Runs, name: str) -> str:
        return " / ".join(f"{value:.2f}" for value in kept(facts, own, name))

    lines = [
        f"| operation | chance before | constraint off: chance | strength left | distance {MIDDLE}: chance | strength "
        "left | least at any distance |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, effect in facts["before"].items():
        chances = [effect["chance"], *(chance(own, [name]) for own in (off, middle))]
        first, second, third = (f"{value:.3f}" for value in chances)
        if name in facts["carriers"]:
            left = [cell(off, name), cell(middle, name), f"{min(kept(facts, on, name)):.2f}"]
        else:
            left = ["(no floor)", "", ""]
        bold = f"**{name}**" if name in VISIBLE else name
        lines.append(f"| {bold} | {first} | {second} | {left[0]} | {third} | {left[1]} | {left[2]} |")
    return lines


def chart(facts: dict[str, Any], path: Path) -> None:
    """A row per data set: spread and group strengths against distance, and what is left of each operation."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(dict.fromkeys(run["data"] for run in facts["runs"]))
    figure, axes = pyplot.subplots(
        len(names), 3, figsize=(13, 4.9 * len(names)), squeeze=False, gridspec_kw={"width_ratios": [1, 1, 1.25]}
    )
    for row, name in zip(axes, names, strict=True):
        runs = [run for run in facts["runs"] if run["data"] == name]
        off, on = ([run for run in runs if (run["asked"] == OFF) == without] for without in (True, False))
        asked = [[run for run in on if run["asked"] == distance] for distance in dict.fromkeys(r["asked"] for r in on)]
        asked.sort(key=lambda own: float(np.mean([run["reached"] for run in own])))
        left, middle, right = row
        for mark, own, label in (("oC0", on, "with the constraint, both seeds"), ("xC3", off, "constraint off")):
            left.plot([r["reached"] for r in own], [r["spread"] for r in own], mark, markersize=5, label=label)
        means = [np.mean([(r["reached"], r["spread"]) for r in own], axis=0) for own in asked]
        left.plot(*zip(*means, strict=True), "-C0", linewidth=0.8)
        left.set(title=f"{name}: difference of two draws", ylabel="spread", ylim=(0, None))
        for number, group in enumerate(GROUPS):
            means = [np.mean([(r["reached"], r["strengths"][group]) for r in own], axis=0) for own in asked]
            middle.plot(*zip(*means, strict=True), "o-", color=f"C{number}", markersize=3, linewidth=0.9, label=group)
        middle.axhline(facts["floors"]["group"], color="grey", linestyle=":", label="floor")
        middle.set(title="strength of each group, mean of the seeds", ylabel="1: before learning", ylim=(0, None))
        for axis in (left, middle):
            axis.set_xscale("log")
            axis.set_xticks([0.3, 1, 3, 10], ["0.3", "1", "3", "10"])
            axis.set_xlabel("critic distance reached")
        _dots(right, facts, off, [run for run in on if run["asked"] == MIDDLE])
        for axis, columns in ((left, 1), (middle, 3), (right, 3)):
            axis.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=columns, frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=90, metadata={"Software": None})
    pyplot.close(figure)


def _dots(axis: Any, facts: dict[str, Any], off: Runs, on: Runs) -> None:
    """What is left of each operation: both seeds, with the constraint and without; outliers at the frame."""
    names = facts["carriers"][::-1]
    for runs, mark, label in ((on, "oC0", f"distance {MIDDLE}"), (off, "xC3", "constraint off")):
        places = [(min(max(value, -0.5), 2.5), row) for row, n in enumerate(names) for value in kept(facts, runs, n)]
        axis.plot([x for x, _ in places], [y for _, y in places], mark, markersize=5, label=label)
    axis.axvline(facts["floors"]["operation"], color="grey", linestyle=":", label="floor")
    axis.axvline(0, color="grey", linewidth=0.6)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.set(title="strength of each operation", xlim=(-0.6, 2.6))
    axis.set_xlabel("1: before learning; below 0: one-sided (down to -0.5)")


def report(facts: dict[str, Any]) -> str:
    """The result file."""
    runs, s, floors = facts["runs"], facts["settings"], facts["floors"]
    off, on = ([run for run in runs if (run["asked"] == OFF) == without] for without in (True, False))
    degraded = [f"{r['data']}, {r['asked']}, seed {r['seed']}: {', '.join(constant(r))}" for r in runs if constant(r)]
    collapsed = ", ".join(f"{name} ({count})" for name, count in gone(facts, off).items()) or "none"
    seeds = ", ".join(str(seed) for seed in dict.fromkeys(run["seed"] for run in runs))
    lines = [
        "# Source mode: strength against critic distance",
        "",
        f"{facts['date']}, one thread, torch {facts['versions']['torch']}, {sum(r['cpu_s'] for r in runs) / 60:.0f}",
        f"CPU minutes in all. {s['warmup']} + {s['steps']} steps, crops of {s['crop']} x {s['crop']}, seeds {seeds},",
        "otherwise the defaults. All figures also in `strength.json`. Written by",
        "",
        "```",
        "python experiments/strength.py --root LIVECELL_FOLDER",
        "```",
        "",
        "*reached*: by the search's own critic, mean of the last quarter of the steps, one figure a seed. *spread*:",
        "between two draws of one image under the policy found, in the frozen feature space (another one for each",
        "seed). *Strength* of an operation: its chance times how far its magnitude varies, to both sides of the",
        "identity (`relaxed/strengths.py`), of what it is before learning; of a group: the mean of its operations that",
        f"carry it. Floors: {floors['group']} for groups, {floors['operation']} for these operations. *abrupt*: chance",
        f"of the others (solarize, posterize, invert, equalize, autocontrast, tone_curve), at most {floors['abrupt']}.",
        "*Constraint off*: the same search and settings, but the policy only lowers the distance: no spread, no",
        "floors, no bound on the abrupt ones.",
        "",
        f"Collapsed (less than {GONE} of the strength is left, or all magnitudes lie on one side), of {len(off)} "
        f"searches with the constraint off: {collapsed}. Of {len(on)} with it: "
        f"{', '.join(gone(facts, on)) or 'none'}.",
        "",
        "Spread alone does not show the collapse: with the constraint off, a lasting low contrast and shifts to one",
        "side keep it up. Where more distance was reached than asked at the small end, the floors cost it: they win.",
        "",
        f"A constant degradation acts with a chance above {OFTEN} and does the same each time (constancy above",
        f"{CONSTANT}: the share of the mean square displacement that all images have in common).",
        f"Found: {'; '.join(degraded) if degraded else 'none'}.",
        "",
        "![Spread, group strengths and operations](strength.png)",
    ]
    for data in dict.fromkeys(run["data"] for run in runs):
        own = [run for run in runs if run["data"] == data]
        kind = "synthetic" if data.startswith("demo/") else "real LIVECell, a small subset"
        lines += ["", f"## {data} ({kind})", "", *distances_table(facts, own), ""]
        lines += ["Operation by operation (both seeds; the visible ones in bold):", "", *operations_table(facts, own)]
    return "\n".join([*lines, ""])

"""What `bench_detection.py` says: a line a row in the terminal, and the result file."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

# What each row asks for (section 8 of the design).
TARGETS = {"policy": 80, "evaluation": 15, "iteration": 2, "cache": 1.35}


def middle(values: Sequence[float]) -> float:
    return statistics.median(values)


def ratio(row: str, found: Mapping[str, Any]) -> float:
    """How many times faster ours is, of medians of wall seconds."""
    seconds = found[row]["seconds"]
    slow, fast = ("without", "with") if row == "cache" else ("theirs", "ours")
    if row == "policy":  # the faster of the two ways to pass masks
        slow = min(("theirs", "theirs, list"), key=lambda way: middle(seconds[way]))
    return middle(seconds[slow]) / middle(seconds[fast])


def verdict(row: str, found: Mapping[str, Any]) -> str:
    """The ratio, its target and whether it is met."""
    value = ratio(row, found)
    return (
        f"{value:.{0 if value > 20 else 2}f}× (target {TARGETS[row]}×: {'met' if value >= TARGETS[row] else 'MISSED'})"
    )


def summary(row: str, found: Mapping[str, Any]) -> str:
    """One line for the terminal."""
    if row in TARGETS:
        return f"{row:<11} {verdict(row, found)}"
    if row == "tiny":
        took = middle(found["tiny"]["seconds"]["ours"])
        return f"{row:<11} {took:.3f} s an iteration (target 0.25: {'met' if took <= 0.25 else 'MISSED'})"
    if row == "memory":
        facts = found["memory"]
        peaks = [facts[side]["peak_mb"] for side in ("plain", "ours")]
        return f"{row:<11} {peaks[0]} → {peaks[1]} MB, {facts['ratio']}× less (target 2×)"
    gains = differences(found)
    return f"{row:<11} mean AP50, ours - detectron2's loop: {', '.join(f'{gain:+.3f}' for gain in gains)}"


def seeds_of(found: Mapping[str, Any]) -> list[str]:
    """The seeds of the trainings that compare AP50."""
    return sorted(name.removeprefix("quality_ours_") for name in found if name.startswith("quality_ours_"))


def differences(found: Mapping[str, Any], side: str = "ours") -> list[float]:
    """Mean AP50 over types of a side minus that of detectron2's loop, for each seed."""
    return [mean_ap50(found[f"quality_{side}_{s}"]) - mean_ap50(found[f"quality_theirs_{s}"]) for s in seeds_of(found)]


def mean_ap50(cell: Mapping[str, Any]) -> float:
    """Over the cell types that have a score."""
    return statistics.fmean(value for value in cell["ap50"].values() if value is not None)


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median and range."""
    return f"{middle(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def report(facts: Mapping[str, Any], *, synthetic: bool) -> str:
    """The result file."""
    rows = facts["rows"]
    cells = "synthetic cells (demo culture)" if synthetic else "LIVECell images"
    lines = [
        "# What detection costs",
        "",
        f"{facts['date']}, commit {facts['commit']}, {facts['threads']} threads, torch {facts['versions']['torch']}, "
        f"{facts['machine']} with {facts['cores']} cores. Written by `{facts['command']}`; all figures also in",
        "`detection_speed.json`, with the commit and the load of the machine at each row.",
        "",
        f"Wall seconds, median (range). Both sides of a row in turn, in one process. Training images: {cells}.",
    ]
    sections = {
        "policy": _policy, "evaluation": _evaluation, "iteration": _iteration, "cache": _cache, "tiny": _tiny,
        "memory": _memory,
    }  # fmt: skip
    for row, section in sections.items():
        if row in rows:
            lines += ["", *section(rows)]
    if any(name.startswith("quality") for name in rows):
        lines += ["", *_quality(rows, cells)]
    return "\n".join([*lines, ""])


def _policy(rows: Mapping[str, Any]) -> list[str]:
    row = rows["policy"]
    return [
        f"## A policy on an image with {row['cells']} instances: {verdict('policy', rows)}",
        "",
        "Rotation and scale, mirror, brightness and contrast on 520 × 704; synthetic discs; one thread, as in a worker",
        "of a data loader. The ratio is that to the faster way of passing masks.",
        "",
        "| | s |",
        "|---|---:|",
        f"| `Compose` over a list of {row['cells']} masks | {spread(row['seconds']['theirs, list'], 3)} |",
        f"| `Compose` over a block of {row['cells']} masks | {spread(row['seconds']['theirs'], 3)} |",
        f"| the same on {row['layers']} label layers | {spread(row['seconds']['ours'], 4)} |",
        "",
        f"Masks that differ between the two, over {len(row['seconds']['ours'])} draws: {row['differing_masks']}.",
    ]


def _evaluation(rows: Mapping[str, Any]) -> list[str]:
    row = rows["evaluation"]
    return [
        f"## Evaluation of {row['masks']:,} masks: {verdict('evaluation', rows)}",
        "",
        f"pycocotools {spread(row['seconds']['theirs'], 1)} s, `detection.scores` (faster-coco-eval) "
        f"{spread(row['seconds']['ours'], 1)} s. maxDets 100, 500, 2000 and LIVECell's areas in both.",
        f"Largest difference in the raw precision and recall arrays: {row['difference']:.1e}.",
    ]


def _iteration(rows: Mapping[str, Any]) -> list[str]:
    row = rows["iteration"]
    peaks = {side: rows[f"iteration_{side}"]["peak_mb"] for side in ("theirs", "ours") if f"iteration_{side}" in rows}
    listing = {"theirs": "detectron2's `SimpleTrainer`, fp32", "ours": f"`detect`'s loop, {row['precision']}"}
    return [
        f"## A fine-tune iteration, same network, data and proposals: {verdict('iteration', rows)}",
        "",
        f"`r50` (ResNet-50, LIVECell's heads: 512 regions, 3,000 proposals an image), batch 2 of {_shape(row)}, "
        f"{' and '.join(map(str, row['cells']))} cells, nothing frozen.",
        "",
        "| | s | CPU s | peak memory, MB |",
        "|---|---:|---:|---:|",
        *(
            f"| {text} | {spread(row['seconds'][side], 1)} | {spread(row['cpu'][side], 1)} | {peaks.get(side, 0):.0f} |"
            for side, text in listing.items()
        ),
    ]


def _cache(rows: Mapping[str, Any]) -> list[str]:
    row = rows["cache"]
    return [
        f"## `livecell` with a frozen backbone and its features on disk: {verdict('cache', rows)}",
        "",
        f"ResNeSt-200 with deformable convolutions, batch 2 of {_shape(row)}, "
        f"{' and '.join(map(str, row['cells']))} cells, {row['precision']}; features take {row['mb_an_image']:.0f} MB "
        "an image.",
        "",
        "| | s | CPU s |",
        "|---|---:|---:|",
        f"| no cache | {spread(row['seconds']['without'], 1)} | {spread(row['cpu']['without'], 1)} |",
        f"| features found | {spread(row['seconds']['with'], 1)} | {spread(row['cpu']['with'], 1)} |",
        f"| features made and written | {spread(row['seconds']['filling'], 1)} | {spread(row['cpu']['filling'], 1)} |",
        "",
        "All images of that iteration were seen before at their size. In 15 epochs an image is visited 15 times,",
        "each time at one of LIVECell's six sizes; 5.6 visits meet a new size on average, 63 % find their features.",
    ]


def _tiny(rows: Mapping[str, Any]) -> list[str]:
    row = rows["tiny"]
    took = middle(row["seconds"]["ours"])
    return [
        f"## `tiny`, batch 2 of 256 × 256: {took:.3f} s (target 0.25 s: {'met' if took <= 0.25 else 'MISSED'})",
        "",
        "| | s | CPU s |",
        "|---|---:|---:|",
        *(
            f"| {name.replace('ours', 'ours, ' + row['precision']) if name == 'ours' else name} "
            f"| {spread(seconds, 3)} | {spread(row['cpu'][name], 3)} |"
            for name, seconds in row["seconds"].items()
        ),
    ]


def _memory(rows: Mapping[str, Any]) -> list[str]:
    row = rows["memory"]
    return [
        f"## {row['ours']['detections']:,} detections in one image: {row['ratio']}× less memory (target 2×)",
        "",
        "The heads of the published model on a small backbone, random weights, 520 × 704, one thread, a process each.",
        "",
        "| | peak memory, MB | before inference, MB | s |",
        "|---|---:|---:|---:|",
        *(
            f"| {text} | {row[side]['peak_mb']} | {row[side]['peak_before_mb']} | {row[side]['seconds']} |"
            for side, text in (("plain", "detectron2"), ("ours", "ours"))
        ),
        "",
        f"Largest difference of a box {row['largest_box_difference_px']:.1e} px, of a score "
        f"{row['largest_score_difference']:.1e}; {row['mask_pixels_that_differ']} of {row['mask_pixels']:,} mask "
        "pixels differ.",
    ]


def _quality(rows: Mapping[str, Any], cells: str) -> list[str]:
    seeds = seeds_of(rows)
    first = rows[f"quality_ours_{seeds[0]}"]
    types = [name for name, value in first["ap50"].items() if value is not None]
    lines = [
        "## What comes out of the two loops",
        "",
        f"`tiny` from fresh weights, {first['request']['iterations']} iterations on {cells}, flips only, same seeds; "
        "AP50 on the test images.",
        "",
        "| seed | loop | " + " | ".join(types) + " | mean | CPU s |",
        "|---|---|" + "---:|" * (len(types) + 2),
    ]
    for seed in seeds:
        for side, text in (
            ("theirs", "detectron2's, fp32"),
            ("fp32", "ours, fp32"),
            ("ours", "ours, 16 bits where the CPU has them"),
        ):
            cell = rows[f"quality_{side}_{seed}"]
            values = " | ".join(f"{cell['ap50'][name]:.3f}" for name in types)
            lines.append(f"| {seed} | {text} | {values} | {mean_ap50(cell):.3f} | {cell['cpu']:.0f} |")
    for side, text in (("ours", "Ours"), ("fp32", "Ours in fp32")):
        gains = differences(rows, side)
        lines += [
            "",
            f"{text} minus detectron2's, mean over types: {', '.join(f'{gain:+.3f}' for gain in gains)}; on average "
            f"{statistics.fmean(gains):+.3f}, standard error {statistics.stdev(gains) / len(gains) ** 0.5:.3f}.",
        ]
    return lines


def _shape(row: Mapping[str, Any]) -> str:
    return f"{row['shape'][1]} × {row['shape'][2]}"

"""The report of `bench_data.py`: a table of times and memory, and whether the targets are met."""

from __future__ import annotations

from typing import Any

FASTER, PEAK_MB = 50, 400  # targets of the second read: times faster than pycocotools, memory
# Row, what it is, the row it is compared with.
_LINES = (
    ("json", "`json.load`", None),
    ("pycocotools", "`pycocotools.coco.COCO`", None),
    ("first read", "first read: parses the file, writes the copy", "pycocotools"),
    ("second read", "second read: opens the copy", "pycocotools"),
    ("every annotation", "second read, and every annotation as Python objects, image by image", "pycocotools"),
    ("digests", "second read, and the digest of every image's annotations", None),
    ("records of A172", "second read, the records of A172 alone", "pycocotools"),
    ("masks of A172, pycocotools", "`COCO`, and a mask for every cell of A172", None),
    ("maps of A172", "second read, and the instance maps of A172", "masks of A172, pycocotools"),
)


def faster(ratio: float) -> str:
    """Two digits, no more than are known."""
    return f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.2g}"


def table(facts: dict[str, Any]) -> list[str]:
    """Markdown lines."""
    rows = facts["rows"]
    lines = ["| what | wall s | CPU s | peak MB | times faster (wall) |", "|---|---|---|---|---|"]
    for name, title, other in _LINES:
        row = rows[name]
        ratio = faster(rows[other]["seconds"] / row["seconds"]) if other else ""
        cells = (f"{row['seconds']:.3g}", f"{row['cpu']:.3g}", f"{row['peak_mb']:.0f}", ratio)
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return lines


def verdict(facts: dict[str, Any]) -> str:
    """Whether the second read meets its targets."""
    second, other = facts["rows"]["second read"], facts["rows"]["pycocotools"]
    ratio = other["seconds"] / second["seconds"]
    met = ratio >= FASTER and second["peak_mb"] <= PEAK_MB
    return (
        f"Targets of the second read, at least {FASTER} times faster than pycocotools and at most {PEAK_MB} MB: "
        f"{'met' if met else 'not met'} ({ratio:,.0f} times, {second['peak_mb']:.0f} MB)."
    )


def report(facts: dict[str, Any]) -> str:
    """experiments/results/data_speed.md."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return "\n".join([
        "# Reading an annotation file of LIVECell's size",
        "",
        f"`{facts['command']}`, {facts['date']}, commit {facts['commit']}, {facts['cores']} cores "
        f"({facts['machine']}), one thread, Python {facts['python']}, {versions}; load {facts['loadavg'][0]:.1f} at "
        "the start.",
        "",
        f"A made-up file in LIVECell's form (scripts/livecell_like.py): {facts['images']:,} images, "
        f"{facts['instances']:,} instances, {facts['file_mb']:.0f} MB; its copy takes {facts['copy_mb']:.0f} MB. "
        "Each row is a process of its own, the file in the system's cache; times without imports, memory with them "
        f"({facts['rows']['imports']['peak_mb']:.0f} MB). Rows in which another program had the processor show it as "
        "wall time above CPU time.",
        "",
        *table(facts),
        "",
        verdict(facts),
        "",
        "`COCO` reads everything before it gives anything; the second read gives all entries of images and reads an "
        "image's annotations when they are asked for, so the row with every annotation is there too. Both sides found "
        f"{facts['rows']['maps of A172']['cells']:,} cells of A172 with the same number of pixels.",
        "",
    ])  # fmt: skip

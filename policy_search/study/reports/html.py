"""The page of a report: its sections in words and tables, from a run's record and its pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from policy_search.config import RunConfig
from policy_search.study.report import costs
from policy_search.study.reports import markup as html
from policy_search.study.reports.data import RunRecord
from policy_search.study.reports.importance import FamilyImportance
from policy_search.study.reports.operations import Operation, number_range
from policy_search.study.reports.origin import Origin
from policy_search.study.reports.rounds import domains_section, first_round_section, second_round_section

OBJECTIVES = {
    "tradeoff": "the share of its score that a network of the source keeps on augmented images, times how much harder "
    "they are to learn; “none” has 1",
    "probe": "of a small network trained for a short time under each policy",
    "bridge": "distance of the source's augmented images to unlabelled images of the targets; no network is trained",
    "affinity-diversity": "how well augmented images still fit a network of the source, and how hard they are to learn",
    "ap50": "of a short fine-tune with `detect`",
}


@dataclass(frozen=True)
class Learnt:
    """The policy whose operations are shown: what it is, its name, its operations and their picture."""

    role: str
    name: str
    operations: Sequence[Operation]
    figure: bytes


@dataclass(frozen=True)
class Preview:
    """A policy's contact sheet, or why there is none."""

    role: str
    name: str
    sheet: bytes | None
    problem: str = ""


@dataclass(frozen=True)
class Parts:
    """What a page is made of besides the record; pictures are PNG, None where there is nothing to show."""

    origin: Origin
    importances: Sequence[FamilyImportance]
    settings: Mapping[int, str] = field(default_factory=dict)
    history: bytes | None = None
    second_round: bytes | None = None
    learnt: Learnt | None = None
    previews: Sequence[Preview] = ()


def report_page(record: RunRecord, parts: Parts) -> str:
    """The page as text."""
    title = f"Policies for {record.config.data}"
    sections = [
        _summary(record, title),
        second_round_section(record, parts.second_round),
        first_round_section(record, parts.history, parts.settings),
        domains_section(record),
        _importance(parts.importances),
        _learnt(parts.learnt),
        _previews(record, parts.previews),
        _cost(record),
        _origin(parts.origin),
    ]
    return html.page(title, [s for s in sections if s])


def _summary(record: RunRecord, title: str) -> str:
    config = record.config
    badges = '<span class="badge">synthetic cells</span>' if record.synthetic else ""
    if record.verdict is not None:
        verdict = html.text(record.verdict.sentence, "verdict")
    else:
        badges += '<span class="badge">not finished</span>'
        verdict = html.text(
            f"{record.state} There is no verdict yet; the command at the end of this page goes on.", "verdict open"
        )
    facts = record.best.provenance.model_dump() if record.best is not None and record.verdict is not None else {}
    scored = facts.get("validation") or _scored_on(config)
    warning = ", a built-in synthetic culture: no number here is of real cells" if record.synthetic else ""
    metrics = " and ".join(
        f"{metric} ({'higher' if direction == 'maximize' else 'lower'} is better)"
        for metric, direction in zip(record.metrics, record.directions, strict=True)
    )
    items = [
        f"Data: {config.data}{warning}",
        f"Objective “{config.objective}”: {metrics}; {OBJECTIVES[config.objective]}",
        f"Scored on {scored}",
        f"Seed {config.seed}; {record.complete} of {config.trials} complete trials",
    ]
    if record.judged not in record.metrics:
        items.insert(2, f"The second round is decided by another one: {record.judged}")
    if record.verdict is not None:
        items.insert(0, record.state)
    return f"<h1>{escape(title)}</h1>{badges}{verdict}{html.listing(items)}"


def _scored_on(config: RunConfig) -> str:
    """Of a run that is not finished, whose best.json would say it."""
    if config.validate_on:
        return f"labelled types {', '.join(config.validate_on)}"
    if config.objective == "bridge":
        return f"unlabelled images of {', '.join(config.target)}"
    shifted = config.objective in ("probe", "ap50")
    return "held-out images of the source" + (" under held-back shifts" if shifted else "")


def _importance(found: Sequence[FamilyImportance]) -> str:
    parts = []
    if not found:
        return html.section("Parameter importance", html.text("Several metrics have no one importance."))
    for family in found:
        parts.append(f"<h3>{escape(family.family)}</h3>")
        if not family.parameters:
            parts.append(
                html.text(f"Too few trials to say: {family.trials} complete of the {family.needed} that it takes.")
            )
            continue
        parts.append(html.text(f"From {family.trials} complete trials, naive strategies that lie in it included."))
        alone = len(family.parameters) == 1
        rows = [
            [p.name, "the only one" if alone else f"{p.importance:.2f}", "–" if p.trend is None else f"{p.trend:+.2f}"]
            for p in family.parameters
        ]
        heads = ["parameter", "importance", "trend with the score"]
        parts.append(html.table(f"importance, {family.family}", heads, rows, "lnn"))
    note = (
        "Importance: share of a parameter in what sets the better third of the trials apart (PED-ANOVA). "
        "Trend: rank correlation with the score, −1 to 1. Both describe the first round, on one seed."
    )
    return html.section("Parameter importance", html.text(note, "note"), *parts)


def _learnt(learnt: Learnt | None) -> str:
    heading = "What was learnt: operations and their ranges"
    if learnt is None:
        return html.section(heading, html.text("No searched policy has a score, so nothing learnt can be shown."))
    rows = [
        [o.step, o.name, f"{100 * o.chance:.1f} %",
         "; ".join(f"{a.name} {number_range(*a.hull)}" for a in o.arguments),
         "; ".join(f"{name} {value}" for name, value in o.fixed.items())]
        for o in learnt.operations
    ]  # fmt: skip
    heads = ["step", "operation", "images", "ranges", "the same everywhere"]
    note = (
        f"Shown is {learnt.name}, {learnt.role}. An image goes through one sub-policy, there through every step, and "
        "in a step meets at most one operation. Left: the number of the step, the operation, and the share of images "
        "that meet it. Right: a line for each sub-policy, darker where it acts more often, from the smallest value to "
        "the largest; a dark tick marks the value that changes nothing."
    )
    alternative = f"Operations of {learnt.name}: how often, which ranges"
    return html.section(
        heading, html.text(note), html.picture(learnt.figure, alternative, "wide"),
        html.table(heading, heads, rows, "klnww"),
        html.text("Names and units are Albumentations' own; ranges span all sub-policies.", "note"),
    )  # fmt: skip


def _previews(record: RunRecord, previews: Sequence[Preview]) -> str:
    kind = " (synthetic cells)" if record.synthetic else ""
    parts = []
    for preview in previews:
        parts.append(f"<h3>{escape(f'{preview.name}: {preview.role}')}</h3>")
        if preview.sheet is None:
            parts.append(html.text(f"No pictures: the data cannot be read any more ({preview.problem})."))
        else:
            alternative = f"Training images{kind} left, three draws of {preview.name} beside each, outlines of cells"
            parts.append(html.picture(preview.sheet, alternative, "sheet"))
    return html.section(f"Before and after{kind}", *parts) if parts else ""


def _cost(record: RunRecord) -> str:
    found = costs(record.rows)
    rows = [[c.family or "–", str(c.trials), f"{c.seconds:.1f}", f"{c.seconds / c.trials:.1f}"] for c in found]
    seconds = sum(c.seconds for c in found)
    rows.append(["all", str(len(record.rows)), f"{seconds:.1f}", f"{seconds / max(1, len(record.rows)):.1f}"])
    note = (
        "Wall-clock seconds of the first round, learning of policies included; with several workers they overlap. The "
        f"second round took {record.second_seconds:.1f} seconds besides."
    )
    heads = ["family", "trials", "seconds", "seconds a trial"]
    return html.section("Cost", html.table("cost", heads, rows, "lnnn", [len(rows) - 1]), html.text(note, "note"))


def _origin(origin: Origin) -> str:
    rows = [[package, number] for package, number in origin.versions.items()]
    return html.section(
        "How it was made", f"<pre>$ {escape(origin.command)}</pre>", html.listing(origin.notes),
        html.table("versions", ["package", "version"], rows, "ll"),
    )  # fmt: skip

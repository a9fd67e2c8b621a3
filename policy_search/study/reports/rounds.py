"""The leaderboards of a report's page: second round with intervals, first round, and by validation domain."""

from __future__ import annotations

from collections.abc import Mapping

from policy_search.study.report import TrialRow, remark
from policy_search.study.reports import markup as html
from policy_search.study.reports.data import RunRecord
from policy_search.study.verdict import Finalist, paired_interval

FAMILIES = (
    "naive: known before the study, and what a learnt policy has to beat (marked *); “none” is no augmentation",
    "searched: sub-policies of operations, learnt by gradient against a critic",
    "stacked: the single naive strategies one after the other, each with probability p",
    "choice: one of the single naive strategies for each image, by learnt weights",
    "stacked_searched, choice_searched: the same with the sub-policies of the best searched policy so far",
)
TARGETED = "targeted: flips, the recognised size of the targets' cells, and what makes images look like theirs"
PRUNED = "pruned: given up on the way, where the policy scored in the lower half of those that got as far (Hyperband)"
FRONT = "on the Pareto front: no other policy is as good in every metric and better in one"


def second_round_section(record: RunRecord, figure: bytes | None) -> str:
    heading = "Second round: fresh seeds"
    if not record.finalists or record.verdict is None:
        done, wanted = record.scores
        begun = record.complete >= record.config.trials and done > 0
        words = f"{done} of {wanted} scores are there." if begun else "It has not been run."
        return html.section(heading, html.text(words))
    finalists, reference = record.finalists, record.verdict.reference
    against = [reference, *[f for f in finalists if f.name in ("none", "random_choice") and f.name != reference.name]]
    comparisons = max(1, sum(not f.baseline for f in finalists))
    rows = []
    for finalist in finalists:
        mean, low, high = paired_interval(finalist.scores)
        differences = [_difference(record, finalist, other, comparisons) for other in against]
        rows.append([_name(finalist.name, finalist.baseline), finalist.family, f"{mean:.3f}", f"{low:.3f} … {high:.3f}",
                     *differences])  # fmt: skip
    heads = ["policy", "family", "mean", "95 % interval of the mean", *[f"better than {f.name} by" for f in against]]
    seeds = len(reference.scores)
    note = (
        f"The candidates and the naive strategies were scored again on {seeds} seeds that no trial used; best.json is "
        f"decided here. The best naive strategy on them is “{reference.name}”. Differences are paired by seed, with "
        f"95 % t intervals{_corrected(comparisons)}: one whose interval contains 0 may be chance."
    )
    winner = [i for i, f in enumerate(finalists) if f.name == record.verdict.winner.name]
    out = [f"Left out: {name} has no score on some seed; report.md of the run says why." for name in record.left_out]
    picture = html.picture(
        figure or b"", "Scores on fresh seeds (dots), their mean (tick) and its 95 % interval (line)"
    )
    return html.section(
        heading, html.text(note), html.table(heading, heads, rows, "kln" + "n" * (len(heads) - 3), winner),
        html.listing(out), picture if figure else "",
        html.text("Dots: the seeds. Tick: their mean. Line: 95 % interval of the mean.", "note"),
    )  # fmt: skip


def _difference(record: RunRecord, finalist: Finalist, other: Finalist, comparisons: int) -> str:
    if finalist.name == other.name:
        return "–"
    sign = 1.0 if record.judged_direction == "maximize" else -1.0
    paired = [sign * (a - b) for a, b in zip(finalist.scores, other.scores, strict=True)]
    mean, low, high = paired_interval(paired, comparisons)
    return f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"


def _corrected(comparisons: int) -> str:
    return f" (Bonferroni for {comparisons} learnt policies)" if comparisons > 1 else ""


def first_round_section(record: RunRecord, figure: bytes | None, settings: Mapping[int, str]) -> str:
    heading = "First round: all trials, one seed"
    if not record.rows:
        return html.section(heading, html.text("No trial is done yet."))
    naive = [row for row in record.rows if row.baseline and row.score is not None]
    none = next((row for row in naive if row.name == "none"), None)
    against = list({row.name: row for row in [*naive[:1], *([none] if none else [])]}.values())
    several = len(record.metrics) > 1
    if several:
        against = []
    remarks = ["remark"] if any(remark(row, record.front) for row in record.rows) else []
    scores = record.metrics if several else ("score",)
    heads = ["trial", "policy", "family", *scores, *[f"minus {row.name}" for row in against], "seconds", *remarks,
             "settings"]  # fmt: skip
    rows = [
        [str(row.number), _name(row.name or "–", row.baseline), row.family,
         *([f"{value:.3f}" for value in row.values] or ["–"] * len(scores)),
         *[_minus(row, other) for other in against], f"{row.seconds:.1f}",
         *[remark(row, record.front) for _ in remarks], settings.get(row.number, "")]
        for row in record.rows
    ]  # fmt: skip
    picture = html.picture(figure, _caption(several)) if figure else ""
    note = "All trials share one seed, so these differences have no interval: they choose who enters the second round."
    align = "nkl" + "n" * (len(scores) + len(against)) + "n" + "r" * len(remarks) + "w"
    return html.section(
        heading, html.text(note), picture, html.table(heading, heads, rows, align),
        html.listing(_glossary(record)),
    )  # fmt: skip


def _glossary(record: RunRecord) -> list[str]:
    pruned = any(row.state == "pruned" for row in record.rows)
    several = len(record.metrics) > 1
    extra = ((TARGETED, bool(record.config.target)), (PRUNED, pruned), (FRONT, several))
    return [*FAMILIES, *(text for text, there in extra if there)]


def _caption(several: bool) -> str:
    if several:
        return "Every policy by its metrics; the line joins the Pareto front"
    return "Score of every trial, in the order they were made"


def domains_section(record: RunRecord) -> str:
    domains = sorted({d for row in record.rows for d in row.domains})
    first = record.verdict.winner.name if record.verdict else record.rows[0].name if record.rows else ""
    wanted = (first, record.searched.name if record.searched else "")
    shown = [row for row in record.rows if row.domains and row.name in ("none", *wanted)]
    columns = sorted(shown, key=lambda row: row.name != "none")
    if len(domains) < 2 or not columns:
        return ""
    rows = [[d, *[_score(row.domains.get(d)) for row in columns]] for d in domains]
    heading = "By validation domain, first round"
    heads = ["domain", *[_name(row.name, row.baseline) for row in columns]]
    return html.section(heading, html.table(heading, heads, rows, "k" + "n" * len(columns)))


def _name(name: str, baseline: bool) -> str:
    return f"{name} *" if baseline else name


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _minus(row: TrialRow, other: TrialRow) -> str:
    if row.score is None or other.score is None or row.number == other.number:
        return "–"
    return f"{row.score - other.score:+.3f}"

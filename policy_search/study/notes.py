"""The notes that the dashboard shows of a trial and of a study: Markdown that reads well as plain text, too. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from policy_search.augment import PolicyDocument
from policy_search.study.policy_table import cell, policy_table
from policy_search.study.standing import Entry, Standing

LEADERS = 5
_FAMILIES = {
    "searched": "Learnt by the relaxed search from the source alone",
    "targeted": "Learnt by the relaxed search from unlabelled images of the targets",
    "stacked": "All naive strategies in sequence, each with a probability",
    "choice": "One of the naive strategies for each image",
    "stacked_searched": "The sub-policies of a searched policy in sequence, each with a probability",
    "choice_searched": "One of the sub-policies of a searched policy for each image, by new weights",
    "naive": "A naive strategy, to be beaten",
}


@dataclass(frozen=True)
class DataFacts:
    """What the study works on: `--data`, whether it is the demo culture, one sentence on what scores are taken on."""

    name: str
    synthetic: bool
    validation: str


@dataclass(frozen=True)
class TrialFacts:
    """What is known of one trial besides its policy.

    Attributes:
        name, family: of the policy.
        values: its score on each metric; None where it has none.
        domains: score by validation domain.
        seconds: wall seconds, 0 when unknown.
        remark: why it has no score of its own, as a sentence; may be empty.
        pictures: title -> URL of what is shown inline.
        missing: why pictures or files could not be kept; may be empty.
    """

    name: str
    family: str
    values: tuple[float, ...] | None
    domains: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    remark: str = ""
    pictures: Mapping[str, str] = field(default_factory=dict)
    missing: str = ""


@dataclass(frozen=True)
class StudyFacts:
    """What is known of a study besides its trials.

    Attributes:
        run: the run folder as a user would type it.
        wanted: complete trials it is to have.
        verdict: the second round's sentence; empty before it.
        second_round: whether there will be one.
        trials_url: start of the address of a trial's page, to which its number is appended; empty for no links.
    """

    run: str
    wanted: int
    verdict: str = ""
    second_round: bool = True
    trials_url: str = ""


def trial_note(document: PolicyDocument, facts: TrialFacts, so_far: Standing, data: DataFacts) -> str:
    """The note of a trial.

    Args:
        document: its policy.
        facts: of the trial.
        so_far: the study without this trial.
        data: of the study.
    """
    what = _FAMILIES.get(facts.family, facts.family.capitalize())
    lines = [f"# {facts.name}", "", *_scores(facts, so_far), ""]
    kind = " Synthetic cells: these scores say nothing about real images." if data.synthetic else ""
    took = f" Took {facts.seconds:.0f} s." if facts.seconds >= 0.5 else ""
    lines += [f"{what}; data {data.name}.{took}{kind}", ""]
    for title, url in facts.pictures.items():
        lines += [f"**{title}**", "", f"![{title}]({url})", ""]
    if facts.missing:
        lines += [f"**Not everything could be kept:** {facts.missing}", ""]
    lines += ["## What the policy does", "", *policy_table(document), ""]
    if facts.domains:
        lines += ["## What it was scored on", "", f"{_sentence(data.validation)}", "", *_domains(facts, so_far), ""]
    return "\n".join([*lines, "## How to use it", "", *_usage(document)]) + "\n"


def study_note(standing: Standing, facts: StudyFacts, data: DataFacts) -> str:
    """The note of a study: the leader or the Pareto front, how far it is, what decides, how to use the result."""
    lines = [f"# Policies for {data.name}", ""]
    if data.synthetic:
        lines += ["Synthetic cells (the built-in demo culture): the numbers say nothing about real images.", ""]
    several = len(standing.metrics) > 1
    lines += [*(_front(standing, facts) if several else _leader(standing, facts)), ""]
    lines += [_how_far(standing, facts), ""]
    if facts.verdict:
        lines += [f"**Second round:** {facts.verdict}", ""]
    elif facts.second_round:
        lines += [
            "First-round scores share one seed: they sort policies, and small differences may be chance. The second "
            "round scores the best policies and the naive ones again on fresh seeds, and decides.", "",
        ]  # fmt: skip
    lines += [f"Scored on {data.validation}.", "", "## How to use the result", ""]
    best, run = "policy.json", shlex.quote(facts.run)
    if facts.second_round:
        best = shlex.quote(f"{facts.run}/best.json")
        over = "The winner is" if facts.verdict else "Once the second round is over, the winner is"
        lines += [f"{over} in `{facts.run}/best.json`.", ""]
    lines += ["Every trial's page has the trial's own `policy.json`, among its artifacts.", ""]
    lines += ["```", f"policy-search report {run}", f"policy-search show {best}"]
    lines += [f"detect finetune --policy {best} --data {shlex.quote(data.name)} --weights BASE_MODEL", "```"]
    return "\n".join(lines) + "\n"


def _scores(facts: TrialFacts, so_far: Standing) -> list[str]:
    """One paragraph for each metric, or why there is none."""
    if facts.values is None:
        return [f"**No score.** {facts.remark}".rstrip()]
    none, rival = so_far.named("none"), so_far.rival()
    lines = []
    for i, (metric, value) in enumerate(zip(so_far.metrics, facts.values, strict=True)):
        against = []
        if none is not None and none.values is not None and facts.name != "none":
            against.append(_compared(so_far, facts.values, none, i))
        single = len(so_far.metrics) == 1
        if single and rival is not None and rival is not none and rival.name != facts.name:
            against.append(f"{_compared(so_far, facts.values, rival, i)}, the best naive strategy so far")
        tail = f": {', '.join(against)}" if against else ""
        lines += ["", f"**{metric} = {_number(value)}**{tail}."]
    if facts.remark:
        lines += ["", facts.remark]
    decides = "; the second round decides on fresh ones" if len(so_far.metrics) == 1 else ""
    return [*lines[1:], "", f"All first-round scores share one seed{decides}."]


def _compared(standing: Standing, values: Sequence[float], other: Entry, metric: int) -> str:
    """`0.034 better than `none` (0.578)`."""
    assert other.values is not None  # only entries with a score are compared with
    return (
        f"{_difference(standing.gain(values, other.values)[metric])} `{other.name}` ({_number(other.values[metric])})"
    )


def _difference(gain: float) -> str:
    shown = _number(abs(gain))
    if float(shown) == 0:
        return "the same as"
    return f"{shown} better than" if gain > 0 else f"{shown} worse than"


def _domains(facts: TrialFacts, so_far: Standing) -> list[str]:
    none = so_far.named("none")
    reference = none.domains if none is not None and facts.name != "none" else {}
    if not reference:
        return [
            "| domain | score |",
            "|---|---:|",
            *[f"| {cell(d)} | {_number(v)} |" for d, v in facts.domains.items()],
        ]
    lines = ["| domain | score | `none` | difference |", "|---|---:|---:|---:|"]
    for name, value in facts.domains.items():
        if name in reference:
            lines.append(
                f"| {cell(name)} | {_number(value)} | {_number(reference[name])} | {value - reference[name]:+.3f} |"
            )
        else:
            lines.append(f"| {cell(name)} | {_number(value)} | – | – |")
    return lines


def _usage(document: PolicyDocument) -> list[str]:
    """How to load the file, with the one import that pasting needs."""
    lines = ["Download `policy.json` under Artifacts on this page: plain Albumentations 2.0.8 JSON.", "", "```python"]
    lines += ["import albumentations as A"]
    if document.needs_donor:
        lines += ["import policy_search.augment  # registers CopyPaste", "", 'policy = A.load("policy.json")']
        call = 'policy(image=image, masks=masks, copy_paste_metadata={"image": other_image, "masks": other_masks})'
    else:
        lines += ["", 'policy = A.load("policy.json")']
        call = "policy(image=image, masks=masks)  # masks: (N, H, W)"
    lines += [f"out = {call}", "```", ""]
    return [*lines, "Or fine-tune with it: `detect finetune --policy policy.json --data DATA --weights BASE_MODEL`."]


def _leader(standing: Standing, facts: StudyFacts) -> list[str]:
    best, rival, metric = standing.best(), standing.rival(), standing.metrics[0]
    if best is None or best.values is None:
        return ["No policy has a score yet."]
    who = "Leader of the first round" if facts.verdict else "Best so far"
    head = f"**{who}: `{best.name}`, {metric} = {_number(best.values[0])}**"
    if best.baseline:
        head += ", a naive strategy: no learnt policy is ahead of it."
    elif rival is not None and rival.values is not None:
        head += f", {_compared(standing, best.values, rival, 0)}, the best naive strategy."
    else:
        head += "; no naive strategy has a score yet."
    lines = [head, "", f"| trial | policy | family | {metric} |", "|---:|---|---|---:|"]
    leaders = [e for e in standing.ranked() if not e.repeats][:LEADERS]
    shown = leaders + [e for e in (rival, standing.named("none")) if e is not None and e not in leaders]
    return lines + _lines(shown, facts)


def _front(standing: Standing, facts: StudyFacts) -> list[str]:
    front = standing.front()
    if not front:
        return ["No policy has a score yet."]
    better = ", ".join(
        f"{'high' if way == 'maximize' else 'low'} {metric}"
        for metric, way in zip(standing.metrics, standing.directions, strict=True)
    )
    count = f"{len(front)} policies" if len(front) > 1 else "one policy"
    lines = [f"**Pareto front so far: {count}**, none of which another beats on every metric (better: {better}).", ""]
    lines += [f"| trial | policy | family | {' | '.join(standing.metrics)} |"]
    lines += [f"|---:|---|---|{'---:|' * len(standing.metrics)}"]
    step = max(1, -(-len(front) // (2 * LEADERS)))
    shown = front[::step]
    lines += _lines(shown, facts)
    return lines if len(shown) == len(front) else [*lines, "", f"Every {step}th point of the front is shown."]


def _lines(entries: Sequence[Entry], facts: StudyFacts) -> list[str]:
    """Table rows, each entry once."""
    unique = {entry.number: entry for entry in entries}
    lines = []
    for number, entry in unique.items():
        trial = f"[{number}]({facts.trials_url}{number})" if facts.trials_url else str(number)
        scores = " | ".join(_number(v) for v in entry.values or ())
        lines.append(f"| {trial} | {cell(entry.name)} | {entry.family} | {scores} |")
    return lines


def _how_far(standing: Standing, facts: StudyFacts) -> str:
    parts = [f"{standing.count('complete')} of {facts.wanted} trials complete"]
    for state, words in (("running", "running"), ("pruned", "given up early"), ("fail", "failed")):
        if standing.count(state):
            parts.append(f"{standing.count(state)} {words}")
    return f"Progress: {', '.join(parts)}."


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 1000 else f"{value:.4g}"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."

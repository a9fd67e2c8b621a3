"""Tables of experiments/objectives.py: rank correlation of every objective with the truth, and its price."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Table = NDArray[np.float64]  # (policies, seeds), larger is better
DRAWS = 2000


def tables(cells: list[dict[str, Any]]) -> tuple[list[str], list[int], dict[str, Table]]:
    """Policies, seeds, and one table for every objective and for the truth; only policies that have all seeds."""
    kinds = ("truth", "probe", "bridge", "affinity-diversity")
    found = {(c["kind"], c["policy"], c["seed"]): c for c in cells}
    seeds = sorted({c["seed"] for c in cells if c["kind"] == "truth"})
    everything = [c["policy"] for c in cells if c["kind"] == "truth"]
    names = [n for n in dict.fromkeys(everything) if all((k, n, s) in found for k in kinds for s in seeds)]

    def table(kind: str, value: Callable[[dict[str, Any]], float]) -> Table:
        return np.array([[value(found[kind, n, s]) for s in seeds] for n in names], np.float64)

    affinity = table("affinity-diversity", lambda c: c["affinity"])
    diversity = table("affinity-diversity", lambda c: c["diversity"])
    kept = table("affinity-diversity", lambda c: 1 + c["affinity"] / c["clean"])
    known = {
        "truth": table("truth", lambda c: float(np.mean(list(c["unseen"].values())))),
        "probe": table("probe", lambda c: c["value"]),
        "probe, at half": table("probe", lambda c: c["checks"]["0.5"]),
        "probe, at a quarter": table("probe", lambda c: c["checks"]["0.25"]),
        "probe, by AP50": table("probe", lambda c: c["ap50"]),
        "bridge": table("bridge", lambda c: -c["value"]),
        "affinity": affinity,
        "diversity": diversity,
        "affinity × diversity": kept * diversity,
        "affinity + diversity, ranks": _ranks(affinity) + _ranks(diversity),
        "ap50": table("truth", lambda c: float(np.mean(list(c["shifts"].values())))),
    }  # fmt: skip
    if all(("validate-on", n, s) in found for n in names for s in seeds):
        known["probe, validated on unseen labels"] = table("validate-on", lambda c: c["value"])
    return names, seeds, known


def _ranks(table: Table) -> Table:
    return np.stack([stats.rankdata(column) for column in table.T], 1)


def rank_correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Spearman's; 0 where one of them is constant."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(stats.spearmanr(a, b).statistic)


def of_means(objective: Table, truth: Table) -> float:
    """Of the policies' means over the seeds."""
    return rank_correlation(objective.mean(1), truth.mean(1))


def across(objective: Table, truth: Table) -> float:
    """Of one seed's scores and the mean truth of all other seeds, mean over the seeds."""
    count = truth.shape[1]
    if count < 2:
        return float("nan")
    others = [np.delete(truth, s, axis=1).mean(1) for s in range(count)]
    return float(np.mean([rank_correlation(objective[:, s], others[s]) for s in range(count)]))


def regret(objective: Table, truth: Table) -> float:
    """What is lost by taking the policy that one seed's scores put first: truth of the best less that of the chosen,
    both by the other seeds, mean over the seeds."""
    count, lost = truth.shape[1], []
    for s in range(count):
        known = np.delete(truth, s, axis=1).mean(1) if count > 1 else truth[:, 0]
        lost.append(known.max() - known[int(np.argmax(objective[:, s]))])
    return float(np.mean(lost))


def bootstrap(
    measure: Callable[[Table], float], table: Table, *, draws: int = DRAWS, seed: int = 0
) -> NDArray[np.float64]:
    """`measure` on tables whose policies, and whose seeds, are drawn with replacement.

    Args:
        measure: of a stack (tables, policies, seeds) of which all tables get the same draw.
        table: that stack.
    """
    rng = np.random.default_rng(seed)
    policies, seeds = table.shape[1:]
    found = []
    for _ in range(draws):
        rows, columns = rng.integers(policies, size=policies), rng.integers(seeds, size=seeds)
        found.append(measure(table[:, rows][:, :, columns]))
    return np.array(found)


def interval(values: NDArray[np.float64]) -> str:
    """Its middle 95 %."""
    low, high = np.percentile(values, [2.5, 97.5])
    return f"{low:+.2f} … {high:+.2f}"


def ceiling(truth: Table) -> dict[str, float]:
    """What a perfect objective could reach, given the noise of the truth.

    `pair`: rank correlation of the truth of two seeds, mean over the pairs. `mean`: of the mean over the seeds with
    another such mean, by Spearman and Brown. `best`: its root, of the mean with what it estimates.
    """
    count = truth.shape[1]
    pairs = [rank_correlation(truth[:, a], truth[:, b]) for a in range(count) for b in range(a)]
    pair = float(np.mean(pairs)) if pairs else float("nan")
    mean = count * pair / (1 + (count - 1) * pair)
    return {"pair": pair, "mean": mean, "best": max(mean, 0.0) ** 0.5}


def prices(cells: list[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    """CPU seconds of a score and of what a seed needs once, by kind."""
    found = {}
    for kind in ("probe", "bridge", "affinity-diversity", "ap50", "truth"):
        own = [c for c in cells if c["kind"] == kind]
        if own:
            once = [max(c.get("prepare_cpu_s", 0.0) for c in own if c["seed"] == s) for s in {c["seed"] for c in own}]
            found[kind] = (float(np.mean([c["cpu_s"] for c in own])), float(np.mean(once)))
    return found


def price_of(name: str, known: dict[str, tuple[float, float]]) -> str:
    """What a score of this row costs."""
    kind = "affinity-diversity" if name.startswith(("affinity", "diversity")) else name.split(",")[0]
    return f"{known[kind][0]:.1f}" if kind in known and "at " not in name else "–"


def report(facts: dict[str, Any]) -> str:
    """The whole text."""
    names, seeds, found = tables(facts["cells"])
    if len(names) < 3 or len(seeds) < 2:
        return f"# Objectives\n\n{len(names)} policies at {len(seeds)} complete seeds: too few for a table yet.\n"
    known = prices(facts["cells"])
    parts = [
        *_origin(facts, names, seeds),
        *_main_table(found, known),
        *_ceiling_text(found["truth"], known),
        *_against_the_probe(found),
        *_pruning(facts["cells"], names, seeds),
        *_policies(names, found),
    ]
    if facts.get("note"):
        parts += ["", "## Remarks", "", facts["note"]]
    return "\n".join(parts) + "\n"


def _origin(facts: dict[str, Any], names: list[str], seeds: list[int]) -> list[str]:
    commits = sorted({c["commit"] for c in facts["cells"]})
    cells, images = facts["truth_cells"], facts["truth_images"]
    return [
        "# How well the objectives rank policies",
        "",
        f"SYNTHETIC cells: {facts['data']}, {facts['train_images']} training images. The truth about a policy is a "
        f"real `detect finetune` (tiny, {facts['iterations']} iterations from a base of {facts['base_iterations']}), "
        f"by mask AP50 on val images of {len(images)} unseen types ({sum(images.values())} images, "
        f"{sum(cells.values())} cells); no test split is read. {len(names)} policies, {len(seeds)} seeds, each with "
        "its own base model.",
        "",
        f"`{facts['command']}`, commit {', '.join(commits)}, {facts['date']}, one thread.",
    ]


def _main_table(found: dict[str, Table], known: dict[str, tuple[float, float]]) -> list[str]:
    truth = found["truth"]
    lines = [
        "",
        "| objective | Spearman, means | 95 % | one seed, others' truth | 95 % | AP50 lost | CPU s a score |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, table in found.items():
        stack = np.stack([table, truth])
        # Seeds are not drawn for the second: a seed that is drawn twice would meet its own truth.
        single = f"{across(table, truth):+.2f} | {interval(_policies_drawn(stack))} | {regret(table, truth):.3f}"
        means = "| "
        if name != "truth":
            means = f"{of_means(table, truth):+.2f} | {interval(bootstrap(lambda t: of_means(*t), stack))}"
        lines.append(f"| {name} | {means} | {single} | {price_of(name, known)} |")
    return [
        *lines,
        "",
        "*Spearman, means*: of the policies' means over the seeds. *One seed, others' truth*: the scores of one seed, "
        "as a trial gets them, against the mean truth of the other seeds, mean over the seeds; ap50 shares its "
        "fine-tunes with the truth of its own seed, so only this column is fair to the others. *AP50 lost*: the best "
        "policy's truth less that of the policy that one seed puts first, by the other seeds' truth. Intervals: "
        "bootstrap over policies and seeds (means) or policies alone (one seed), the same draw for objective and "
        f"truth, {DRAWS} draws, middle 95 %. Distances count with a minus.",
    ]


def _ceiling_text(truth: Table, known: dict[str, tuple[float, float]]) -> list[str]:
    top, once = ceiling(truth), [f"{kind} {spent:.1f}" for kind, (_, spent) in known.items() if spent > 0.5]
    return [
        "",
        f"Noise ceiling: the truth of two seeds agrees by {top['pair']:+.2f} (Spearman, mean over the pairs); by "
        f"Spearman and Brown the mean over {truth.shape[1]} seeds would agree with another such mean by "
        f"{top['mean']:+.2f}, and no objective can be expected to reach more than {top['best']:+.2f} in the first "
        "column.",
        "",
        f"What a seed needs once, CPU seconds: {', '.join(once)}.",
    ]


def _against_the_probe(found: dict[str, Table]) -> list[str]:
    truth, probe = found["truth"], found["probe"]
    lines = [
        "",
        "## Against the probe",
        "",
        "Difference of the Spearman correlations of means, objective less probe, with its interval by the same draws:",
        "",
    ]
    for name in (name for name in found if (name != "truth" and name.split(",")[0] != "probe") or "labels" in name):
        drawn = bootstrap(lambda t: of_means(t[0], t[2]) - of_means(t[1], t[2]), np.stack([found[name], probe, truth]))
        value = of_means(found[name], truth) - of_means(probe, truth)
        lines.append(f"* {name}: {value:+.2f}, {interval(drawn)}")
    return lines


def _pruning(cells: list[dict[str, Any]], names: list[str], seeds: list[int]) -> list[str]:
    lines = ["", "## Pruning", ""]
    lines += ["Rank correlation of what is reported on the way with the final score, mean over the seeds:", ""]
    for kind, share in (("probe", "0.25"), ("probe", "0.5"), ("bridge", "0.25"), ("bridge", "0.5")):
        lines.append(f"* {kind} at {share}: {_early(cells, kind, share, names, seeds):+.2f}")
    return lines


def _policies(names: list[str], found: dict[str, Table]) -> list[str]:
    shown, truth = ("truth", "probe", "bridge", "affinity", "diversity", "ap50"), found["truth"]
    lines = ["", "## All policies", "", "Means over the seeds, best first.", ""]
    lines += ["| policy | " + " | ".join(shown) + " | sd of the truth |", "|---" * (len(shown) + 2) + "|"]
    for i in np.argsort(-truth.mean(1)):
        values = [float(found[s][i].mean()) for s in shown]
        texts = [f"{-v:.1f}" if s == "bridge" else f"{v:.3f}" for s, v in zip(shown, values, strict=True)]
        lines.append(f"| {names[i]} | " + " | ".join(texts) + f" | {truth[i].std(ddof=1):.3f} |")
    return lines


def _policies_drawn(stack: Table) -> NDArray[np.float64]:
    rng = np.random.default_rng(0)
    count = stack.shape[1]
    return np.array([across(*stack[:, rng.integers(count, size=count)]) for _ in range(DRAWS)])


def _early(cells: list[dict[str, Any]], kind: str, share: str, names: list[str], seeds: list[int]) -> float:
    found = {(c["policy"], c["seed"]): c for c in cells if c["kind"] == kind}
    return float(
        np.mean(
            [
                rank_correlation(
                    np.array([found[n, s]["checks"][share] for n in names]),
                    np.array([found[n, s]["value"] for n in names]),
                )
                for s in seeds
            ]
        )
    )

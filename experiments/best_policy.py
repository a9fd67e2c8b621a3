"""Write `policies/best.json`: the policy that the tables support, with the figures that say so.

    python experiments/best_policy.py experiments/results/tables_demo.json experiments/results/tables_livecell-mini.json

The mean transfer gains of each row, in points of AP50, are averaged over the result files, each weighing the same. The
row with the largest mean is taken, whether its gain is told apart from the next one's or not: the provenance says both.
A row that some file lacks, or that has fewer seeds there than another row, is left out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from policy_search.augment import load_policy
from policy_search.augment.baselines import BASELINES
from policy_search.augment.documents import PolicyDocument, Provenance

ROOT = Path(__file__).resolve().parents[1]
MEAN = "mean of unseen"


class Gain(NamedTuple):
    """Mean gain over no augmentation on a file's unseen types, in points of AP50, with its 95 % interval."""

    value: float
    low: float
    high: float
    seeds: int


def gains_of(values: Sequence[dict[str, str]]) -> dict[str, Gain]:
    """Row -> its mean transfer gain, from the `values` of a result file of `experiments/record_matrix.py`."""
    return {
        v["row"]: Gain(float(v["value"]), float(v["low"]), float(v["high"]), len(v["seeds"].split()))
        for v in values
        if v["quantity"] == "gain" and v["cell_type"] == MEAN and v["against"] == "none" and v["low"]
    }


def ranking(files: Sequence[dict[str, Gain]]) -> list[tuple[str, float]]:
    """Rows that every file has with all its seeds, with their mean over the files, best first."""
    whole = [{row: g for row, g in f.items() if g.seeds == max(h.seeds for h in f.values())} for f in files]
    common = set.intersection(*(set(f) for f in whole))
    means = {row: sum(f[row].value for f in whole) / len(whole) for row in common}
    return sorted(means.items(), key=lambda item: (-item[1], item[0]))


def strategy_of(row: str) -> str:
    """The naive strategy that a row of the tables stands for.

    Raises:
        SystemExit: a learnt row, which has a policy for each source and seed.
    """
    name = row.replace("stacked ", "stacked p").replace(" ", "_").replace("-", "_")
    if name not in BASELINES:
        raise SystemExit(f"{row} is best, and has a policy for each seed: choose one of experiments/results/records")
    return name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path)
    options = parser.parse_args()
    contents = {path: json.loads(path.read_text(encoding="utf-8")) for path in options.results}
    files = {path: gains_of(content["values"]) for path, content in contents.items()}
    order = ranking(list(files.values()))
    best = order[0][0]
    name = strategy_of(best)
    document = load_policy(name)
    facts: dict[str, Any] = {
        "name": name,
        "family": document.provenance.family,
        "chosen_by": "mean transfer gain over no augmentation, points of AP50, averaged over the result files",
        "gains": {path.name: {row: [round(x, 1) for x in files[path][row][:3]] for row, _ in order} for path in files},
        "ranking": {row: round(mean, 1) for row, mean in order},
        "verdict": f"{best} has the largest mean gain of {len(order)} rows, {order[0][1] - order[1][1]:.1f} above "
        f"{order[1][0]}; the intervals of each are under gains.",
        "versions": contents[options.results[0]]["versions"],
        "created": contents[options.results[-1]]["date"],
    }
    target = ROOT / "policies" / "best.json"
    PolicyDocument(document.transform, Provenance(**facts)).save(target)
    print(f"wrote {target.relative_to(ROOT)}: {name}", *(f"{row} {mean:+.1f}" for row, mean in order), sep="\n  ")


if __name__ == "__main__":
    main()

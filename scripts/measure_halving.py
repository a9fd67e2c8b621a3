"""How many trials Hyperband gives up, and how often the best one is among them: `python scripts/measure_halving.py`.

A simulation: policies have values drawn from a normal distribution; a score on the way is the value seen through noise,
with a stated correlation. As in a study the first twelve trials are never given up, and a slot does not see the three
before it. Losses are counted among the other trials.
"""

from __future__ import annotations

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from policy_search.study import halving

KEPT, LAG, STUDIES = 12, 3, 240


def simulate(seed: int, slots: int, correlations: tuple[float, float]) -> tuple[float, float, float, float]:
    """Share given up, whether the best is among them, how much worse the best that is kept is, cost of a trial."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=slots)
    trials: dict[int, FrozenTrial] = {}
    cost = 0.0
    for slot in range(slots):
        seen = {k: trial for k, trial in trials.items() if k < slot - LAG}
        rule = halving.Halving(seen, slot, "maximize", name=f"study {seed}")
        done, state = 1.0, TrialState.COMPLETE
        for share, r in zip((0.25, 0.5), correlations, strict=True):
            if rule.stop(share, r * values[slot] + np.sqrt(1 - r**2) * rng.normal()) and slot >= KEPT:
                done, state = share, TrialState.PRUNED
                break
        cost += done if slot >= KEPT else 0.0
        value = float(values[slot]) if state == TrialState.COMPLETE else None
        trials[slot] = create_trial(state=state, value=value, system_attrs=rule.rungs)
    own = range(KEPT, slots)
    kept = [k for k in own if trials[k].state == TrialState.COMPLETE]
    best = max(own, key=lambda k: values[k])
    return 1 - len(kept) / len(own), float(best not in kept), values[best] - max(values[kept]), cost / len(own)


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print("judged from, factor, trials, correlations: given up, best lost, worse by (standard deviations), cost")
    for halving.LEAST, halving.FACTOR in ((25, 2), (50, 2), (25, 3), (25, 4)):
        for slots in (32, 112):
            for correlations in ((0.9, 0.97), (0.6, 0.8), (0.3, 0.5)):
                found = np.mean([simulate(seed, slots, correlations) for seed in range(STUDIES)], axis=0)
                figures = ", ".join(f"{figure:.2f}" for figure in found)
                print(f"{halving.LEAST} %, {halving.FACTOR}, {slots}, {correlations}: {figures}", flush=True)


if __name__ == "__main__":
    main()

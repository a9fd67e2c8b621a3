"""Hyperband: when a policy that is being scored is given up. A pure object, whatever storage the study lies in.

Optuna's pruner reads a study's storage while other workers write into it, and knows trials by their number there, so
what it decides depends on who came first. Here it is asked about a study in memory that holds the outcomes that the
slot may see, with the slot as the trial's number: the same outcomes, the same decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.pruners import HyperbandPruner
from optuna.trial import FrozenTrial, TrialState

from policy_search.study.storages.memory import in_memory, outcome
from policy_search.study.verdict import Direction

# Resources are percent of a scoring, judged at a quarter and at half: 4 of 10 slots meet both judgements, 3 of 10 the
# later one alone, 3 of 10 none. Simulated (scripts/measure_halving.py): 45 % of the trials are given up and a trial
# costs 0.72 of a whole one. Where the scores on the way correlate by 0.6 and 0.8 with the final one, the best of 20 is
# lost in 8 % of the studies (by 0.3 and 0.5: 24 %), and what is kept is worse by 0.04 (0.12) standard deviations of the
# policies; the 1.4 times as many trials are worth 0.15. A factor of 4 loses the best in 28 %; judging at half alone
# loses it in 1 % (12 %) but costs 0.87.
LEAST, MOST, FACTOR = 25, 100, 2
_RUNG = "completed_rung_"


class Halving:
    """Asynchronous successive halving in three brackets, for one slot.

    Args:
        seen: slot -> finished trial, of the slots that count; their rungs are in their system attributes.
        slot: the one that is scored.
        direction: of the study.
        name: of the study; with the slot it decides the bracket.
    """

    def __init__(self, seen: Mapping[int, FrozenTrial], slot: int, direction: Direction, *, name: str) -> None:
        pruner = HyperbandPruner(min_resource=LEAST, max_resource=MOST, reduction_factor=FACTOR)
        # Slots that are not seen are placeholders, so that numbers are slots.
        rungs = [_rungs(seen[k]) if k in seen else {} for k in range(slot)]
        trials = [outcome(TrialState.FAIL, system_attrs=attrs) for attrs in rungs]
        self._study = in_memory(trials, (direction,), name=name, pruner=pruner)
        self._trial: optuna.Trial = self._study.ask()

    def stop(self, share: float, value: float) -> bool:
        """Whether to give up now.

        Args:
            share: of the scoring that is done, in (0, 1]; must grow from call to call.
            value: the score so far; NaN is worse than any.

        Raises:
            ValueError: a share outside (0, 1].
        """
        if not 0 < share <= 1:
            raise ValueError(f"the share of a scoring that is done lies in (0, 1], found {share}")
        self._trial.report(value, round(100 * share))
        return self._trial.should_prune()

    @property
    def rungs(self) -> dict[str, float]:
        """The system attributes that the slot's trial has to carry, so that later slots are compared with it."""
        return _rungs(self._study.get_trials(deepcopy=False)[-1])


def _rungs(trial: FrozenTrial) -> dict[str, Any]:
    return {key: value for key, value in trial.system_attrs.items() if key.startswith(_RUNG)}

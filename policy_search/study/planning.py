"""What a slot of a study tries: a pure function of the seed and of the outcomes that the slot may see.

The queue comes first. Afterwards TPE (Bergstra et al., NeurIPS 2011) is asked twice: for the family, over all trials,
and for the family's own parameters, over that family's trials alone. One TPE over the whole conditional space would
split all trials into good and bad at once: a family that is worse by a constant would hold no good trial, and its
parameters would be drawn from the prior for ever, away from where it has been tried.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, TrialState

from policy_search.study.space import FAMILIES, FAMILY, Space, queue
from policy_search.study.storages.memory import in_memory, outcome
from policy_search.study.verdict import Direction

# Of a family, before families are compared: one may be bad luck. The queue leaves five trials lacking, so that three
# of the eight that a study of 20 has left go to what is better.
LEAST_TRIALS = 2
# Chance that a family is drawn evenly instead of by what was learnt: each gets at least one trial in fifty for good,
# whatever the noise of one seed has made of its first ones. TPE's own prior gives a family that never was among the
# best tenth some 5 % besides, so that more than this would only cost.
EVENLY = 0.1
_FAMILY_STREAM, _PARAMETER_STREAM = 0, 1


@dataclass(frozen=True)
class Planned:
    """What a slot tries.

    Attributes:
        params: all that `space.propose` asks for, of plain Python types.
        baseline: the policy to beat that it is; None for the others.
    """

    params: dict[str, Any]
    baseline: str | None


def plan(
    seen: Mapping[int, FrozenTrial], slot: int, *, seed: int, directions: Sequence[Direction], space: Space
) -> Planned:
    """What a slot tries.

    Args:
        seen: slot -> finished trial (complete, pruned or failed) of earlier slots, of those that the slot may see.
        slot: 0 or more.
        seed: of the study.
        directions: of its metrics.
        space: of the policies.

    Raises:
        ValueError: a slot that is not earlier is seen.
    """
    if any(number >= slot for number in seen):
        raise ValueError(f"slot {slot} may see earlier slots only, found {max(seen)}")
    first = queue(space)
    if slot < len(first):
        return Planned(dict(first[slot].params), first[slot].baseline)
    trials = [seen[number] for number in sorted(seen)]
    family = draw_family(
        trials, np.random.SeedSequence([seed, slot, _FAMILY_STREAM]), directions, families=space.families
    )
    own = np.random.SeedSequence([seed, slot, _PARAMETER_STREAM])
    return Planned(draw_parameters(family, trials, own, directions, space), None)


def draw_family(
    trials: Sequence[FrozenTrial],
    seeds: np.random.SeedSequence,
    directions: Sequence[Direction],
    *,
    families: Sequence[str] = FAMILIES,
) -> str:
    """A family, learnt from all finished trials that have one, in the order of their slots."""
    even, asked = seeds.spawn(2)
    random = np.random.default_rng(even)
    known = [trial for trial in trials if FAMILY in trial.params]
    counts = [sum(trial.params[FAMILY] == family for trial in known) for family in families]
    lacking = np.array([max(0, LEAST_TRIALS - count) for count in counts])
    if lacking.any():
        return str(random.choice(families, p=lacking / lacking.sum()))
    if random.random() < EVENLY:
        return str(random.choice(families))
    return str(_asked(known, {FAMILY: CategoricalDistribution(families)}, asked, directions, startup=0)[FAMILY])


def draw_parameters(
    family: str,
    trials: Sequence[FrozenTrial],
    seeds: np.random.SeedSequence,
    directions: Sequence[Direction],
    space: Space,
) -> dict[str, Any]:
    """The family and all its parameters, learnt from its own trials among these, in the order of their slots.

    At random until the family has one outcome more than parameters, the least that a direction can be told from.
    Baselines that lie in the family count: choices are learnt from the first, stacks too.
    """
    own = [trial for trial in trials if trial.params.get(FAMILY) == family]
    kinds = space.distributions(family)
    return {FAMILY: family, **_asked(own, kinds, seeds, directions, startup=len(kinds) + 1)}


def _asked(
    trials: Sequence[FrozenTrial],
    kinds: Mapping[str, BaseDistribution],
    seeds: np.random.SeedSequence,
    directions: Sequence[Direction],
    *,
    startup: int,
) -> dict[str, Any]:
    """Values of these parameters, learnt from these trials; at random while fewer than `startup` have an outcome."""
    # Only what TPE reads is handed on; the trials of a study carry much more.
    known = [
        outcome(
            trial.state,
            values=trial.values if trial.state == TrialState.COMPLETE else None,
            params={name: trial.params[name] for name in kinds},
            distributions=kinds,
            intermediate_values=trial.intermediate_values,
        )
        for trial in trials
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
    ]
    sampler = TPESampler(
        seed=int(seeds.generate_state(1)[0]), multivariate=True, n_startup_trials=startup, constant_liar=False
    )
    return dict(in_memory(known, directions, sampler=sampler).ask(dict(kinds)).params)

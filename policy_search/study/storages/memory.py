"""Studies that live for one question: filled with finished trials, asked, forgotten."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from policy_search.study.quiet import quiet_optuna
from policy_search.study.verdict import Direction


class _Shared(FrozenTrial):
    """A finished trial that a storage need not copy through and through, because nobody writes into it."""

    def __deepcopy__(self, memo: dict[int, Any]) -> FrozenTrial:
        # What `copy.copy` does, without asking how: a study of 2,000 trials is filled three times a trial.
        other = object.__new__(_Shared)
        other.__dict__.update(self.__dict__)
        return other


def outcome(
    state: TrialState,
    *,
    values: Sequence[float] | None = None,
    params: Mapping[str, Any] | None = None,
    distributions: Mapping[str, BaseDistribution] | None = None,
    intermediate_values: Mapping[int, float] | None = None,
    system_attrs: Mapping[str, Any] | None = None,
) -> FrozenTrial:
    """A finished trial of the given parts and nothing else. They are shared, not copied."""
    return _Shared(
        number=-1,
        trial_id=-1,
        state=state,
        value=None,
        values=values,
        datetime_start=_WHEN,
        datetime_complete=_WHEN,
        params=dict(params or {}),
        distributions=dict(distributions or {}),
        user_attrs={},
        system_attrs=dict(system_attrs or {}),
        intermediate_values=dict(intermediate_values or {}),
    )


_WHEN = datetime(1970, 1, 1)  # Optuna wants some moment


def in_memory(
    trials: Iterable[FrozenTrial],
    directions: Sequence[Direction],
    *,
    name: str | None = None,
    sampler: BaseSampler | None = None,
    pruner: BasePruner | None = None,
) -> optuna.Study:
    """A study with these finished trials, numbered in their order."""
    with quiet_optuna():
        study = optuna.create_study(study_name=name, directions=list(directions), sampler=sampler, pruner=pruner)
        for trial in trials:
            # Not `study.add_trial`, which checks every trial as if it came from a user.
            study._storage.create_new_trial(study._study_id, template_trial=trial)
    return study

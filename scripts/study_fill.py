"""Trials for a study that is to be large at once: copies of its own, written straight into its storage."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from policy_search.study.quiet import quiet_optuna
from policy_search.study.slots import SLOT, read_slots
from policy_search.study.space import Space, queue
from policy_search.study.storage import open_storage
from policy_search.study.storages.attributes import read_attributes, write_attributes
from policy_search.study.storages.rdb import RECEIPTS

CHUNK = 50  # trials whose notes are one transaction


def fill(url: str, name: str, until: int) -> None:
    """Give a study finished trials until it has this many.

    A copy has all that its model has in the storage (policy, parameters, reports, attributes, note on the dashboard),
    but a slot, a name, a hash and scores of its own. Models are the study's trials behind its queue, in turn. Files
    are not copied: the run writes what it wants in its folder when it is continued.
    """
    with quiet_optuna(), open_storage(url) as storage:
        study = optuna.load_study(storage=storage, study_name=name)
        slots = read_slots(study.get_trials(deepcopy=False))
        models = [slots.finished[slot] for slot in sorted(slots.finished) if slot >= len(queue(Space()))]
        notes = read_attributes(storage, study._study_id, [key for m in models for key in _note_keys(m._trial_id)])
        rng = random.Random(until)
        new = range(len(slots.finished), until)
        for start in range(0, len(new), CHUNK):
            written: dict[str, Any] = {}
            for slot in new[start : start + CHUNK]:
                model = models[slot % len(models)]
                number = len(study.get_trials(deepcopy=False))
                study.add_trial(_copy(model, slot, rng))
                trial_id = storage.get_trial_id_from_study_id_trial_number(study._study_id, number)
                for there, here in zip(_note_keys(model._trial_id), _note_keys(trial_id), strict=True):
                    written[here] = notes[there]
            write_attributes(study._storage, study._study_id, written)


def _note_keys(trial_id: int) -> Sequence[str]:
    return f"dashboard:{trial_id}:note_ver", f"dashboard:{trial_id}:note_str:0"


def _copy(model: FrozenTrial, slot: int, rng: random.Random) -> FrozenTrial:
    values = [rng.gauss(value, 0.02) for value in model.values] if model.state == TrialState.COMPLETE else None
    own = {SLOT: slot, "name": f"{model.user_attrs['family']}_t{slot:03d}", "hash": f"{rng.getrandbits(64):016x}"}
    return optuna.trial.create_trial(
        state=model.state, values=values, params=model.params, distributions=model.distributions,
        user_attrs={**model.user_attrs, **own}, intermediate_values=model.intermediate_values,
        system_attrs={key: value for key, value in model.system_attrs.items() if key not in RECEIPTS},
    )  # fmt: skip

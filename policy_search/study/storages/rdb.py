"""Optuna's database storage with patience: every operation is repeated while the database is away, and counts once.

Repeating needs care where the database may have done what was asked and only its answer was lost. Values, attributes
and parameters are written by key, so writing them twice is writing them once. Making a trial and changing its state
are not: each such call leaves a *receipt*, a random number in the trial's system attributes, in the same transaction.
A repeated call that finds its own receipt is done. So no trial is made twice, none that was taken from the queue is
left running for nobody, and of several workers that find a dead trial exactly one is told that it closed it.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, func, select
from sqlalchemy.orm import Session

from policy_search.study.storages.patience import Patience, StorageLostError

MADE = "policy_search:made"  # receipt of the call that made a trial
STATE = "policy_search:state"  # receipt of the call that last changed its state
RECEIPTS = (MADE, STATE)


class StudyStorage(RDBStorage):
    """An Optuna storage that outlasts a restart of its database. Made by `open_storage`; a context manager.

    Attributes:
        patience: repeats operations on the same database; also for those that are no part of Optuna.
        place: the URL without its password.
        separate_connection: PostgreSQL: makes a connection in autocommit that is not in the pool, for locks; the
            caller closes it. None for SQLite.
    """

    def __init__(
        self,
        place: str,
        patience: Patience,
        *,
        close: Callable[[], None] | None = None,
        separate_connection: Callable[[], Connection] | None = None,
        **options: Any,
    ) -> None:
        """
        Args:
            place: the storage as messages name it.
            patience: how long, and which errors pass.
            close: called once by `close`, after the connections are gone.
            separate_connection: see above.
            options: of `optuna.storages.RDBStorage`.
        """
        self.place, self.patience = place, patience
        self.separate_connection = separate_connection
        self._on_close = close
        super().__init__(**options)

    def __enter__(self) -> StudyStorage:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections and let other processes have an SQLite file; a second call does nothing."""
        self.scoped_session.remove()
        self.engine.dispose()
        if self._on_close is not None:
            self._on_close()
            self._on_close = None

    def _create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> FrozenTrial:
        receipt, tries = uuid.uuid4().hex, itertools.count()

        def attempt() -> FrozenTrial:
            with _create_scoped_session(self.scoped_session) as session:
                # The row's lock also waits for an earlier attempt that the server is still working on.
                models.StudyModel.find_or_raise_by_id(study_id, session, for_update=True)
                made = _find(session, study_id, receipt) if next(tries) else None
                if made is None:
                    made = self._get_prepared_new_trial(study_id, _without_receipts(template_trial), session)
                    session.add(
                        models.TrialSystemAttributeModel(
                            trial_id=made.trial_id, key=MADE, value_json=json.dumps(receipt)
                        )
                    )
                    if made.state == TrialState.RUNNING:
                        self._first_heartbeat(session, made.trial_id)
                    session.flush()
                return self._build_frozen_trial_from_trial_model(made)

        return self.patience.repeat(attempt)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """As Optuna's.

        Raises:
            UpdateFinishedTrialError: another call has finished the trial, be it with the same state and values. A call
                that is repeated because its own answer was lost returns True.
        """
        receipt, tries = uuid.uuid4().hex, itertools.count()

        def attempt() -> bool:
            with _create_scoped_session(self.scoped_session) as session:
                trial = models.TrialModel.find_or_raise_by_id(trial_id, session, for_update=True)
                if next(tries) and _state_receipt(session, trial_id) == receipt:
                    return True
                self.check_trial_is_updatable(trial_id, trial.state)
                if state == TrialState.RUNNING and trial.state != TrialState.WAITING:
                    return False
                for objective, value in enumerate(values or ()):
                    self._set_trial_value_without_commit(session, trial, objective, value)
                self._set_trial_attr_without_commit(session, models.TrialSystemAttributeModel, trial_id, STATE, receipt)
                trial.state = state
                if state == TrialState.RUNNING:
                    trial.datetime_start = datetime.now()
                    self._first_heartbeat(session, trial_id)
                elif state.is_finished():
                    trial.datetime_complete = datetime.now()
            return True

        return self.patience.repeat(attempt)

    def set_trial_attrs(
        self, trial_id: int, *, user: Mapping[str, Any] | None = None, system: Mapping[str, Any] | None = None
    ) -> None:
        """Several attributes of a trial that is not finished, in one transaction: each costs a write to the disk.

        Raises:
            UpdateFinishedTrialError: the trial is finished.
        """

        def attempt() -> None:
            with _create_scoped_session(self.scoped_session) as session:
                trial = models.TrialModel.find_or_raise_by_id(trial_id, session, for_update=True)
                self.check_trial_is_updatable(trial_id, trial.state)
                kinds = (
                    (models.TrialUserAttributeModel, user or {}), (models.TrialSystemAttributeModel, system or {}),
                )  # fmt: skip
                for kind, attributes in kinds:
                    for key, value in attributes.items():
                        self._set_trial_attr_without_commit(session, kind, trial_id, key, value)

        self.patience.repeat(attempt)

    def _first_heartbeat(self, session: Session, trial_id: int) -> None:
        """A trial that runs has a heartbeat from the start: Optuna leaves one whose worker dies before it for ever."""
        if self.heartbeat_interval is None:
            return
        beat = models.TrialHeartbeatModel.where_trial_id(trial_id, session)
        if beat is None:
            session.add(models.TrialHeartbeatModel(trial_id=trial_id))
        else:
            beat.heartbeat = func.current_timestamp()

    def record_heartbeat(self, trial_id: int) -> None:
        """A sign of life. It never raises a loss, which would end Optuna's thread: the trial itself meets it too."""
        with contextlib.suppress(StorageLostError):
            self.patience.repeat(lambda: RDBStorage.record_heartbeat(self, trial_id))

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        """Trials without a sign of life for the grace period; time before the server's last start does not count, as
        nobody could send one while it was away."""
        grace = timedelta(seconds=self.grace_period or 2 * (self.heartbeat_interval or 0))

        def attempt() -> list[int]:
            with _create_scoped_session(self.scoped_session) as session:
                now, started = session.execute(select(func.now(), func.pg_postmaster_start_time())).one()
                now, started = now.replace(tzinfo=None), started.replace(tzinfo=None)
                beats = session.execute(
                    select(models.TrialModel.trial_id, models.TrialHeartbeatModel.heartbeat)
                    .join(models.TrialHeartbeatModel)
                    .where(models.TrialModel.study_id == study_id, models.TrialModel.state == TrialState.RUNNING)
                    .order_by(models.TrialModel.trial_id)
                ).all()
                return [trial_id for trial_id, beat in beats if now - max(beat, started) > grace]

        return self.patience.repeat(attempt)


def _find(session: Session, study_id: int, receipt: str) -> models.TrialModel | None:
    """The trial that a call with this receipt made."""
    attribute = models.TrialSystemAttributeModel
    return (
        session.query(models.TrialModel)
        .join(attribute)
        .filter(models.TrialModel.study_id == study_id)
        .filter(attribute.key == MADE, attribute.value_json == json.dumps(receipt))
        .one_or_none()
    )


def _state_receipt(session: Session, trial_id: int) -> str | None:
    attribute = models.TrialSystemAttributeModel
    text = session.execute(
        select(attribute.value_json).where(attribute.trial_id == trial_id, attribute.key == STATE)
    ).scalar_one_or_none()
    return None if text is None else str(json.loads(text))


def _without_receipts(template: FrozenTrial | None) -> FrozenTrial | None:
    """A template may be the copy of a trial, and the receipts are not its own then."""
    if template is None or not any(key in template.system_attrs for key in RECEIPTS):
        return template
    template = copy.copy(template)
    template.system_attrs = {k: v for k, v in template.system_attrs.items() if k not in RECEIPTS}
    return template


def _patient(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def repeat(self: StudyStorage, *args: Any, **kwargs: Any) -> Any:
        return self.patience.repeat(lambda: method(self, *args, **kwargs))

    return repeat


# The rest is safe to repeat as it is. `create_new_study` whose answer was lost says that the study exists, which
# `create_study(load_if_exists=True)` takes as success. `_CachedStorage`, which Optuna puts in front, calls those with
# an underscore.
for _name in (
    "create_new_study", "delete_study", "set_study_user_attr", "set_study_system_attr", "get_study_id_from_name",
    "get_study_name_from_id", "get_study_directions", "get_study_user_attrs", "get_study_system_attrs",
    "get_all_studies", "_set_trial_param", "get_trial_param", "set_trial_intermediate_value", "set_trial_user_attr",
    "set_trial_system_attr", "get_trial_user_attrs", "get_trial_system_attrs",
    "get_trial_id_from_study_id_trial_number", "get_trial", "_get_trials", "_get_best_trial_id",
):  # fmt: skip
    setattr(StudyStorage, _name, _patient(getattr(RDBStorage, _name)))

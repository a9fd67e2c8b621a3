"""Attributes in one transaction, read back through Optuna's own interface."""

from __future__ import annotations

import threading

import optuna
import pytest
from optuna.storages import RDBStorage

from policy_search.study.storage import open_storage
from policy_search.study.storages.attributes import read_attributes, trial_attributes, write_attributes


@pytest.fixture(params=["sqlite", "postgres"])
def study(request, tmp_path):
    url = f"sqlite:///{tmp_path}/study.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    with open_storage(url) as storage:
        yield optuna.create_study(storage=storage)


def test_what_is_written_is_what_optuna_reads(study):
    trial = study.ask()
    storage, identity = study._storage, study._study_id
    storage.set_study_system_attr(identity, "theirs", 1)
    values = {"text": "é|\n'", "number": 1.5, "list": [1, None], "theirs": 2}
    write_attributes(storage, identity, values, trials={trial._trial_id: {"mine": {"a": "b"}}})
    found = storage.get_study_system_attrs(identity)
    assert {key: found[key] for key in values} == values
    assert storage.get_trial_system_attrs(trial._trial_id)["mine"] == {"a": "b"}
    assert read_attributes(storage, identity, ["text", "absent"]) == {"text": values["text"]}


def test_removed_keys_are_gone_and_kept_when_written(study):
    storage, identity = study._storage, study._study_id
    write_attributes(storage, identity, {"a": 1, "b": 2, "c": 3})
    write_attributes(storage, identity, {"b": 4}, remove=["a", "b", "never"])
    found = storage.get_study_system_attrs(identity)
    assert found["b"] == 4
    assert found["c"] == 3
    assert "a" not in found
    assert "never" not in found


def test_studies_do_not_see_each_other(tmp_path):
    storage = RDBStorage(f"sqlite:///{tmp_path}/study.db")
    first, second = (optuna.create_study(storage=storage, study_name=name) for name in "ab")
    write_attributes(storage, first._study_id, {"key": 1})
    write_attributes(storage, second._study_id, {}, remove=["key"])
    assert read_attributes(storage, first._study_id, ["key"]) == {"key": 1}
    assert read_attributes(storage, second._study_id, ["key"]) == {}


def test_finished_trials_of_a_database_can_be_written(study):
    study.optimize(lambda trial: 1.0, n_trials=1)
    identity = study.trials[0]._trial_id
    write_attributes(study._storage, study._study_id, {}, trials={identity: {"late": True}})
    assert trial_attributes(study._storage, identity)["late"] is True


def test_all_or_nothing(tmp_path):
    """A trial that does not exist breaks the transaction after the study's attributes were written."""
    study = optuna.create_study(storage=f"sqlite:///{tmp_path}/study.db")
    with pytest.raises(TypeError):
        write_attributes(study._storage, study._study_id, {"a": 1}, trials={1: {"bad": object()}})
    assert "a" not in study._storage.get_study_system_attrs(study._study_id)


def test_many_writers_leave_one_whole_text(study):
    """Each writes all parts with its own letter; a mixture would show two letters."""
    errors = []

    def write(letter):
        try:
            for _ in range(5):
                write_attributes(study._storage, study._study_id, {f"part{i}": letter for i in range(6)}, remove=["x"])
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    seen = set()
    while any(thread.is_alive() for thread in threads):
        seen.add(frozenset(read_attributes(study._storage, study._study_id, [f"part{i}" for i in range(6)]).values()))
    assert errors == []
    assert all(len(letters) <= 1 for letters in seen)


def test_the_patience_of_a_storage_is_used(tmp_path):
    class Patience:
        calls = 0

        def repeat(self, attempt):
            self.calls += 1
            return attempt()

    storage = RDBStorage(f"sqlite:///{tmp_path}/study.db")
    storage.patience = Patience()
    study = optuna.create_study(storage=storage)
    write_attributes(study._storage, study._study_id, {"a": 1})
    assert read_attributes(study._storage, study._study_id, ["a"]) == {"a": 1}
    assert storage.patience.calls == 2

"""Studies and run folders that are another run's, or of another version."""

from __future__ import annotations

import json
from pathlib import Path

import optuna
import pytest

from policy_search.cells.errors import InputError
from policy_search.config import RunConfig
from policy_search.study.runner import Progress
from tests.study.rules import Rule, Run, log


def test_another_configuration_is_refused(study: Run, root: Path) -> None:
    study(Rule(), trials=2)
    with pytest.raises(InputError, match=r"steps was 200, now 7.*Choose another --out"):
        study(Rule(), trials=2, steps=7)
    next(root.glob("images/*/A172/*_B1_*")).write_bytes(next(root.glob("images/*/A172/*_A1_*")).read_bytes())
    with pytest.raises(InputError, match="the data has changed"):
        study(Rule(), trials=2)


@pytest.mark.parametrize("option", [{"trials": 0}, {"final_seeds": 1}, {"probe_crop": 100}, {"stepz": 3}])
def test_bad_options_are_named(option: dict[str, int], tmp_path: Path) -> None:
    name = "--" + next(iter(option)).replace("_", "-")
    with pytest.raises(InputError, match=name):
        RunConfig(data="A172", out=tmp_path, **option)


def test_a_folder_has_one_owner(study: Run) -> None:
    def second(event: Progress) -> None:
        if event.kind == "trial" and event.done == 1:
            with pytest.raises(InputError, match="another run is working"):
                study(Rule())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study(Rule(), progress=second)
    assert study(Rule(), trials=2).best_path.is_file()


def test_storage_of_another_study_is_refused(study: Run, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    study(Rule(), "one", trials=2, storage=url)
    with pytest.raises(InputError, match=r"a study named 'A172 seed 0' already.*policy-search worker.*another --study"):
        study(Rule(), "two", trials=2, storage=url)
    other = study(Rule(), "three", trials=2, storage=url, study="of my own", steps=9)
    assert other.best.provenance.study == "of my own"
    moved = tmp_path / "one" / "config.json"
    moved.write_text(moved.read_text().replace('"steps": 200', '"steps": 7'))
    with pytest.raises(InputError, match=r"of another configuration \(steps was 200, now 7\)"):
        study(Rule(), "one", trials=2, storage=url, steps=7)


def test_a_study_of_an_older_version_is_refused_and_left_alone(study: Run, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'old.db'}"
    old = optuna.create_study(storage=url, study_name="A172 seed 0", direction="maximize")
    old.set_user_attr("config", {"data": "A172"})
    old.add_trial(optuna.trial.create_trial(value=1.0, user_attrs={"slot": 0}))
    with pytest.raises(InputError, match=r"made by another version of policy-search \(schema 1, this one.* 2\)"):
        study(Rule(), storage=url)
    again = optuna.load_study(study_name="A172 seed 0", storage=url)
    assert again.user_attrs == {"config": {"data": "A172"}}
    assert len(again.trials) == 1
    foreign = optuna.create_study(storage=url, study_name="mine", direction="maximize")
    foreign.set_user_attr("about", "something else")
    with pytest.raises(InputError, match="was not made by policy-search"):
        study(Rule(), "other", storage=url, study="mine")


def test_a_run_folder_of_an_older_version_is_refused(study: Run, tmp_path: Path) -> None:
    first = study(Rule(), trials=1)
    config = json.loads((first.folder / "config.json").read_text())
    del config["objective"]
    (first.folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"of an earlier version of policy-search \(it has no objective\)"):
        study(Rule(), trials=2)


def test_a_study_that_was_half_made_is_made_whole(study: Run, tmp_path: Path) -> None:
    """A process that is killed between making a study and the last word on it."""
    whole = study(Rule(), "whole", trials=2)
    (tmp_path / "half").mkdir()
    url = f"sqlite:///{tmp_path / 'half' / 'study.db'}"
    half = optuna.create_study(storage=url, study_name="A172 seed 0", direction="maximize")
    half.set_user_attr("schema", 2)
    (tmp_path / "half" / "config.json").write_bytes((tmp_path / "whole" / "config.json").read_bytes())
    outcome = study(Rule(), "half", trials=2)
    assert log(outcome) == log(whole)
    found = optuna.load_study(storage=url, study_name="A172 seed 0").user_attrs
    assert set(found) == {"schema", "config", "fingerprint", "run"}

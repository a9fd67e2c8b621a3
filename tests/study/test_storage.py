"""Storage URLs: what opens, and what is refused with a sentence that helps."""

from __future__ import annotations

import os
from pathlib import Path

import optuna
import pytest

from policy_search.cells.errors import InputError
from policy_search.study.storage import default_url, open_storage


def test_default_is_the_run_folders_own_file(tmp_path: Path) -> None:
    study = optuna.create_study(storage=open_storage(default_url(tmp_path)), study_name="x")
    study.add_trial(optuna.trial.create_trial(value=1.0))
    assert (tmp_path / "study.db").is_file()
    assert len(optuna.load_study(study_name="x", storage=open_storage(default_url(tmp_path))).trials) == 1


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("study.db", "no scheme"),
        ("mysql://host/db", "'mysql' is not supported"),
        ("postgresql://host", "no database name"),
        ("sqlite://", "file name"),
        ("sqlite:///", "file name"),
    ],
)
def test_other_urls_are_refused(url: str, found: str) -> None:
    with pytest.raises(InputError, match=found) as error:
        open_storage(url)
    assert "sqlite:///" in str(error.value)


def test_files_that_cannot_hold_a_study_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is missing"):
        open_storage(f"sqlite:///{tmp_path / 'no' / 'study.db'}")
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(b"this is not a database, but long enough to look like a file with something in it" * 20)
    with pytest.raises(InputError, match=r"cannot open|not a study database"):
        open_storage(f"sqlite:///{damaged}")
    with pytest.raises(InputError, match="cannot open"):
        open_storage(f"sqlite:///{tmp_path}")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "study.db"
    file.touch(mode=0o400)
    with pytest.raises(InputError, match="cannot open"):
        open_storage(f"sqlite:///{file}")

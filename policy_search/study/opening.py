"""Making or opening the two studies of a run in their storage, and refusing those that are another run's."""

from __future__ import annotations

from typing import Any

import optuna
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from policy_search.cells.errors import InputError
from policy_search.config import RunConfig
from policy_search.study.finals import SUFFIX
from policy_search.study.folder import RunFolder
from policy_search.study.objective import Objective
from policy_search.study.storage import StudyStorage, redacted
from policy_search.study.storages.locks import claim_lock
from policy_search.study.storages.url import is_sqlite, sqlite_path

SCHEMA = 2  # of what is kept in a study; 1 kept policies in the run folder alone
# Of a configuration, what another machine decides by itself.
LOCAL = ("out", "root", "storage", "artifacts", "weights")


def open_study(
    storage: StudyStorage, url: str, config: RunConfig, fingerprint: str, objective: Objective, *, begun: bool
) -> optuna.Study:
    """The first round's study: made where there is none, else checked.

    Args:
        storage: behind `url`.
        url: for messages.
        config: of the run.
        fingerprint: of the data.
        objective: gives metrics and directions of a new study.
        begun: whether the caller continues this study; else one of that name is another run's.

    Raises:
        InputError: a study of that name that is another run's, of other data, or of another version.
    """
    name = config.study_name
    with claim_lock(storage, name):
        try:
            study = optuna.create_study(
                storage=storage, study_name=name, directions=list(objective.directions),
                pruner=optuna.pruners.NopPruner(),
            )  # fmt: skip
        except optuna.exceptions.DuplicatedStudyError:
            study = optuna.load_study(storage=storage, study_name=name, pruner=optuna.pruners.NopPruner())
            # A process that ended within this block left a study without a trial, and without the last of the words
            # that are written on it below.
            if not _half_made(study):
                require_schema(study, url)
                if not begun:
                    raise InputError(
                        f"{redacted(url)} holds a study named {name!r} already, which another run began. To share its "
                        f"work: policy-search worker --storage URL --study {name!r}. To continue it from here: "
                        f"policy-search resume --storage URL --study {name!r} --out FOLDER. Else give another --study."
                    ) from None
                check_same(study, url, config, fingerprint)
                study.set_user_attr("run", shared_part(config))
                return study
        study.set_metric_names(list(objective.metrics))
        study.set_user_attr("schema", SCHEMA)
        study.set_user_attr("config", config.identity())
        study.set_user_attr("fingerprint", fingerprint)
        study.set_user_attr("run", shared_part(config))
        return study


def _half_made(study: optuna.Study) -> bool:
    said = set(study.user_attrs)
    return said <= {"schema", "config", "fingerprint"} and not study.get_trials(deepcopy=False)


def require_begun(url: str) -> None:
    """Raises InputError for an SQLite file that is not there: opening it would make one."""
    if is_sqlite(url) and not sqlite_path(url).is_file():
        raise InputError(f"--storage {url}: there is no such file; name the one that policy-search run has begun")


def require_trials(folder: RunFolder, storage: StudyStorage, url: str, name: str) -> None:
    """Raises InputError where a run folder has finished trials and its storage knows nothing of the study: it was lost
    or is another one, and the run would begin anew."""
    if folder.has_trials and name not in optuna.get_all_study_names(storage):
        raise InputError(_lost(folder, url, name))


def require_database(folder: RunFolder, url: str, name: str) -> None:
    """As `require_trials`, before an SQLite file is made that is missing."""
    if folder.has_trials and is_sqlite(url) and not sqlite_path(url).is_file():
        raise InputError(_lost(folder, url, name))


def _lost(folder: RunFolder, url: str, name: str) -> str:
    return (
        f"{folder.path} holds finished trials, and {redacted(url)} holds no study named {name!r} for them: bring that "
        "storage back, give the --storage and --study of this run, or choose another --out to start over"
    )


def load_shared(storage: RDBStorage, url: str, name: str) -> optuna.Study:
    """A study that some run has begun.

    Raises:
        InputError: no such study, or one of another version.
    """
    try:
        study = optuna.load_study(storage=storage, study_name=name, pruner=optuna.pruners.NopPruner())
    except KeyError:
        there = [n for n in optuna.get_all_study_names(storage) if not n.endswith(SUFFIX)]
        found = f"it holds {', '.join(repr(n) for n in there)}" if there else "it holds none"
        raise InputError(
            f"{redacted(url)} holds no study named {name!r} ({found}). Begin it with policy-search run --storage URL."
        ) from None
    require_schema(study, url)
    return study


def config_in(study: optuna.Study, **local: Any) -> RunConfig:
    """The configuration of a shared study on this machine; `local` gives what is decided here."""
    return RunConfig(**{**study.user_attrs["run"], **local})


def shared_part(config: RunConfig) -> dict[str, Any]:
    """What workers on other machines need of a configuration. Its storage URL, which may hold a password, is not."""
    return config.model_dump(mode="json", exclude=set(LOCAL))


def open_second_round(storage: StudyStorage, study: optuna.Study, judge: Objective) -> optuna.Study:
    """The second round's study. To be called under the claim lock of the first round's."""
    second = optuna.create_study(
        storage=storage, study_name=study.study_name + SUFFIX, direction=judge.directions[0], load_if_exists=True,
        pruner=optuna.pruners.NopPruner(),
    )  # fmt: skip
    if "schema" not in second.user_attrs:
        second.set_metric_names(list(judge.metrics))
        second.set_user_attr("schema", SCHEMA)
    return second


def close_abandoned(study: optuna.Study) -> None:
    """Free the slots of trials that are still called running, in a storage that one process has for itself."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)


def require_schema(study: optuna.Study, url: str) -> None:
    """Raises InputError for a study of another version of policy-search, or of another program."""
    found = study.user_attrs.get("schema", 1 if "config" in study.user_attrs else None)
    if found == SCHEMA:
        return
    if found is None:
        made = "was not made by policy-search"
    else:
        made = f"was made by another version of policy-search (schema {found}, this one reads and writes {SCHEMA})"
    raise InputError(
        f"the study {study.study_name!r} in {redacted(url)} {made}; nothing in it was changed. Give another --study or "
        "--storage, or use the version that made it."
    )


def check_same(study: optuna.Study, url: str, config: RunConfig, fingerprint: str) -> None:
    """Whether a study was begun with this configuration and data.

    Raises:
        InputError: it was not; names the first difference.
    """
    kept, wanted = study.user_attrs.get("config", {}), config.identity()
    other = [key for key in wanted if kept.get(key) != wanted[key]]
    if other:
        raise InputError(
            f"{redacted(url)} holds a study named {study.study_name!r} of another configuration ({other[0]} was "
            f"{kept.get(other[0])!r}, now {wanted[other[0]]!r}): give another --study, or the options it was begun with"
        )
    if study.user_attrs.get("fingerprint") != fingerprint:
        raise InputError(
            f"{redacted(url)} holds a study named {study.study_name!r} of other data: images, labels or --weights "
            "differ from those it was begun with. Bring the same here, or give another --study."
        )

"""What the dashboard shows of each trial: before/after sheet, losses, the policy's file, and the note around them.

Pictures are never worth a score: whatever goes wrong here comes back as a sentence, and the trial goes on.
"""

from __future__ import annotations

import io
import json
import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import optuna
from optuna.artifacts import FileSystemArtifactStore
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from policy_search.augment import PolicyDocument
from policy_search.cells.errors import InputError
from policy_search.cells.files import replacing
from policy_search.study.loss_figure import loss_svg
from policy_search.study.notes import DataFacts, StudyFacts, TrialFacts, study_note, trial_note
from policy_search.study.probe import ProbeSample
from policy_search.study.quick_sheet import sheet_png, sources
from policy_search.study.standing import standing
from policy_search.study.storages.attributes import read_attributes, trial_attributes, write_attributes
from policy_search.study.storages.patience import StorageLostError
from policy_search.study.study_figures import study_figures
from policy_search.study.verdict import Direction

SHEET, LOSSES, POLICY = "before_after.png", "losses.svg", "policy.json"
_MIME = {SHEET: "image/png", LOSSES: "image/svg+xml", POLICY: "application/json"}
_TITLES = {SHEET: "Before and after", LOSSES: "Losses"}
# Keys that optuna-dashboard and optuna.artifacts read; tests read them back through both.
_ARTIFACT = "artifacts:"
_MOST_PARTS = 80  # of a note that was edited in the browser
KEEP = "## Your notes\n\nWhat you write below this line is kept; all above is written anew while the study runs."


class ArtifactStore(Protocol):
    """Where artifacts are written."""

    def write(self, artifact_id: str, content_body: BinaryIO) -> None: ...


class WholeFiles(FileSystemArtifactStore):
    """Artifacts in a folder, each written in one step: a full disk leaves no half of a file."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._folder = folder

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Write a file, or nothing.

        Raises:
            OSError: the disk is full.
            InputError: the folder cannot be made or written.
        """
        with replacing(self._folder / artifact_id) as scratch:
            scratch.write_bytes(content_body.read())


class Gallery:
    """Writes what the dashboard shows into a study's storage and an artifact folder.

    Args:
        folder: the artifact folder; made when the first artifact is written.
        samples: training images; up to three of them are shown or pasted from.
        data: of the study.
        metrics, directions: of the objective.
        seed: of the draws in the sheets.
        store: where artifacts go instead of the folder.
    """

    def __init__(
        self,
        folder: Path,
        samples: Sequence[ProbeSample],
        data: DataFacts,
        *,
        metrics: Sequence[str],
        directions: Sequence[Direction],
        seed: int = 0,
        store: ArtifactStore | None = None,
    ) -> None:
        self._store = store or WholeFiles(folder)
        self._windows, self._data, self._seed = sources(samples), data, seed
        self._metrics, self._directions = metrics, directions

    def show_trial(
        self,
        study: optuna.Study,
        trial: optuna.Trial | FrozenTrial,
        document: PolicyDocument,
        facts: TrialFacts,
        losses: Mapping[str, Sequence[float]] | None = None,
        *,
        steps: Mapping[str, tuple[int, int]] | None = None,
    ) -> str | None:
        """Write a trial's pictures, policy and note, in place of those it may have.

        Args:
            study: of the trial.
            trial: running or finished.
            document: its policy.
            facts: of the trial; `pictures` and `missing` are filled in here.
            losses, steps: see `loss_svg`; without a loss there is no figure.

        Returns:
            None, or a sentence on what is not shown and why: a picture is never worth a score.

        Raises:
            StorageLostError: the storage is away for longer than the study waits; nothing else is raised.
        """
        try:
            files, problems = self._files(document, losses or {}, steps or {})
            kept, lost = self._keep(study, trial, files)
            problems += lost
            url = f"/artifacts/{study._study_id}/{trial._trial_id}/"
            pictures = {_TITLES[name]: f"{url}{kept[name]}" for name in _TITLES if name in kept}
            facts = replace(facts, pictures=pictures, missing="; ".join(problems))
            so_far = standing(study.get_trials(deepcopy=False), self._metrics, self._directions, without=trial.number)
            text = trial_note(document, facts, so_far, self._data)
            attributes, old = note_attributes(study._storage, study._study_id, text, trial._trial_id)
            metadata = {f"{_ARTIFACT}{kept[name]}": _metadata(kept[name], name) for name in kept}
            write_attributes(
                study._storage, study._study_id, attributes, remove=old, trials={trial._trial_id: metadata}
            )
        except StorageLostError:
            raise  # the run itself cannot go on
        except Exception as error:
            problems = [_reason(error)]
        if not problems:
            return None
        return f"the dashboard does not show all of trial {trial.number} ({'; '.join(problems)}); its score is kept"

    def show_study(self, study: optuna.Study, facts: StudyFacts) -> str | None:
        """Write the study's note and figures in place of the present ones. It reads all trials.

        Args:
            study: as it is now.
            facts: of the study; `trials_url` is filled in here.

        Returns:
            None, or a sentence on what is not shown and why.

        Raises:
            StorageLostError: as for `show_trial`.
        """
        try:
            stand = standing(study.get_trials(deepcopy=False), self._metrics, self._directions)
            facts = replace(facts, trials_url=f"/dashboard/studies/{study._study_id}/trials?numbers=")
            text = study_note(stand, facts, self._data)
            attributes, old = note_attributes(study._storage, study._study_id, text, None)
            for name, figure in study_figures(stand).items():
                attributes[f"dashboard:plot_data:{name}:0"] = figure
            write_attributes(study._storage, study._study_id, attributes, remove=old)
        except StorageLostError:
            raise
        except Exception as error:
            return f"the dashboard's note on the study is not up to date ({_reason(error)}); the study goes on"
        return None

    def _files(
        self, document: PolicyDocument, losses: Mapping[str, Sequence[float]], steps: Mapping[str, tuple[int, int]]
    ) -> tuple[dict[str, bytes], list[str]]:
        """Content by file name, and what could not be made."""
        files, problems = {}, []
        try:
            files[SHEET] = sheet_png(document, self._windows, seed=self._seed)
        except Exception as error:  # a policy that cannot be applied here has failed in the probe, which says so
            problems.append(f"no before/after sheet: {_reason(error)}")
        if any(math.isfinite(value) for values in losses.values() for value in values):
            files[LOSSES] = loss_svg(losses, steps=steps).encode()
        files[POLICY] = json.dumps(document.to_dict(), allow_nan=False).encode()  # indenting costs ten times more
        return files, problems

    def _keep(
        self, study: optuna.Study, trial: optuna.Trial | FrozenTrial, files: Mapping[str, bytes]
    ) -> tuple[dict[str, str], list[str]]:
        """Write the files; artifact ids by file name, and why some were not kept. A file of that name is replaced."""
        present = {}
        for key, value in trial_attributes(study._storage, trial._trial_id).items():
            if key.startswith(_ARTIFACT):
                present[json.loads(value)["filename"]] = key.removeprefix(_ARTIFACT)
        kept: dict[str, str] = {}
        for name, content in files.items():
            identity = present.get(name) or str(uuid.uuid4())
            try:
                self._store.write(identity, io.BytesIO(content))
            except (OSError, InputError) as error:
                return kept, [f"{name} could not be written: {_reason(error)}"]  # nor could the next one
            kept[name] = identity
        return kept, []


def note_attributes(
    storage: BaseStorage, study_id: int, text: str, trial_id: int | None
) -> tuple[dict[str, Any], list[str]]:
    """A note as the study attributes that hold it, the version first, and the keys of further parts it may have had.

    The dashboard cuts texts into parts of 2045 characters, for columns that Optuna no longer has, and reads parts of
    any length. Here a text is one part: it is read whole or not at all, and the dashboard, which goes through all
    attributes for every trial, has fewer to go through. A study's note ends in a part that people write; it is kept.
    """
    prefix = "dashboard:" if trial_id is None else f"dashboard:{trial_id}:"
    version, *parts = [f"{prefix}note_ver", *(f"{prefix}note_str:{part}" for part in range(_MOST_PARTS))]
    present = read_attributes(storage, study_id, [version, *(parts if trial_id is None else [])])
    if trial_id is None:
        before = "".join(present.get(part, "") for part in parts)
        text = f"{text}\n{KEEP}{before.partition(KEEP)[2]}"
    return {version: int(present.get(version, 0)) + 1, parts[0]: text}, parts[1:]


def _metadata(identity: str, name: str) -> str:
    return json.dumps({"artifact_id": identity, "filename": name, "mimetype": _MIME[name], "encoding": None})


def _reason(error: BaseException) -> str:
    """One line on what went wrong: the innermost cause, as Optuna and SQLAlchemy wrap what the database says."""
    cause = error.__cause__ or error
    cause = getattr(cause, "orig", None) or cause
    text = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)
    return " ".join((text or type(cause).__name__).split())[:200]

"""The gallery: artifacts and notes in a real storage, read back through Optuna and optuna-dashboard."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import signal
import xml.etree.ElementTree as ET

import optuna
import pytest
from optuna.artifacts import FileSystemArtifactStore, get_all_artifact_meta
from optuna.storages import RDBStorage
from optuna_dashboard import get_note, save_note
from optuna_dashboard._note import get_note_from_system_attrs, save_note_with_version

from policy_search.augment import PolicyDocument, baseline
from policy_search.study.artifacts import KEEP, LOSSES, POLICY, SHEET, Gallery
from policy_search.study.notes import DataFacts, StudyFacts, TrialFacts
from policy_search.study.quick_sheet import sheet_png, sources
from policy_search.study.storages.patience import StorageLostError
from tests.study.conftest import culture

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
DATA = DataFacts("A172", False, "somewhere")
FACTS = TrialFacts("flip", "naive", (0.5,))
CURVE = {"probe": (2.0, 1.0, 0.5)}
SAMPLES = [culture(seed, 100, 90, 6) for seed in range(3)]


@pytest.fixture
def study(tmp_path):
    made = optuna.create_study(storage=f"sqlite:///{tmp_path}/study.db", direction="maximize")
    made.set_metric_names(["matched"])
    return made


def gallery(folder, **options):
    return Gallery(folder, SAMPLES, DATA, metrics=("matched",), directions=("maximize",), **options)


def note_of(study, trial):
    attributes = study._storage.get_study_system_attrs(study._study_id)
    return get_note_from_system_attrs(attributes, trial._trial_id)["body"]


def content(study, trial, folder):
    """(mime type, bytes) by file name, as Optuna finds them."""
    store = FileSystemArtifactStore(folder)
    found = {}
    storage = RDBStorage(str(study._storage._backend.engine.url))  # without what this process has cached
    for meta in get_all_artifact_meta(study_or_trial=trial, storage=storage):
        with store.open_reader(meta.artifact_id) as file:
            found[meta.filename] = (meta.mimetype, file.read(), meta.artifact_id)
    return found


@pytest.mark.parametrize("when", ["running", "finished"])
def test_a_trial_gets_files_and_a_note_around_them(study, tmp_path, when):
    trial = study.ask()
    if when == "finished":
        study.tell(trial, 0.5)
        trial = study.trials[0]
    document = baseline("flip")
    assert gallery(tmp_path / "art").show_trial(study, trial, document, FACTS, CURVE) is None
    found = content(study, trial, tmp_path / "art")
    assert {name: mime for name, (mime, _, _) in found.items()} == {
        SHEET: "image/png", LOSSES: "image/svg+xml", POLICY: "application/json",
    }  # fmt: skip
    assert found[SHEET][1] == sheet_png(document, sources(SAMPLES), seed=0)
    assert ET.fromstring(found[LOSSES][1]).tag.endswith("svg")
    assert PolicyDocument.from_dict(json.loads(found[POLICY][1])).content_hash == document.content_hash
    note = note_of(study, trial)
    for name in (SHEET, LOSSES):
        assert f"](/artifacts/{study._study_id}/{trial._trial_id}/{found[name][2]})" in note
    assert "**matched = 0.500**" in note


def test_without_losses_there_is_no_figure(study, tmp_path):
    trial = study.ask()
    assert gallery(tmp_path).show_trial(study, trial, baseline("flip"), FACTS, {"probe": (float("nan"),)}) is None
    assert set(content(study, trial, tmp_path)) == {SHEET, POLICY}
    assert "Losses" not in note_of(study, trial)


@pytest.mark.parametrize("when", ["running", "finished"])
def test_a_second_time_replaces_the_first(study, tmp_path, when):
    trial, shown = study.ask(), gallery(tmp_path / "art")
    if when == "finished":
        study.tell(trial, 0.5)
        trial = study.trials[0]
    shown.show_trial(study, trial, baseline("flip"), FACTS, CURVE)
    before = content(study, trial, tmp_path / "art")
    assert shown.show_trial(study, trial, baseline("crop"), TrialFacts("crop", "naive", (0.4,)), CURVE) is None
    after = content(study, trial, tmp_path / "art")
    assert [v[2] for v in after.values()] == [v[2] for v in before.values()]
    assert len(os.listdir(tmp_path / "art")) == 3
    assert note_of(study, trial).startswith("# crop")


def test_nothing_is_left_of_a_longer_note_that_was_edited_in_the_browser(study, tmp_path):
    trial, shown = study.ask(), gallery(tmp_path / "art")
    shown.show_trial(study, trial, baseline("flip"), FACTS)
    first = note_of(study, trial)
    save_note_with_version(study._storage, study._study_id, trial._trial_id, 2, "x" * 20_000)
    assert len(note_of(study, trial)) == 20_000
    shown.show_trial(study, trial, baseline("flip"), FACTS)
    assert note_of(study, trial) == first


class FullDisk:
    """A store on which the second file finds no room."""

    def __init__(self):
        self.written = []

    def write(self, artifact_id, content_body):
        if self.written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.written.append(artifact_id)


def test_a_full_disk_is_told_and_what_was_kept_is_shown(study, tmp_path):
    trial, store = study.ask(), FullDisk()
    warning = gallery(tmp_path, store=store).show_trial(study, trial, baseline("flip"), FACTS, CURVE)
    assert "No space left on device" in warning
    assert "its score is kept" in warning
    assert [m.artifact_id for m in get_all_artifact_meta(study_or_trial=trial, storage=study._storage)] == store.written
    note = note_of(study, trial)
    assert note.count("](/artifacts/") == 1
    assert f"**Not everything could be kept:** {LOSSES} could not be written: No space left on device" in note
    study.tell(trial, 0.5)
    assert study.best_value == 0.5


def test_a_file_is_whole_or_absent_when_the_disk_fills(study, tmp_path):
    """The kernel refuses what goes past 4 kB: the sheet is larger, and its beginning must not stay."""
    trial, folder = study.ask(), tmp_path / "art"
    shown = gallery(folder)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    kept = shown._store.write
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def limited(artifact_id, content_body):
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        try:
            kept(artifact_id, content_body)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    shown._store.write = limited
    try:
        warning = shown.show_trial(study, trial, baseline("flip"), FACTS, CURVE)
    finally:
        signal.signal(signal.SIGXFSZ, before)
    assert f"{SHEET} could not be written: File too large" in warning
    assert os.listdir(folder) == []
    assert get_all_artifact_meta(study_or_trial=trial, storage=study._storage) == []


def test_a_folder_that_cannot_be_made_is_told(study, tmp_path):
    (tmp_path / "file").write_text("")
    trial = study.ask()
    warning = gallery(tmp_path / "file" / "art").show_trial(study, trial, baseline("flip"), FACTS)
    assert "Not a directory" in warning or "File exists" in warning
    assert "How to use it" in note_of(study, trial)


def test_a_policy_that_cannot_be_applied_still_has_its_note(study, tmp_path):
    document = baseline("flip")
    bad = {"__class_fullname__": "Compose", "p": 1.0, "transforms": [
        {"__class_fullname__": "Resize", "height": 7, "width": 7, "p": 1.0}]}  # fmt: skip
    object.__setattr__(document, "transform", bad)
    trial = study.ask()
    warning = gallery(tmp_path / "art").show_trial(study, trial, document, FACTS, CURVE)
    assert "no before/after sheet" in warning
    assert set(content(study, trial, tmp_path / "art")) == {LOSSES, POLICY}


def test_a_storage_that_is_gone_is_told(study, tmp_path):
    trial, shown = study.ask(), gallery(tmp_path / "art")
    study._storage._backend.engine.dispose()
    (tmp_path / "study.db").unlink()
    assert "no such table" in shown.show_trial(study, trial, baseline("flip"), FACTS)
    assert "not up to date" in shown.show_study(study, StudyFacts("run", 2))


def test_a_storage_that_is_lost_for_good_ends_the_run(study, tmp_path):
    class Patience:
        def repeat(self, attempt):
            raise StorageLostError("the storage is away")

    study._storage._backend.patience = Patience()
    with pytest.raises(StorageLostError):
        gallery(tmp_path / "art").show_trial(study, study.ask(), baseline("flip"), FACTS)
    with pytest.raises(StorageLostError):
        gallery(tmp_path / "art").show_study(study, StudyFacts("run", 2))


def test_the_study_note_is_brought_up_to_date_and_keeps_what_people_wrote(study, tmp_path):
    shown = gallery(tmp_path)
    assert shown.show_study(study, StudyFacts("run", 5)) is None
    assert "No policy has a score yet." in get_note(study)
    save_note(study, get_note(study) + "\nI like *blur*.\n")
    trial = study.ask()
    trial.set_user_attr("name", "mine")
    study.tell(trial, 0.5)
    assert shown.show_study(study, StudyFacts("run", 5)) is None
    note = get_note(study)
    assert f"[0](/dashboard/studies/{study._study_id}/trials?numbers=0)" in note
    assert note.endswith("\nI like *blur*.\n")
    assert note.count(KEEP) == 1
    assert "1 of 5 trials complete" in note


def test_versions_rise_so_that_an_edit_in_the_browser_is_refused(study, tmp_path):
    """The dashboard takes an edit only if its version is one above the stored one."""
    shown = gallery(tmp_path)
    attributes = study._storage.get_study_system_attrs
    shown.show_study(study, StudyFacts("run", 5))
    seen = get_note_from_system_attrs(attributes(study._study_id), None)["version"]
    save_note_with_version(study._storage, study._study_id, None, seen + 1, "edited")
    shown.show_study(study, StudyFacts("run", 5))
    assert get_note_from_system_attrs(attributes(study._study_id), None)["version"] == seen + 2


def test_a_trial_is_compared_with_the_naive_ones_before_it_and_not_with_itself(study, tmp_path):
    shown = gallery(tmp_path / "art")
    for name, value in (("none", 0.4), ("crop", 0.6)):
        trial = study.ask()
        trial.set_user_attr("name", name)
        trial.set_user_attr("is_baseline", True)
        shown.show_trial(study, trial, baseline(name), TrialFacts(name, "naive", (value,)))
        study.tell(trial, value)
    assert "0.200 better than `none`" in note_of(study, study.trials[1])
    assert "best naive" not in note_of(study, study.trials[0])


def test_a_finished_trial_is_not_its_own_rival(study, tmp_path):
    for name, value in (("flip", 0.5), ("crop", 0.6)):
        trial = study.ask()
        trial.set_user_attr("name", name)
        trial.set_user_attr("is_baseline", True)
        study.tell(trial, value)
    trial = study.trials[1]
    gallery(tmp_path / "art").show_trial(study, trial, baseline("crop"), TrialFacts("crop", "naive", (0.6,)))
    assert "0.100 better than `flip` (0.500), the best naive strategy so far" in note_of(study, trial)


def test_file_names_do_not_leave_the_note_without_its_picture(study, tmp_path):
    """Every address in the note is one that the dashboard's route takes."""
    trial = study.ask()
    gallery(tmp_path).show_trial(study, trial, baseline("flip"), FACTS, CURVE)
    addresses = re.findall(r"\]\((/artifacts/[^)]*)\)", note_of(study, trial))
    assert len(addresses) == 2
    assert all(re.fullmatch(r"/artifacts/\d+/\d+/[0-9a-fA-F-]+", address) for address in addresses)

"""`detect matrix` when something fails: kills, Ctrl-C, a full disk, two at once. Trainings are faked."""

from __future__ import annotations

import signal
from collections import Counter

import pytest

from detection.store import Store
from tests.detection.matrix_place import ONE_SEED, Place, until


def test_a_failure_does_not_stop_the_others_and_is_told_at_the_end(tmp_path):
    place = Place(tmp_path)
    place.behave("fail-flip", 3)
    shown = place.run(code=1)
    assert place.results() == [("none", 0), ("none", 1)]
    assert "error: 2 failed; the same command tries them again" in shown
    assert "flipped, demo/A172, seed 1 ended with exit code 3" in shown
    assert "the reason, in the last line" in shown
    assert len(place.record.cells) == 2
    (place.fake / "fail-flip").unlink()
    place.run()
    assert len(place.results()) == 4
    assert place.calls["+ none 0"] == 1
    assert place.calls["+ flip 0"] == 2


def test_what_needs_a_failed_base_model_is_not_begun(tmp_path):
    place = Place(tmp_path)
    place.behave("fail-pretrain", 2)
    shown = place.run(code=1)
    assert "none, demo/A172, seed 0 was not begun: base model, demo/A172, seed 0 failed" in shown
    assert "error: 6 failed" in shown
    assert place.calls == Counter({"+ pretrain 0": 1, "+ pretrain 1": 1})


def test_a_killed_run_is_started_again_as_often_as_asked(tmp_path):
    place = Place(tmp_path, ONE_SEED)
    place.behave("kill-none", 2)
    shown = place.run()
    assert place.calls["+ none 0"] == 3
    assert place.calls["- none 0"] == 1
    assert "3 attempts" in shown
    place.behave("kill-flip", 1)
    other = Place(tmp_path / "other", ONE_SEED)
    other.behave("kill-none", 1)
    shown = other.run("--retry", "0", code=1)
    assert "was killed (SIGKILL) 1 times" in shown
    assert other.results() == [("flip", 0)]


def test_killed_in_the_middle_of_a_cell_it_goes_on_and_every_result_is_there_once(tmp_path):
    place = Place(tmp_path)
    place.behave("sleep-flip", 20)
    process = place.begin(start_new_session=True)
    until(lambda: place.calls["+ flip 0"])
    process.kill()
    process.communicate()
    until(lambda: place.calls["i flip 0"])  # the orphan saved its state
    assert place.results() == [("none", 0)]
    place.behave("sleep-flip", 0)
    place.run()
    assert place.results() == [("flip", 0), ("flip", 1), ("none", 0), ("none", 1)]
    assert place.calls["+ none 0"] == 1
    assert place.calls["+ flip 0"] == 2


def test_what_a_killed_matrix_left_running_is_waited_for_and_not_made_again(tmp_path):
    place = Place(tmp_path, ONE_SEED)
    place.behave("sleep-pretrain", 3)
    place.behave("stubborn-pretrain", 1)
    process = place.begin(start_new_session=True)
    until(lambda: place.calls["+ pretrain 0"])
    process.kill()
    process.communicate()
    shown = place.run()
    assert "waiting for 1 tasks of a matrix that was killed" in shown
    assert place.calls["+ pretrain 0"] == 1
    assert place.results() == [("flip", 0), ("none", 0)]


def test_killed_between_the_end_of_a_cell_and_its_merge_it_merges_without_running_it_again(tmp_path):
    place = Place(tmp_path, ONE_SEED)
    place.behave("slow-merge-all", 30)
    process = place.begin(start_new_session=True)
    until(lambda: any(name.startswith("m ") for name in place.calls))
    process.kill()
    process.communicate()
    assert place.results() == []
    (place.fake / "slow-merge-all").unlink()
    shown = place.run("--dry-run")
    assert "2 fine-tunes, 1 to do" in shown
    assert place.results() == []
    place.run()
    assert place.results() == [("flip", 0), ("none", 0)]
    assert place.calls["+ none 0"] == 1
    images = Store(tmp_path / "runs/results.sqlite", create=False).images("demo/A172", "none", 0, "c0")
    assert [(image.image, image.hits.tolist()) for image in images["BT474"]] == [("a.tif", [True] * 2 + [False] * 1998)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_lets_running_cells_save_and_says_how_to_go_on(tmp_path, number):
    place = Place(tmp_path)
    place.behave("sleep-flip", 20)
    process = place.begin()
    until(lambda: place.calls["+ flip 0"])
    process.send_signal(number)
    out, err = process.communicate(timeout=90)
    assert process.returncode == 130, out + err
    assert "This goes on:\ndetect matrix e.toml" in err
    assert "Traceback" not in err
    assert place.calls["i flip 0"] == 1
    assert place.results() == [("none", 0)]
    place.behave("sleep-flip", 0)
    place.run()
    assert len(place.results()) == 4


def test_a_second_matrix_in_the_same_folder_is_refused(tmp_path):
    place = Place(tmp_path)
    place.behave("sleep-none", 20)
    process = place.begin()
    until(lambda: place.calls["+ none 0"])
    shown = place.run(code=2)
    assert "error: another `detect matrix` works in runs/matrix/demo: wait until it is done, or choose" in shown
    process.send_signal(signal.SIGINT)
    process.communicate()


def test_a_full_disk_fails_the_cell_leaves_the_store_and_the_next_start_goes_on(tmp_path):
    place = Place(tmp_path, ONE_SEED)
    place.run("--only", "none")
    place.behave("full-all", 1)
    shown = place.run(code=1)
    assert "error: 1 failed" in shown
    assert "flipped, demo/A172, seed 0 ended, but could not be kept: the disk of runs/results.sqlite is full" in shown
    assert place.results() == [("none", 0)]
    assert len(place.record.cells) == 1
    place.behave("full-all", "")
    place.run()
    assert place.results() == [("flip", 0), ("none", 0)]
    assert place.calls["+ flip 0"] == 1  # merged from its folder


def test_a_record_that_cannot_be_written_is_told_and_results_are_kept(tmp_path):
    place = Place(tmp_path, ONE_SEED)
    place.run("--only", "none")
    record = tmp_path / "runs/matrix/demo/e.json"
    record.unlink()
    record.mkdir()
    shown = place.run(code=1)
    assert "error: runs/matrix/demo/e.json: Is a directory. Make room or give way; the same command goes on" in shown
    record.rmdir()
    place.run()
    assert len(place.record.cells) == 2

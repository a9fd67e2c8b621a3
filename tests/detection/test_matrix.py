"""`detect matrix` from its command: skipping, merging, failures, kills. All trainings but one are faked."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from detection import cli
from detection.matrix_record import load_matrix
from detection.store import Store
from policy_search.augment import load_policy
from policy_search.cells.errors import InputError
from tests.detection.fake_matrix import faked

REPOSITORY = Path(__file__).parents[2]
EXPERIMENT = """
title = "T"
reference = "none"
seeds = [0, 1]
[searches.s]
steps = 12
[[rows]]
label = "none"
policy = "none"
paper = "none"
[[rows]]
label = "flipped"
policy = "flip"
[[rows]]
label = "ours"
policy = "search:s"
[scales.demo]
sources = ["demo/A172"]
pretrain = { iterations = 1 }
"""
# Without the search: its options are looked up in a process of their own, which takes a second.
TWO = EXPERIMENT.replace('[[rows]]\nlabel = "ours"\npolicy = "search:s"\n', "").replace(
    "[searches.s]\nsteps = 12\n", ""
)
ONE_SEED = TWO.replace("[0, 1]", "[0]")


class Place:
    """A folder with an experiment, and the command in it."""

    def __init__(self, folder: Path, text: str = TWO) -> None:
        self.folder = folder
        self.fake = folder / "fake"
        self.fake.mkdir(parents=True)
        self.environment = {
            **os.environ, "FAKE": str(self.fake), "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"
        }  # fmt: skip
        (folder / "e.toml").write_text(text)

    def begin(self, *words: str, module: str = "tests.detection.fake_matrix", **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", module, "matrix", "e.toml", *words], cwd=self.folder, env=self.environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
        )  # fmt: skip

    def run(self, *words: str, code: int = 0) -> str:
        """In this process, what `begin` does in another; gives back what it printed."""
        out, err = StringIO(), StringIO()
        with (
            chdir(self.folder), patch.dict(os.environ, self.environment), faked(), redirect_stdout(out),
            redirect_stderr(err), patch.object(sys, "argv", ["detect", "matrix", "e.toml", *words]),
            pytest.raises(SystemExit) as stop,
        ):  # fmt: skip
            cli.main()
        shown = out.getvalue() + err.getvalue()
        assert int(stop.value.code or 0) == code, shown
        return shown

    def behave(self, name: str, content: object) -> None:
        (self.fake / name).write_text(str(content))

    @property
    def calls(self) -> Counter[str]:
        file = self.fake / "calls"
        return Counter(file.read_text().splitlines() if file.exists() else [])

    def results(self) -> list[tuple[str, int]]:
        """Policy and seed of each row of the main store."""
        return sorted((row.policy, row.seed) for row in Store(self.folder / "runs/results.sqlite", create=False).all())

    @property
    def record(self):
        return load_matrix(self.folder / "runs/matrix/demo/e.json")


def until(true, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


def test_everything_is_made_once_and_recorded(tmp_path):
    place = Place(tmp_path, EXPERIMENT)
    shown = place.run()
    assert "T, scale demo (SYNTHETIC data): 3 rows x 1 source x 2 seeds = 6 fine-tunes" in shown
    assert "10 of 10 done" in shown
    assert "6 of 6 fine-tunes are in runs/results.sqlite" in shown
    made = [name.removeprefix("- ") for name in place.calls if name.startswith("- ")]
    assert len(made) == 10
    assert {"pretrain 0", "pretrain 1", "search 0", "search 1", "none 0", "none 1", "flip 0", "flip 1"} < set(made)
    assert set(place.calls.values()) == {1}
    assert len(place.results()) == 6
    record = place.record
    assert (record.experiment, record.title, record.scale, record.reference) == ("e", "T", "demo", "none")
    assert record.rows == ("none", "flipped", "ours")
    assert record.sources == ("demo/A172",)
    assert record.seeds == (0, 1)
    assert (record.planned, len(record.cells), len(record.stages)) == (6, 6, 4)
    assert (record.synthetic, record.data, record.threads) == (True, "demo", 1)
    assert record.versions == {"torch": "2"}
    assert record.started <= record.finished
    assert record.cpu_seconds is not None
    assert record.cpu_seconds > 0
    assert record.command == "detect matrix e.toml"
    store = Store(tmp_path / "runs/results.sqlite", create=False)
    for cell in record.cells:
        assert len(store.find(cell.source, cell.policy_hash, cell.seed, cell.config_hash)) == 1
        assert cell.place == os.uname().nodename
        assert 0 < cell.seconds < 60
    assert [(cell.label, cell.seed) for cell in record.cells] == [
        (label, seed) for label in ("none", "flipped", "ours") for seed in (0, 1)
    ]
    assert [cell.paper for cell in record.cells] == ["none", "none", None, None, None, None]
    ours = record.cells[-1]
    assert [line.split()[:2] for line in ours.commands] == [
        ["detect", "pretrain"], ["policy-search", "search"], ["detect", "finetune"]
    ]  # fmt: skip
    assert ours.policy == "search:s"
    assert ours.commands[2].split()[3] in store.find(ours.source, ours.policy_hash, 1, "c0")[0].policy
    before = place.calls
    assert "0 to do" in place.run()
    assert place.calls == before
    assert len(place.record.cells) == 6


def test_a_dry_run_writes_nothing_and_tells_what_is_to_do(tmp_path):
    place = Place(tmp_path)
    shown = place.run("--dry-run")
    assert not (tmp_path / "runs").exists()
    assert "2 base models, 2 to do" in shown
    assert "4 fine-tunes, 4 to do" in shown
    assert "time: unknown until the first of them is done" in shown
    lines = [line for line in shown.splitlines() if line.startswith("to do  detect ")]
    assert len(lines) == 6
    place.run("--limit", "1")
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    stamps = [path.stat().st_mtime_ns for path in files]
    shown = place.run("--dry-run", "--only", "none")
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == files
    assert [path.stat().st_mtime_ns for path in files] == stamps
    assert "1 to do" in shown
    assert "time: about" in shown
    assert shown.count("done   detect") == 4  # one base model, its fine-tune, and what --only leaves out
    # A printed command is one that runs.
    place.behave("calls", "")
    line = next(line for line in lines if "--policy flip" in line and "--seed 0" in line).split()[3:]
    fake = [sys.executable, "-m", "tests.detection.fake_matrix", "finetune", *line]
    subprocess.run(fake, cwd=tmp_path, env=place.environment, check=True, capture_output=True)
    assert place.calls["- flip 0"] == 1
    place.run("--only", "flipped", "--limit", "1")
    assert place.calls["+ flip 0"] == 1
    assert ("flip", 0) in place.results()


def test_limit_and_only_take_a_part_and_make_only_what_it_needs(tmp_path):
    place = Place(tmp_path, EXPERIMENT)
    place.run("--limit", "2")
    assert place.results() == [("flip", 0), ("none", 0)]
    assert place.calls["- pretrain 0"] == 1
    assert place.calls["- pretrain 1"] == 0
    assert place.calls["- search 0"] == 0
    place.run("--only", "none")
    assert place.results() == [("flip", 0), ("none", 0), ("none", 1)]
    record = place.record
    assert (record.planned, len(record.cells)) == (6, 3)


def test_another_experiment_takes_over_what_is_the_same(tmp_path):
    place = Place(tmp_path)
    place.run()
    text = TWO.replace('label = "flipped"\npolicy = "flip"', 'label = "crop"\npolicy = "crop"')
    (tmp_path / "e.toml").write_text(text)
    place.run()
    assert place.calls["+ none 0"] == 1
    assert place.calls["+ pretrain 0"] == 1
    assert place.calls["+ crop 1"] == 1
    assert [cell.label for cell in place.record.cells] == ["none", "none", "crop", "crop"]


def test_results_of_another_folder_are_taken_from_the_store_and_have_their_policy_in_the_record(tmp_path):
    place = Place(tmp_path)
    place.run()
    place.run("--work", "elsewhere")
    assert place.calls["+ none 0"] == 1
    assert place.calls["+ pretrain 0"] == 2  # a key needs the base model
    record = load_matrix(tmp_path / "elsewhere/demo/e.json")
    assert len(record.cells) == 4
    assert record.cells[2].seconds == 1.5  # the store's
    policy = load_policy(tmp_path / "elsewhere/demo" / record.cells[2].policy_file)
    assert policy.content_hash == load_policy("flip").content_hash


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
    out, err = process.communicate(timeout=30)
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
    assert "flipped, demo/A172, seed 0 ended, but could not be kept: runs/results.sqlite is full" in shown
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


def test_jobs_run_side_by_side_and_a_record_has_them_in_order(tmp_path):
    place = Place(tmp_path)
    place.behave("sleep-none", 1)
    place.behave("sleep-flip", 1)
    place.run("--jobs", "4")
    order = (place.fake / "calls").read_text().splitlines()
    fine = [line for line in order if "pretrain" not in line]
    assert [line[0] for line in fine[:3]] == ["+", "+", "+"]
    assert [(cell.label, cell.seed) for cell in place.record.cells] == [
        ("none", 0), ("none", 1), ("flipped", 0), ("flipped", 1)
    ]  # fmt: skip


def test_the_root_is_a_variable_in_recorded_commands(tmp_path):
    place = Place(tmp_path, ONE_SEED)
    root = tmp_path / "where it is"
    root.mkdir()
    place.run("--root", str(root))
    record = place.record
    assert all("$LIVECELL_ROOT" in line and "where it is" not in line for c in record.cells for line in c.commands)
    assert all("$LIVECELL_ROOT" in stage.command for stage in record.stages)


def test_a_record_is_read_back_or_refused_with_a_sentence(tmp_path):
    with pytest.raises(InputError, match="no record of a matrix at"):
        load_matrix(tmp_path / "x.json")
    (tmp_path / "x.json").write_text(json.dumps({"experiment": "e"}))
    with pytest.raises(InputError, match=r"is not a record of a matrix: title: Field required"):
        load_matrix(tmp_path / "x.json")


def test_a_real_matrix_of_a_small_network(tmp_path):
    """Nothing faked: base model, fine-tune, key, merge; then a plain `detect finetune` finds the result there."""
    text = ONE_SEED.replace("pretrain = { iterations = 1 }", 'eval = "BT474"\npretrain = { iterations = 1 }')
    place = Place(tmp_path, text + "finetune = { iterations = 1 }\n")
    module = "tests.detection.micro_detect"
    process = place.begin("--only", "flipped", module=module)
    shown, err = process.communicate(timeout=300)
    assert process.returncode == 0, shown + err
    assert "1 of 2 fine-tunes are in" in shown
    (row,) = Store(tmp_path / "runs/results.sqlite", create=False).all()
    assert (row.source, row.policy, row.seed, row.cell_type) == ("demo/A172", "flip", 0, "BT474")
    (cell,) = place.record.cells
    assert (cell.source, cell.policy_hash, cell.seed, cell.config_hash) == row.key
    images = Store(tmp_path / "runs/results.sqlite", create=False).images(*row.key)["BT474"]
    assert len(images) == row.images
    assert sum(image.cells for image in images) == row.cells
    words = cell.commands[1].split()
    words[words.index("--results") + 1] = "runs/results.sqlite"
    again = subprocess.run(
        [sys.executable, "-m", module, *words[1:]], cwd=tmp_path, env=place.environment, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert "already in runs/results.sqlite, skipped" in again.stdout

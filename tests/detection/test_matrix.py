"""`detect matrix` from its command: what is made, skipped and recorded. All trainings but one are faked."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from detection.matrices.record import load_matrix, save_matrix
from detection.store import Store
from policy_search.augment import load_policy
from policy_search.cells.errors import InputError
from tests.detection.matrix_place import EXPERIMENT, ONE_SEED, TWO, Place


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


def test_a_record_counts_from_the_first_start(tmp_path):
    place = Place(tmp_path, ONE_SEED)
    place.run("--limit", "1")
    path = tmp_path / "runs/matrix/demo/e.json"
    save_matrix(place.record.model_copy(update={"started": "2020-01-01T00:00:00+00:00", "cpu_seconds": 5e6}), path)
    place.run()
    assert place.record.started == "2020-01-01T00:00:00+00:00"
    assert place.record.finished > place.record.started
    assert place.record.cpu_seconds > 5e6


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
    """Nothing faked: base model, fine-tune, key, merge."""
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

"""A killed training goes on and ends as if it had never been killed; another's state is refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

pytest.importorskip("detectron2", reason="detectron2 is not installed: make setup")

from detection.checkpoint import hash_state, load_checkpoint, save_checkpoint
from detection.config import FinetuneConfig, PretrainConfig
from detection.dataset import Crops, TrainingSet
from detection.failures import TrainingInterrupted
from detection.finetune import finetune
from detection.model import build_model
from detection.optimizer import optimizer_of
from detection.precision import scaler_of
from detection.resume import Standing, StateFile
from detection.store import Store
from detection.training import fit, seed_regions
from detection.watcher import Watcher
from policy_search.cells.errors import InputError
from tests.conftest import write_livecell
from tests.detection.culture import MICRO, culture


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """A LIVECell folder and a base model."""
    folder = tmp_path_factory.mktemp("world")
    counts = {"A172": {"train": 2, "val": 1, "test": 1}, "BV2": {"train": 0, "val": 0, "test": 1}}
    write_livecell(folder / "livecell", counts, size=(96, 104), cells=10)
    save_checkpoint(folder / "base.pth", build_model(MICRO, 5), MICRO, {"config": {"preset": "tiny"}})
    return folder


# Enough that a signal sent after a few of them always comes before the last.
ITERATIONS = 100


def start(world: Path, out: Path, *more: object) -> subprocess.Popen[str]:
    words = [
        "finetune", "--policy", "flip", "--data", "A172", "--root", world / "livecell", "--weights", world / "base.pth",
        "--out", out, "--results", out.parent / f"{out.name}.sqlite", "--iterations", ITERATIONS, "--save-every", 0,
        *more,
    ]  # fmt: skip
    command = [sys.executable, "-m", "tests.detection.micro_detect", *map(str, words)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def iteration_of(path: Path) -> int:
    try:
        return int(torch.load(path, weights_only=True)["standing"]["iteration"])
    except FileNotFoundError:
        return 0


def stop_after(process: subprocess.Popen[str], state: Path, iterations: int, number: int) -> None:
    deadline = time.monotonic() + 60
    while iteration_of(state) < iterations:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)


def end(process: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    return out, err


def rows(database: Path) -> list[tuple[object, ...]]:
    return [(r.cell_type, r.config_hash, r.ap50, r.ap, r.ar, r.detections) for r in Store(database).all()]


def test_killed_and_interrupted_ends_bit_identical_and_stores_once(world, tmp_path):
    end(start(world, tmp_path / "whole"))
    cut = tmp_path / "cut"
    killed = start(world, cut)
    stop_after(killed, cut / "state.pth", 3, signal.SIGKILL)
    assert killed.wait(90) == -signal.SIGKILL
    assert not (cut / "model.pth").exists()
    assert rows(tmp_path / "cut.sqlite") == []
    done = iteration_of(cut / "state.pth")
    assert 3 <= done < ITERATIONS

    typed = FinetuneConfig.model_validate_json((cut / "config.json").read_text())
    with pytest.raises(InputError, match=r"another training: lr was 0.001 and is 0.01\. .*--force"):
        finetune(typed.model_copy(update={"lr": 0.01}))
    assert iteration_of(cut / "state.pth") == done

    stopped = start(world, cut)
    stop_after(stopped, cut / "state.pth", done + 2, signal.SIGINT)
    out, err = end(stopped, 130)
    assert f"going on after iteration {done}" in out
    assert err.count("\n") == 1, err
    assert "the same command goes on from there" in err
    reached = iteration_of(cut / "state.pth")
    assert done < reached < ITERATIONS
    assert f"interrupted after iteration {reached} of {ITERATIONS}" in err

    end(start(world, cut))
    assert load_checkpoint(cut / "model.pth").content_hash == load_checkpoint(tmp_path / "whole/model.pth").content_hash
    assert not (cut / "state.pth").exists()
    found = rows(tmp_path / "cut.sqlite")
    assert found == rows(tmp_path / "whole.sqlite")
    assert [r[0] for r in found] == ["A172", "BV2"]
    assert finetune(typed).skipped
    assert rows(tmp_path / "cut.sqlite") == found


def setup_of(tmp_path, **identity):
    config = PretrainConfig(data="A172", out=tmp_path, crop=64, iterations=6, save_every=0)
    crops = Crops(TrainingSet(culture(), None, 0, factor=1), 64, 0, 12)
    return config, crops, StateFile(tmp_path, {"seed": 0, **identity}, 0)


def parts(config, kind="adamw"):
    model = build_model(MICRO, 1)
    recipe = config.model_copy(update={"optimizer": kind})
    return recipe, model, optimizer_of(model, recipe), scaler_of("fp32", "cpu")


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_stopped_after_any_iteration_the_end_is_the_same(tmp_path, kind, precision):
    config, crops, _ = setup_of(tmp_path)
    config = config.model_copy(update={"optimizer": kind, "precision": precision, "momentum": 0.9, "lr": 1e-3})

    def train(folder, stops):
        for stop_at in [*stops, None]:
            model = build_model(MICRO, 2)
            now = [0]

            def count(done, *_, now=now):
                now[0] = done

            try:
                fit(model, crops, config, watcher=Watcher(step=count), log_dir=None,
                    state=StateFile(folder, {"a": 1}, 0), stop=lambda now=now, k=stop_at: now[0] + 1 == k)  # fmt: skip
            except TrainingInterrupted:
                assert now[0] == stop_at
        return hash_state(model.state_dict())

    assert train(tmp_path / "whole", []) == train(tmp_path / "cut", [1, 4])


def test_a_finished_state_trains_no_further(tmp_path):
    config, crops, state = setup_of(tmp_path)
    model = build_model(MICRO, 2)
    assert fit(model, crops, config, watcher=Watcher(), log_dir=None, state=state).iteration == 6
    steps: list[int] = []
    again = build_model(MICRO, 3)
    fit(again, crops, config, watcher=Watcher(step=lambda *_: steps.append(1)), log_dir=None, state=state)
    assert not steps
    assert hash_state(again.state_dict()) == hash_state(model.state_dict())


def test_a_state_of_another_training_is_refused_and_says_what_differs(tmp_path):
    config, _, state = setup_of(tmp_path, weights="aa", images="x")
    _, *three = parts(config)
    state.save(*three, Standing(2))
    assert state.check() == 2
    other = StateFile(tmp_path, {"seed": 1, "weights": "aa", "images": "y", "policy": "p"}, 0)
    for act in (other.check, lambda: other.load(*three)):
        with pytest.raises(InputError) as refused:
            act()
        assert 'images was "x" and is "y"; policy was unset and is "p"; seed was 0 and is 1' in str(refused.value)
        assert "weights" not in str(refused.value)
        assert "--force" in str(refused.value)
    other.forget()
    assert state.check() == 2
    state.forget()
    assert state.check() == 0


def test_a_damaged_state_is_one_sentence(tmp_path):
    config, _, state = setup_of(tmp_path)
    _, *three = parts(config)
    state.save(*three, Standing(2))
    whole = state.path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    (tmp_path / "p").mkdir()
    for damaged in (whole[: len(whole) // 2], bytes(flipped), b"", b"<html>"):
        state.path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"is damaged .*--force") as refused:
            state.check()
        assert "\n" not in str(refused.value)
    torch.save({"format": 1}, state.path)
    with pytest.raises(InputError, match="is damaged"):
        state.check()


def test_a_broken_write_keeps_the_old_state(tmp_path, monkeypatch):
    config, _, state = setup_of(tmp_path)
    _, *three = parts(config)
    state.save(*three, Standing(2))

    def broken(content, file):
        file.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(OSError, match="disk full"):
        state.save(*three, Standing(3))
    assert state.check() == 2
    assert [p.name for p in tmp_path.iterdir()] == ["state.pth"]


def test_a_state_is_written_when_it_is_due(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("detection.resume.time.monotonic", lambda: clock[0])
    config, _, _ = setup_of(tmp_path)
    state = StateFile(tmp_path, {}, 60)
    clock[0] = 159.0
    assert not state.due()
    clock[0] = 160.0
    assert state.due()
    _, *three = parts(config)
    state.save(*three, Standing())
    assert not state.due()


def test_regions_differ_by_seed_iteration_and_rank():
    drawn = set()
    for key in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1)):
        with torch.random.fork_rng(devices=[]):
            seed_regions(*key)
            drawn.add(int(torch.randint(2**60, ())))
    assert len(drawn) == 5

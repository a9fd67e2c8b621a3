"""A search in its folder: killed anywhere it ends as if it had not been, and it reads nothing that it must not."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import resource
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from policy_search import search_run, tensorboard
from policy_search.augment import PolicyDocument, load_policy
from policy_search.cells import CellDataset
from policy_search.cells.errors import InputError
from policy_search.config import SearchConfig
from policy_search.relaxed.search import Search, SearchDivergedError, SearchSettings
from policy_search.relaxed.target import TargetSettings
from policy_search.search_data import load_search_data
from policy_search.search_run import SearchEvent, run_search
from policy_search.study.folder import RunFolder
from tests.conftest import ROOT, write_livecell

TINY: dict[str, Any] = {
    "data": "demo/A172", "steps": 12, "sub_policies": 2, "crop": 32, "batch": 4, "max_images": 2, "checkpoint_every": 4,
    "seed": 3,
}  # fmt: skip
STEPS = range(-30, 12)  # the warm-up's are negative


def tiny(out: Path, **changes: Any) -> SearchConfig:
    return SearchConfig(**{**TINY, "out": out, **changes})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody interrupted."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert run_search(tiny(out)).made == len(STEPS)
    return out


@pytest.fixture(autouse=True)
def no_picture(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The picture takes longer than all the rest of a tiny run; the run that nobody interrupted and those in processes
    of their own make it."""

    def write(document: PolicyDocument, dataset: CellDataset, path: Path, *, seed: int) -> None:
        path.write_bytes((whole / "preview.png").read_bytes())

    monkeypatch.setattr(search_run, "save_preview", write)


def steps_in(folder: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (folder / "history.jsonl").read_text().splitlines()]


def assert_same_end(folder: Path, whole: Path) -> None:
    """Policy and history byte for byte, the state tensor for tensor, no litter."""
    for name in ("policy.json", "history.jsonl"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    found, wanted = (torch.load(f / "checkpoint.pt", weights_only=True)["state"] for f in (folder, whole))
    for part in ("policy", "average", "critic", "features"):
        assert all(torch.equal(found[part][name], wanted[part][name]) for name in wanted[part]), part
    assert torch.equal(found["generator"], wanted["generator"])
    assert {p.name for p in folder.iterdir()} == {p.name for p in whole.iterdir()}


# --- kill -9 -------------------------------------------------------------------------------------------------------

WATCHED = ("search_run.py", "search_history.py", "tensorboard.py", "checkpoint.py", "files.py")


@dataclass
class Tracer:
    """Counts the lines that run in the files which write the folder; at line `last` the process kills itself."""

    last: int
    count: int = 0

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        name = frame.f_code.co_filename
        if not (name.endswith(WATCHED) and "policy_search" in name):
            return None
        if event == "line":
            self.count += 1
            if self.count == self.last:
                os.kill(os.getpid(), signal.SIGKILL)
        return self


def traced(out: Path, last: int, pipe: Any) -> None:
    """In a process of its own: the run, killed at the given line; sends the number of lines if it comes to its end."""
    tracer = Tracer(last)
    config = tiny(out, checkpoint_every=2)
    preview = search_run.save_preview

    def untraced(*arguments: Any, **options: Any) -> None:
        sys.settrace(None)  # matplotlib would take ten times as long, and writes nothing but its one file
        preview(*arguments, **options)
        sys.settrace(tracer)

    search_run.save_preview = untraced
    sys.settrace(tracer)
    run_search(config)
    sys.settrace(None)
    pipe.send(tracer.count)


def killed_in_the_write(out: Path, nth: int, pipe: Any) -> None:
    """In a process of its own: the nth checkpoint is written by half, then the process kills itself."""
    write, seen = Path.write_bytes, Counter[str]()

    def half(path: Path, content: Any) -> int:
        seen["calls"] += 1
        if seen["calls"] < nth:
            return write(path, content)
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("killed before")

    Path.write_bytes = half  # type: ignore[method-assign, assignment]
    run_search(tiny(out))


def in_a_process(target: Any, out: Path, number: int) -> tuple[int, int | None]:
    """Exit code (-9: killed) and what was sent. The server of these processes has imported all, and never computed:
    PyTorch does not survive a fork after its first backward pass."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["torch._dynamo", "torch.utils.tensorboard", "policy_search.study.provenance", __name__]
    )
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=target, args=(out, number, send))
    process.start()
    send.close()
    process.join(120)
    code = process.exitcode
    assert code is not None, "hangs"
    return code, receive.recv() if code == 0 else None


def test_killed_at_random_lines_again_and_again_it_ends_the_same(whole: Path, tmp_path: Path) -> None:
    code, lines = in_a_process(traced, tmp_path / "counted", -1)
    assert code == 0
    assert lines is not None
    assert lines > 1000
    assert_same_end(tmp_path / "counted", whole)
    generator = np.random.default_rng(0)
    out, seen = tmp_path / "run", []
    for _ in range(16):
        # A third of the lines makes some progress, so that the kills move along the run.
        code, _ = in_a_process(traced, out, int(generator.integers(1, lines // 3)))
        if code == 0:
            break
        assert code == -signal.SIGKILL
        seen.append(len((out / "history.jsonl").read_bytes().splitlines()) if (out / "history.jsonl").is_file() else 0)
    assert len(seen) >= 6
    assert len(set(seen)) >= 4, "killed at several steps"
    run_search(tiny(out))
    assert_same_end(out, whole)
    assert_scalars(out)


@pytest.mark.parametrize("nth", [1, 4])
def test_killed_in_the_middle_of_writing_the_checkpoint(whole: Path, tmp_path: Path, nth: int) -> None:
    out = tmp_path / "run"
    code, _ = in_a_process(killed_in_the_write, out, nth)
    assert code == -signal.SIGKILL
    (half,) = out.glob(".checkpoint.pt.*")
    assert half.stat().st_size == pytest.approx((whole / "checkpoint.pt").stat().st_size / 2, rel=0.02)
    assert (out / "checkpoint.pt").exists() == (nth > 1)
    assert steps_in(out) == list(STEPS)[: 4 * nth]
    events: list[SearchEvent] = []
    run_search(tiny(out), listener=events.append)
    assert events[1].done == 4 * (nth - 1) + 1, "goes on from the checkpoint before"
    assert_same_end(out, whole)


def test_stopped_after_every_single_step(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint after each step, and each step in a search of its own; pictures are left to the last."""

    class Enough(Exception):
        pass

    def stop(event: SearchEvent) -> None:
        if event.report is not None:
            raise Enough

    monkeypatch.setattr(tensorboard.time, "sleep", lambda seconds: None)  # scalars are not looked at here
    out = tmp_path / "run"
    for number in range(len(STEPS)):
        with pytest.raises(Enough):
            run_search(tiny(out, checkpoint_every=1), listener=stop)
        assert len(steps_in(out)) == number + 1
    assert run_search(tiny(out, checkpoint_every=1)).made == 0
    assert_same_end(out, whole)


# --- scalars, disk, folder -----------------------------------------------------------------------------------------


def assert_scalars(folder: Path) -> None:
    """TensorBoard's own reader finds every step once, with the values of the history."""
    reader = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    reader.Reload()
    rows = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    fields = {
        "critic/loss": "critic_loss", "critic/distance": "distance", "critic/penalty": "penalty",
        "policy/loss": "policy_loss", "policy/spread": "spread", "policy/multiplier": "multiplier",
    }  # fmt: skip
    groups = {f"strength/{name}" for name in rows[-1]["strengths"]}
    assert set(reader.Tags()["scalars"]) == set(fields) | groups
    assert len(groups) == 5
    for tag in reader.Tags()["scalars"]:
        learns = not tag.startswith("critic/")
        wanted = {
            row["step"]: row["strengths"][tag.removeprefix("strength/")] if tag in groups else row[fields[tag]]
            for row in rows
            if row["step"] >= 0 or not learns
        }
        found = [(event.step, event.value) for event in reader.Scalars(tag)]
        assert [step for step, _ in found] == list(wanted), tag
        assert [value for _, value in found] == [float(np.float32(value)) for value in wanted.values()], tag


def test_scalars_are_the_history(whole: Path) -> None:
    assert steps_in(whole) == list(STEPS)
    assert_scalars(whole)


def test_a_tensorboard_that_is_open_sees_every_step_once(tmp_path: Path) -> None:
    """Steps after the last checkpoint were on the screen, are lost with the process and come again."""

    def stop(event: SearchEvent) -> None:
        if event.done == 38:
            raise KeyboardInterrupt

    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run_search(tiny(out), listener=stop)
    reader = EventAccumulator(str(out / "tensorboard"), size_guidance={"scalars": 0})
    reader.Reload()
    assert [event.step for event in reader.Scalars("critic/distance")] == list(STEPS)[:38]
    run_search(tiny(out))
    reader.Reload()
    assert [event.step for event in reader.Scalars("critic/distance")] == list(STEPS)
    assert_scalars(out)


def test_scalars_are_whole_after_the_clock_was_set_back(tmp_path: Path) -> None:
    def stop(event: SearchEvent) -> None:
        if event.done == 10:
            raise KeyboardInterrupt

    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run_search(tiny(out), listener=stop)
    (events,) = (out / "tensorboard").iterdir()
    events.rename(events.with_name(f"events.out.tfevents.{int(time.time()) + 3600}.host.1.0"))
    run_search(tiny(out))
    assert_scalars(out)


def test_without_tensorboard_it_says_so_and_goes_on(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    events: list[SearchEvent] = []
    out = tmp_path / "run"
    run_search(tiny(out), listener=events.append)
    messages = [event.message for event in events if event.message]
    assert sum("pip install tensorboard" in message for message in messages) == 1
    assert not (out / "tensorboard").exists()
    assert (out / "policy.json").read_bytes() == (whole / "policy.json").read_bytes()


@pytest.mark.parametrize("kind", ["too large", "full"])
def test_a_disk_that_takes_no_more_keeps_the_checkpoint_before(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    out = tmp_path / "run"
    before: list[bytes] = []
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fail(path: Path, content: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fill(event: SearchEvent) -> None:
        if event.done == 10:
            before.append((out / "checkpoint.pt").read_bytes())
            if kind == "full":
                monkeypatch.setattr(Path, "write_bytes", fail)
            else:  # the kernel itself writes a part and then refuses
                resource.setrlimit(resource.RLIMIT_FSIZE, (len(before[0]) // 2, limits[1]))

    reason = {"full": "No space left on device", "too large": "File too large"}[kind]
    try:
        with pytest.raises(InputError, match=rf"checkpoint\.pt at step -18: {reason}; the state before is kept"):
            run_search(tiny(out), listener=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        monkeypatch.undo()
    assert (out / "checkpoint.pt").read_bytes() == before[0]
    assert not list(out.glob(".checkpoint*"))
    run_search(tiny(out))
    assert_same_end(out, whole)


def test_a_finished_run_is_left_as_it_is(whole: Path) -> None:
    before = {
        p: p.stat().st_mtime_ns for p in whole.rglob("*") if p.is_file() and p.name not in (".lock", "config.json")
    }
    outcome = run_search(tiny(whole))
    assert (outcome.made, outcome.left) == (0, 0)
    assert outcome.document == load_policy(whole / "policy.json")
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with RunFolder(out).owned(), pytest.raises(InputError, match="another run is working in"):
        run_search(tiny(out))
    assert not (out / "history.jsonl").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": 4}, "seed was 3, now 4"),
        ({"steps": 13}, "steps was 12, now 13"),
        ({"operations": ("scale",)}, r"operations was \[\], now \['scale'\]"),
        ({"data": "demo/BT474"}, "data was 'demo/A172', now 'demo/BT474'"),
        ({"target": ("BT474",)}, r"target was \[\], now \['BT474'\]"),
        ({"max_images": 3}, "max_images was 2, now 3"),
    ],
)
def test_another_search_in_the_folder_is_refused(whole: Path, changes: dict[str, Any], words: str) -> None:
    before = (whole / "config.json").read_bytes()
    with pytest.raises(InputError, match=words):
        run_search(tiny(whole, **changes))
    assert (whole / "config.json").read_bytes() == before


def test_damage_is_refused_with_the_name_of_the_file(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"

    def restore() -> None:
        out.mkdir(exist_ok=True)
        for name in ("config.json", "checkpoint.pt", "history.jsonl"):
            (out / name).write_bytes((whole / name).read_bytes())

    restore()
    (out / "checkpoint.pt").write_bytes((whole / "checkpoint.pt").read_bytes()[:5000])
    with pytest.raises(InputError, match=r"checkpoint\.pt is damaged"):
        run_search(tiny(out))
    restore()
    (out / "config.json").unlink()
    with pytest.raises(InputError, match=r"checkpoint\.pt is of another search \(seed was 3, now 4\)"):
        run_search(tiny(out, seed=4))
    restore()
    (out / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config\.json is damaged"):
        run_search(tiny(out))
    lines = (whole / "history.jsonl").read_text().splitlines(keepends=True)
    for damaged, words in (
        (lines[:20], "should have the steps -30 to 11"),
        (lines[:5] + lines[6:] + lines[:1], "should have the steps -30 to 11"),
        ([*lines[:7], "{\n", *lines[8:]], "damaged at line 8"),
    ):
        restore()
        (out / "history.jsonl").write_text("".join(damaged))
        with pytest.raises(InputError, match=rf"history\.jsonl is .*{words}"):
            run_search(tiny(out))
    restore()
    assert run_search(tiny(out)).made == 0
    assert (out / "policy.json").read_bytes() == (whole / "policy.json").read_bytes()


# --- divergence ----------------------------------------------------------------------------------------------------


def test_a_collapsed_critic_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the collapse falls between two runs: the watch remembers what the history says."""

    def dead(*arguments: Any) -> Search:
        search = Search(*arguments)
        with torch.no_grad():
            for parameter in search.critic.parameters():
                parameter.zero_()
        return search

    def stop(event: SearchEvent) -> None:
        if event.done == 12:
            raise KeyboardInterrupt

    monkeypatch.setattr(search_run, "Search", dead)
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run_search(tiny(out), listener=stop)
    with pytest.raises(SearchDivergedError, match=r"at step -11: the critic has collapsed.*distance = 0, penalty = "):
        run_search(tiny(out))
    assert steps_in(out) == list(range(-30, -10))
    assert not (out / "policy.json").exists()


# --- data ----------------------------------------------------------------------------------------------------------


def test_a_target_gives_images_only_and_never_of_its_test_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: Counter[tuple[str, str, str]] = Counter()
    for method in ("image", "instances"):
        original = getattr(CellDataset, method)

        def spy(self: CellDataset, record: Any, method: str = method, original: Any = original) -> Any:
            looked[method, record.cell_type, record.split] += 1
            return original(self, record)

        monkeypatch.setattr(CellDataset, method, spy)
    outcome = run_search(tiny(tmp_path / "run", target=("BT474", "demo/MCF7"), steps=16))
    targets = {("image", name, split) for name in ("BT474", "MCF7") for split in ("train", "unlabeled")}
    assert set(looked) == targets | {("image", "A172", "train"), ("instances", "A172", "train")}
    assert all(looked[key] == 2 for key in targets)
    assert outcome.document is not None
    extra = outcome.document.provenance.model_dump()
    assert (extra["mode"], extra["targets"], extra["target_images"]) == ("target", ["BT474", "MCF7"], 8)
    assert extra["synthetic"] is True


def test_the_labels_of_a_target_do_not_matter(tmp_path: Path) -> None:
    """Every outline of the target is replaced; the policy file stays the same, byte for byte."""
    root = write_livecell(tmp_path / "cells", {"A172": {"train": 2}, "BV2": {"train": 2, "test": 1}})
    config = {"data": "A172", "root": root, "target": ("BV2",), "steps": 16}
    run_search(tiny(tmp_path / "one", **config))
    labels = root / "annotations" / "LIVECell_single_cells" / "bv2" / "train.json"
    content = json.loads(labels.read_text())
    for annotation in content["annotations"]:
        annotation["segmentation"] = [[1, 1, 60, 1, 60, 60, 1, 60]]
    labels.write_text(json.dumps(content))
    run_search(tiny(tmp_path / "two", **config))
    one, two = (tmp_path / name / "policy.json" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    # Its pixels do.
    victim = next((root / "images").rglob("BV2_Phase_A1_1_00d00h00m_1.tif"))
    with Image.open(victim) as picture:
        pixels = np.asarray(picture).copy()
    pixels[40, 40] ^= 1
    Image.fromarray(pixels).save(victim)
    with pytest.raises(InputError, match="the data has changed"):
        run_search(tiny(tmp_path / "two", **config))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"target": ("A172",)}, "A172 is the source type"),
        ({"target": ("BT474",), "steps": 11}, "target mode learns in stretches and needs at least 12"),
        ({"target": ("BT747",)}, "Did you mean BT474"),
        ({"target": ("cells/x.json",)}, "is synthetic, so its targets must be too"),
        ({"operations": ("scale", "sclae")}, "unknown operation 'sclae', expected names among .*scale"),
        ({"device": "cuda"}, "on the CPU only so far"),
    ],
)
def test_bad_input_leaves_no_folder(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        run_search(tiny(tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


def test_real_cells_are_never_matched_to_synthetic_ones(livecell_root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="demo/BT474 is synthetic and --data A172 is not"):
        run_search(tiny(tmp_path / "run", data="A172", root=livecell_root, target=("demo/BT474",)))
    data = load_search_data(tiny(tmp_path, data="A172", root=livecell_root, target=("SKBR3", "BV2")))
    assert (len(data.pairs), len(data.target), data.target_types) == (2, 2, ("SKBR3", "BV2"))


def test_the_defaults_are_the_engines() -> None:
    fields = SearchConfig.model_fields
    assert fields["steps"].default is None
    for engine in (SearchSettings(), TargetSettings()):
        for name in ("sub_policies", "crop", "batch"):
            assert fields[name].default == getattr(engine, name), name


def test_the_picture_is_a_sheet_of_the_two_images(whole: Path) -> None:
    with Image.open(whole / "preview.png") as picture:
        assert picture.width > picture.height > 400
        assert np.asarray(picture.convert("L")).std() > 20


def test_the_policy_file_says_where_it_comes_from(whole: Path) -> None:
    facts = load_policy(whole / "policy.json").provenance.model_dump(exclude_none=True)
    assert {key: facts[key] for key in ("family", "data", "synthetic", "seed", "mode", "images")} == {
        "family": "searched", "data": "demo/A172", "synthetic": True, "seed": 3, "mode": "source", "images": 2,
    }  # fmt: skip
    assert facts["settings"]["engine"]["steps"] == 12
    assert "created" not in facts
    assert str(ROOT) not in (whole / "policy.json").read_text()
